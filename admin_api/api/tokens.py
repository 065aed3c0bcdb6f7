"""Tokens with which programs of operators and partners call this interface."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from admin_api.fields import BIGINT_MAX, Asked, BodyId, Id, Name
from admin_api.idempotency import IdempotencyKey, Reply, once_in_registry
from admin_api.office import Office, Records
from admin_api.paging import Cursor, Page, Position
from admin_api.problem import PROBLEMS, forbidden, invalid, not_found
from admin_api.security.actor import Actor
from admin_api.security.auditing import audited
from admin_api.security.authentication import InOffice, acting
from admin_api.security.permissions import ROLES, Permission, Role
from admin_api.security.standing import check_standing
from ledger.registry import tokens
from ledger.registry.registry import Row, Transaction

router = APIRouter(prefix="/v1/tokens", tags=["tokens"], responses=PROBLEMS)

_DAY_MS = 86_400_000
_Acting = Annotated[Actor, Depends(acting(Permission.TOKENS_WRITE))]
#: What a token that is bound to a partner can carry at most: what a partner's people may, and what is about itself.
_BOUND_MAX = ROLES[Role.PARTNER] | {Permission.AUDIT_READ, Permission.TOKENS_WRITE}


class TokenAsked(Asked):
    """A token to be made; it can carry no more than whoever makes it may do."""

    name: Name
    permissions: list[Permission] = Field(min_length=1, max_length=len(Permission))
    partner_id: BodyId | None = Field(default=None, description="Bounds the token to what belongs to this partner.")
    days: int = Field(
        ge=1,
        le=36_600,
        description="Until it expires; the installation has a bound. It never outlasts the token it is made with.",
    )


class TokenShown(BaseModel):
    """A token as it can be looked at later."""

    token_id: int
    name: str
    permissions: list[str]
    partner_id: int | None
    created_by: str
    created_ms: int
    expires_ms: int
    revoked_ms: int | None
    used_ms: int | None


class TokenMade(BaseModel):
    """A new token. `token` is shown this once and kept nowhere."""

    token_id: int
    token: str
    expires_ms: int


@router.post("", status_code=201, response_model=TokenMade, summary="Make a token; it is shown once.")
async def post(office: InOffice, actor: _Acting, key: IdempotencyKey, asked: TokenAsked) -> JSONResponse:
    """Make a token for a program."""

    async def work(_request_id: bytes) -> Reply:
        return Reply.of(await make_token(office, actor, asked), 201)

    return await once_in_registry(office, actor, key, asked, work)


@router.get("", summary="List tokens, the newest first.")
async def get_all(office: InOffice, actor: _Acting, position: Cursor) -> Page[TokenShown]:
    """List tokens, those that work no longer among them."""
    return await list_tokens(office, actor, position)


@router.get("/{token_id}", summary="Look at a token.")
async def get(office: InOffice, actor: _Acting, token_id: Id) -> TokenShown:
    """Look at one token."""
    async with office.registry.reading() as transaction:
        return _shown(await _found(transaction, actor, token_id))


@router.delete(
    "/{token_id}",
    status_code=204,
    summary="Revoke a token, and those made with it; from this moment they work no longer.",
)
async def delete(office: InOffice, actor: _Acting, token_id: Id) -> Response:
    """Revoke a token; doing so again changes nothing."""
    await revoke_token(office, actor, token_id)
    return Response(status_code=204)


async def make_token(office: Records, actor: Actor, asked: TokenAsked) -> TokenMade:
    """Make a token. Raises a Problem."""
    actor.check(Permission.TOKENS_WRITE)
    permissions = frozenset(asked.permissions)
    beyond = permissions - actor.permissions
    if beyond:
        raise forbidden(f"nobody can give what he may not do himself: {', '.join(sorted(beyond))}")
    if Permission.OWN_ACCOUNT in permissions:
        raise invalid(f"{Permission.OWN_ACCOUNT} is for member tokens alone")
    if asked.days > office.limits.token_days_max:
        raise invalid(f"days is at most {office.limits.token_days_max}")
    partner_id = asked.partner_id or actor.partner_id
    if partner_id is not None:
        if not actor.sees_partner(partner_id):
            raise not_found(f"partner {partner_id}")
        too_wide = permissions - _BOUND_MAX
        if too_wide:
            raise invalid(f"not for a token that is bound to a partner: {', '.join(sorted(too_wide))}")
    now_ms = office.clock.now_ms()
    expires_ms = now_ms + asked.days * _DAY_MS
    async with office.registry.writing() as transaction:
        ends_ms = await check_standing(office, actor, transaction)
        if ends_ms is not None:
            # What a token made is no way to go on after its end.
            expires_ms = min(expires_ms, ends_ms)
        token_id, token = await tokens.add(
            transaction, name=asked.name, permissions=permissions, partner_id=partner_id,
            created_by=actor.name, person=actor.person, now_ms=now_ms, expires_ms=expires_ms,
        )  # fmt: skip
        await audited(
            office, actor, transaction, "token.make", f"token:{token_id}", partner_id=partner_id,
            detail={"name": asked.name, "permissions": sorted(permissions), "expires_ms": expires_ms},
        )  # fmt: skip
    return TokenMade(token_id=token_id, token=token, expires_ms=expires_ms)


async def list_tokens(office: Office, actor: Actor, position: Position) -> Page[TokenShown]:
    """Return a page of tokens. Raises a Problem."""
    actor.check(Permission.TOKENS_WRITE)
    async with office.registry.reading() as transaction:
        rows = await tokens.listed(
            transaction,
            partner_id=actor.partner_id,
            before=position.number(BIGINT_MAX),
            rows_max=position.rows_max,
        )
    return position.page(rows, _shown, lambda row: (row["token_id"],))


async def revoke_token(office: Records, actor: Actor, token_id: int) -> None:
    """End a token for good, and those that were made with it. Raises a Problem."""
    actor.check(Permission.TOKENS_WRITE)
    async with office.registry.writing() as transaction:
        found = await _found(transaction, actor, token_id)
        if found["revoked_ms"] is None:
            now_ms = office.clock.now_ms()
            await tokens.revoke(transaction, token_id, now_ms)
            # Whoever stole it may have made others with it.
            made = await tokens.revoke_made_by(transaction, f"token:{token_id}", now_ms, keep=())
            await audited(
                office, actor, transaction, "token.revoke", f"token:{token_id}", partner_id=found["partner_id"],
                detail={"tokens": made},
            )  # fmt: skip


async def _found(transaction: Transaction, actor: Actor, token_id: int) -> Row:
    actor.check(Permission.TOKENS_WRITE)
    row = await tokens.by_id(transaction, token_id)
    # A token that is bound to no partner is not the business of somebody who is.
    if row is None or (actor.partner_id is not None and row["partner_id"] != actor.partner_id):
        raise not_found(f"token {token_id}")
    return row


def _shown(row: Row) -> TokenShown:
    return TokenShown(**dict(row))
