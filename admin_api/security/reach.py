"""Whose business members and accounts are: the whole programme's, so nobody's who is bound to one partner."""

from __future__ import annotations

from admin_api.problem import forbidden
from admin_api.security.actor import Actor
from admin_api.security.permissions import Permission


def check_reach(actor: Actor, permission: Permission) -> None:
    """Raise a Problem (403) unless this is permitted to somebody who stands for the programme as a whole."""
    actor.check(permission)
    if actor.partner_id is not None:
        raise forbidden("members, cards and accounts belong to the programme, not to one partner")
    if actor.account is not None:
        raise forbidden("a member's token is for /v1/me")


def check_own(actor: Actor) -> int:
    """Return the account of a member. Raises a Problem (403) for everybody else."""
    actor.check(Permission.OWN_ACCOUNT)
    if actor.account is None:
        raise forbidden("this needs a member's token")
    return actor.account
