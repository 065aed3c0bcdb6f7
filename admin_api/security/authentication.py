"""From a request to an actor: every endpoint names the permission it needs, and gets who is asking."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import APIKeyCookie, HTTPAuthorizationCredentials, HTTPBearer

from admin_api.office import Office
from admin_api.problem import forbidden, unauthenticated
from admin_api.security.actor import Actor
from admin_api.security.permissions import Permission
from admin_api.security.sessions import CSRF_FIELD, CSRF_HEADER, Session, csrf_is_right, secret_in, session_of
from ledger.registry import member_tokens, tokens

_USED_EVERY_MS = 60_000
#: The name in a request's state under which stands that its credentials are somebody's.
KNOWN = "known"
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")

_bearer = HTTPBearer(auto_error=False, description="A token of `POST /v1/tokens` or `POST /v1/member-tokens`.")
_cookie = APIKeyCookie(
    name="__Host-tillwire",
    auto_error=False,
    description=f"A session of `POST /v1/sign-in`; what is no GET also needs the header {CSRF_HEADER}.",
)


def office_of(request: Request) -> Office:
    """Return what the application was made with."""
    office: Office = request.app.state.office
    return office


InOffice = Annotated[Office, Depends(office_of)]


def address_of(request: Request) -> str:
    """Return where a request comes from."""
    return request.client.host if request.client else ""


async def current_session(request: Request, office: InOffice) -> Session | None:
    """Return the session of a request's cookie, if it is in force.

    Raises a Problem (403) when the request would change something and does not come from a page of the session.
    """
    secret = secret_in(office, request)
    session = None if secret is None else await session_of(office, secret)
    if session is not None:
        setattr(request.state, KNOWN, True)
    if session is not None and request.method not in _SAFE_METHODS:
        given = request.headers.get(CSRF_HEADER)
        if given is None and request.headers.get("content-type", "").startswith(_FORMS):
            field = (await request.form()).get(CSRF_FIELD)
            given = field if isinstance(field, str) else None
        if given is None or not csrf_is_right(session, given):
            raise forbidden(f"this needs the session's token in the header {CSRF_HEADER} or the field {CSRF_FIELD}")
    return session


async def actor_of(
    request: Request,
    office: InOffice,
    given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    _documented: Annotated[str | None, Depends(_cookie)],
) -> Actor:
    """Return who is asking: by a token if one is given, else by the session's cookie. Raises a Problem (401, 429)."""
    address = address_of(request)
    actor: Actor | None
    if given is not None:
        actor = await _by_token(office, given.credentials, address)
        if actor is None:
            raise unauthenticated("the token is unknown, expired or revoked")
        setattr(request.state, KNOWN, True)
    else:
        session = await current_session(request, office)
        if session is None:
            raise unauthenticated("sign in, or send a token as `Authorization: Bearer ...`")
        actor = session.actor(address)
    office.guard.count_request(actor.name)
    return actor


async def own_session(
    request: Request, office: InOffice, _documented: Annotated[str | None, Depends(_cookie)]
) -> Session:
    """Return the session of a request that no token can make. Raises a Problem (401, 403, 429)."""
    session = await current_session(request, office)
    if session is None:
        raise unauthenticated("sign in")
    office.guard.count_request(f"user:{session.user_id}")
    return session


InSession = Annotated[Session, Depends(own_session)]


def acting(permission: Permission) -> Callable[..., Awaitable[Actor]]:
    """Return the dependency of an endpoint that needs a permission: `Annotated[Actor, Depends(acting(...))]`."""

    async def permitted(actor: Annotated[Actor, Depends(actor_of)]) -> Actor:
        actor.check(permission)
        return actor

    return permitted


async def _by_token(office: Office, token: str, address: str) -> Actor | None:
    now_ms = office.clock.now_ms()
    if token.startswith(f"{member_tokens.PREFIX}_"):
        async with office.registry.reading() as transaction:
            account = await member_tokens.by_token(transaction, token, now_ms)
        if account is None:
            return None
        own = frozenset({Permission.OWN_ACCOUNT})
        return Actor(f"member:{account}", f"member {account}", own, account=account, address=address)
    async with office.registry.reading() as transaction:
        found = await tokens.by_token(transaction, token, now_ms)
    if found is None:
        return None
    if found["used_ms"] is None or found["used_ms"] < now_ms - _USED_EVERY_MS:
        async with office.registry.writing() as transaction:
            await tokens.touch(transaction, found["token_id"], now_ms, at_most_every_ms=_USED_EVERY_MS)
    known = {permission.value for permission in Permission} - {Permission.OWN_ACCOUNT.value}
    return Actor(
        f"token:{found['token_id']}",
        found["name"],
        frozenset(Permission(name) for name in found["permissions"] if name in known),
        partner_id=found["partner_id"],
        address=address,
        behind=found["person"],
    )
