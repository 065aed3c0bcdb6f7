"""From a request to an actor: every endpoint names the permission it needs, and gets who is asking."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from admin_api.office import Office
from admin_api.problem import unauthenticated
from admin_api.security.actor import Actor
from admin_api.security.permissions import Permission
from ledger.registry import tokens

_bearer = HTTPBearer(auto_error=False, description="A token of `POST /v1/tokens`.")


def office_of(request: Request) -> Office:
    """Return what the application was made with."""
    office: Office = request.app.state.office
    return office


InOffice = Annotated[Office, Depends(office_of)]


async def actor_of(
    request: Request, office: InOffice, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Actor:
    """Return who is asking. Raises a Problem (401)."""
    address = request.client.host if request.client else ""
    if given is None:
        raise unauthenticated("send a token as `Authorization: Bearer ...`")
    async with office.registry.reading() as transaction:
        found = await tokens.by_token(transaction, given.credentials, office.clock.now_ms())
    if found is None:
        raise unauthenticated("the token is unknown, expired or revoked")
    known = {permission.value for permission in Permission}
    return Actor(
        f"token:{found['token_id']}",
        found["name"],
        frozenset(Permission(name) for name in found["permissions"] if name in known),
        partner_id=found["partner_id"],
        address=address,
    )


def acting(permission: Permission) -> Callable[..., Awaitable[Actor]]:
    """Return the dependency of an endpoint that needs a permission: `Annotated[Actor, Depends(acting(...))]`."""

    async def permitted(actor: Annotated[Actor, Depends(actor_of)]) -> Actor:
        actor.check(permission)
        return actor

    return permitted
