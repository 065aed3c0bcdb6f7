"""Whoever hands out what outlasts his request must still be somebody at the moment when it is written down.

Who asks is found out at the beginning of a request. Between that and the end of its transaction he may be suspended,
demoted or revoked, with everything that he has made; what he makes just then must not be left behind.
"""

from __future__ import annotations

from admin_api.office import Records
from admin_api.problem import unauthenticated
from admin_api.security.actor import Actor
from admin_api.security.permissions import ROLES, Role
from ledger.registry import tokens, users
from ledger.registry.registry import Transaction


async def check_standing(office: Records, actor: Actor, transaction: Transaction) -> int | None:
    """Return when the actor's own access ends, if it does; until the transaction ends nobody takes it from him.

    Raises a Problem (401) when it was taken meanwhile.
    """
    kind, _, number = actor.name.partition(":")
    if kind == "token":
        expires_ms = await tokens.standing(transaction, int(number), office.clock.now_ms())
        if expires_ms is None:
            raise unauthenticated("the token has expired or was revoked")
        return expires_ms
    if kind == "user":
        row = await users.standing(transaction, int(number))
        if row is None or row["partner_id"] != actor.partner_id or not actor.permissions <= ROLES[Role(row["role"])]:
            raise unauthenticated("your access was changed: sign in again")
    return None
