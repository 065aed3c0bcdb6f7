"""People who use the console: invited by a link, with a role, suspended when they leave."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from admin_api.fields import Asked, BodyId, Email, Id, Name
from admin_api.idempotency import IdempotencyKey, Reply, once_in_registry
from admin_api.office import Office
from admin_api.paging import Cursor, Page, Position
from admin_api.problem import PROBLEMS, conflict, forbidden, invalid, not_found
from admin_api.security.actor import Actor
from admin_api.security.auditing import audited
from admin_api.security.authentication import InOffice, acting
from admin_api.security.invitations import invitation_link
from admin_api.security.permissions import ROLES, Permission, Role
from admin_api.security.standing import check_standing
from ledger.registry import sessions, tokens, users
from ledger.registry.registry import Row, Transaction

router = APIRouter(prefix="/v1/users", tags=["users"], responses=PROBLEMS)

_Reading = Annotated[Actor, Depends(acting(Permission.USERS_READ))]
_Writing = Annotated[Actor, Depends(acting(Permission.USERS_WRITE))]
Language = Literal["en", "ru"]


class UserAsked(Asked):
    """Somebody to be invited. Those of a partner, and they alone, name it."""

    email: Email
    name: Name
    role: Role
    partner_id: BodyId | None = None
    language: Language = "en"


class UserChange(Asked):
    """What is to be different; what is absent stays. A role comes with its partner, if it has one."""

    name: Name | None = None
    role: Role | None = None
    partner_id: BodyId | None = None
    language: Language | None = None
    active: bool | None = None


class UserShown(BaseModel):
    """A user. `accepted` tells whether the invitation was used, so that signing in is possible."""

    user_id: int
    email: str
    name: str
    role: Role
    partner_id: int | None
    language: str
    accepted: bool
    active: bool
    locked_until_ms: int
    created_ms: int


class Invited(BaseModel):
    """A link by which a user chooses a password; it is shown this once, works once, and replaces earlier ones."""

    user_id: int
    link: str
    expires_ms: int


@router.post("", status_code=201, response_model=Invited, summary="Invite somebody; the link is shown once.")
async def post(office: InOffice, actor: _Writing, key: IdempotencyKey, asked: UserAsked) -> JSONResponse:
    """Invite somebody."""

    async def work(_request_id: bytes) -> Reply:
        return Reply.of(await invite_user(office, actor, asked), 201)

    return await once_in_registry(office, actor, key, asked, work)


@router.get("", summary="List users.")
async def get_all(office: InOffice, actor: _Reading, position: Cursor) -> Page[UserShown]:
    """List users, suspended ones among them."""
    return await list_users(office, actor, position)


@router.get("/{user_id}", summary="Look at a user.")
async def get(office: InOffice, actor: _Reading, user_id: Id) -> UserShown:
    """Look at one user."""
    return await look_at_user(office, actor, user_id)


@router.patch("/{user_id}", summary="Change name, role, language; suspend, or let in again.")
async def patch(office: InOffice, actor: _Writing, user_id: Id, asked: UserChange) -> UserShown:
    """Change a user. A suspended one is out at once, with all sessions and with the tokens that he made."""
    return await change_user(office, actor, user_id, asked)


@router.post("/{user_id}/link", status_code=201, response_model=Invited, summary="A new link, to reset the password.")
async def post_link(office: InOffice, actor: _Writing, key: IdempotencyKey, user_id: Id) -> JSONResponse:
    """Make a new link. The old password works until the link is used; suspend the user when it must not."""

    async def work(_request_id: bytes) -> Reply:
        return Reply.of(await new_link(office, actor, user_id), 201)

    return await once_in_registry(office, actor, key, {"user_id": user_id}, work)


async def invite_user(office: Office, actor: Actor, asked: UserAsked) -> Invited:
    """Add a user who can sign in once the link was used. Raises a Problem."""
    actor.check(Permission.USERS_WRITE)
    _check_role(actor, asked.role, asked.partner_id)
    now_ms = office.clock.now_ms()
    async with office.registry.writing() as transaction:
        await check_standing(office, actor, transaction)
        if await users.by_email(transaction, asked.email) is not None:
            raise conflict("there is a user with this e-mail address already")
        user_id = await users.add(
            transaction, email=asked.email, name=asked.name, role=asked.role, partner_id=asked.partner_id,
            language=asked.language, now_ms=now_ms,
        )  # fmt: skip
        await audited(
            office, actor, transaction, "user.invite", f"user:{user_id}", partner_id=asked.partner_id,
            detail={"role": asked.role},
        )  # fmt: skip
        return await _invited(office, transaction, user_id)


async def list_users(office: Office, actor: Actor, position: Position) -> Page[UserShown]:
    """Return a page of users. Raises a Problem."""
    actor.check(Permission.USERS_READ)
    async with office.registry.reading() as transaction:
        rows = await users.listed(
            transaction, partner_id=actor.partner_id, after=position.number(0), rows_max=position.rows_max
        )
    return position.page(rows, lambda row: UserShown(**dict(row)), lambda row: (row["user_id"],))


async def look_at_user(office: Office, actor: Actor, user_id: int) -> UserShown:
    """Return a user. Raises a Problem."""
    actor.check(Permission.USERS_READ)
    async with office.registry.reading() as transaction:
        return _shown(await _found(transaction, actor, user_id))


async def change_user(office: Office, actor: Actor, user_id: int, asked: UserChange) -> UserShown:
    """Change a user; what he may no longer do ends at once. Raises a Problem."""
    actor.check(Permission.USERS_WRITE)
    async with office.registry.writing() as transaction:
        # First the owners, always in the same order, so that two owners cannot suspend each other at the same time.
        owners = await users.owners_able(transaction)
        await check_standing(office, actor, transaction)
        row = await _found(transaction, actor, user_id, to_change=True)
        role = asked.role or Role(row["role"])
        partner_id = asked.partner_id or (row["partner_id"] if asked.role in {None, Role.PARTNER} else None)
        active = row["active"] if asked.active is None else asked.active
        _check_role(actor, Role(row["role"]), row["partner_id"])
        _check_role(actor, role, partner_id)
        if owners == [user_id] and (role is not Role.OWNER or not active):
            raise conflict("this is the last owner who can sign in")
        await users.change(
            transaction, user_id, name=asked.name or row["name"], role=role, partner_id=partner_id,
            language=asked.language or row["language"], active=active,
        )  # fmt: skip
        detail = {"role": role, "active": active, "changed": sorted(asked.model_fields_set)}
        if not active:
            await users.void_invitations(transaction, user_id)
            detail["sessions"] = await sessions.end_all(transaction, user_id)
        keep = ROLES[role] if active and partner_id == row["partner_id"] else ()
        now_ms = office.clock.now_ms()
        detail["tokens"] = await tokens.revoke_made_by(transaction, f"user:{user_id}", now_ms, keep=keep)
        await audited(
            office, actor, transaction, "user.change", f"user:{user_id}", partner_id=partner_id, detail=detail
        )
        return _shown(await _found(transaction, actor, user_id))


async def new_link(office: Office, actor: Actor, user_id: int) -> Invited:
    """Make a link by which a user chooses a password and an authenticator anew. Raises a Problem."""
    actor.check(Permission.USERS_WRITE)
    async with office.registry.writing() as transaction:
        await check_standing(office, actor, transaction)
        row = await _found(transaction, actor, user_id, to_change=True)
        _check_role(actor, Role(row["role"]), row["partner_id"])
        if not row["active"]:
            raise conflict("this user is suspended; let him in again first")
        await audited(office, actor, transaction, "user.link", f"user:{user_id}", partner_id=row["partner_id"])
        return await _invited(office, transaction, user_id)


async def _invited(office: Office, transaction: Transaction, user_id: int) -> Invited:
    now_ms = office.clock.now_ms()
    expires_ms = now_ms + office.limits.invitation_s * 1_000
    token = await users.invite(transaction, user_id, now_ms=now_ms, expires_ms=expires_ms)
    return Invited(user_id=user_id, link=invitation_link(office.console_url, token), expires_ms=expires_ms)


async def _found(transaction: Transaction, actor: Actor, user_id: int, *, to_change: bool = False) -> Row:
    row = await users.by_id(transaction, user_id, to_change=to_change)
    if row is None or (actor.partner_id is not None and row["partner_id"] != actor.partner_id):
        raise not_found(f"user {user_id}")
    return row


def _check_role(actor: Actor, role: Role, partner_id: int | None) -> None:
    """Refuse a role that goes with no partner, or with one, or that may do what the actor may not."""
    if (role is Role.PARTNER) != (partner_id is not None):
        raise invalid("a partner's people have a partner_id, and nobody else has")
    if actor.partner_id is not None and partner_id != actor.partner_id:
        raise forbidden("only for people of the same partner")
    if not ROLES[role] <= actor.permissions:
        raise forbidden(f"nobody can give what he may not do himself: {role} may do more")


def _shown(row: Row) -> UserShown:
    fields = {name: value for name, value in dict(row).items() if name in UserShown.model_fields}
    return UserShown(accepted=row["password_hash"] is not None, **fields)
