"""Tokens with which the site or the app of a chain shows one member his own account."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from admin_api.fields import Asked, BigId, BodyBigId
from admin_api.idempotency import IdempotencyKey, Reply, once_in_registry
from admin_api.office import Office
from admin_api.problem import PROBLEMS, conflict, forbidden, invalid, not_found
from admin_api.security.actor import Actor
from admin_api.security.auditing import audited
from admin_api.security.authentication import InOffice, acting
from admin_api.security.permissions import Permission
from admin_api.security.standing import check_standing
from ledger.registry import member_tokens

router = APIRouter(prefix="/v1/member-tokens", tags=["member tokens"], responses=PROBLEMS)

_Acting = Annotated[Actor, Depends(acting(Permission.MEMBER_TOKENS_WRITE))]


class MemberTokenAsked(Asked):
    """A token to be made for a member whom the site or the app has recognised."""

    account_id: BodyBigId
    seconds: int = Field(ge=1, le=31_622_400, description="Until it expires; the installation has a bound.")


class MemberTokenMade(BaseModel):
    """A new token. It is shown this once and kept nowhere."""

    token: str
    account_id: int
    expires_ms: int


@router.post("", status_code=201, response_model=MemberTokenMade, summary="Make a token for one member.")
async def post(office: InOffice, actor: _Acting, key: IdempotencyKey, asked: MemberTokenAsked) -> JSONResponse:
    """Make a token that sees one account: its balance, history and own data, and can block its cards."""

    async def work(_request_id: bytes) -> Reply:
        return Reply.of(await make_member_token(office, actor, asked), 201)

    return await once_in_registry(office, actor, key, asked, work)


@router.delete("/{account_id}", status_code=204, summary="End all tokens of a member.")
async def delete(office: InOffice, actor: _Acting, account_id: BigId) -> Response:
    """End all tokens of an account, as when the member signs out everywhere; doing so again changes nothing."""
    await end_member_tokens(office, actor, account_id)
    return Response(status_code=204)


async def make_member_token(office: Office, actor: Actor, asked: MemberTokenAsked) -> MemberTokenMade:
    """Make a token for a member. Raises a Problem."""
    _check(actor)
    if asked.seconds > office.limits.member_token_s_max:
        raise invalid(f"seconds is at most {office.limits.member_token_s_max}")
    now_ms = office.clock.now_ms()
    expires_ms = now_ms + asked.seconds * 1_000
    async with office.registry.writing() as transaction:
        await check_standing(office, actor, transaction)
        lives = await member_tokens.account_lives(transaction, asked.account_id)
        if lives is None:
            raise not_found(f"account {asked.account_id}")
        if not lives:
            raise conflict("the member was erased, or the account was merged into another one")
        token = await member_tokens.add(
            transaction, account=asked.account_id, created_by=actor.name, now_ms=now_ms, expires_ms=expires_ms
        )
        await audited(
            office, actor, transaction, "member-token.make", f"account:{asked.account_id}", account=asked.account_id,
            detail={"expires_ms": expires_ms},
        )  # fmt: skip
    return MemberTokenMade(token=token, account_id=asked.account_id, expires_ms=expires_ms)


async def end_member_tokens(office: Office, actor: Actor, account_id: int) -> None:
    """End all tokens of an account. Raises a Problem."""
    _check(actor)
    async with office.registry.writing() as transaction:
        if await member_tokens.account_lives(transaction, account_id) is None:
            raise not_found(f"account {account_id}")
        ended = await member_tokens.remove(transaction, account_id)
        await audited(
            office, actor, transaction, "member-token.end", f"account:{account_id}", account=account_id,
            detail={"ended": ended},
        )  # fmt: skip


def _check(actor: Actor) -> None:
    actor.check(Permission.MEMBER_TOKENS_WRITE)
    if actor.partner_id is not None:
        raise forbidden("members belong to no partner")
