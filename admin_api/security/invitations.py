"""Links that let somebody in: where they lead, and the very first one."""

from __future__ import annotations

from ledger.registry import audit, users
from ledger.registry.registry import Registry

#: Nobody's address: who comes in by the link of `tillwire up` signs in with it until somebody is invited properly.
NEWCOMER = "owner@localhost"
_PATH = "/invitation/"


class OwnerExists(Exception):  # noqa: N818 - it is a state
    """An owner can sign in already and can invite others; or the e-mail address belongs to somebody who is none."""


def invitation_link(console_url: str, token: str) -> str:
    """Return the address of the page on which an invitation is accepted."""
    return f"{console_url.rstrip('/')}{_PATH}{token}"


async def first_owner_link(
    registry: Registry,
    *,
    email: str,
    name: str,
    console_url: str,
    now_ms: int,
    invitation_s: int,
    another: bool = False,
) -> str:
    """Return a one-time link for the first owner, who is added if not there yet; earlier links work no longer.

    With `another`, also when an owner can sign in: for the day on which that one has lost his password or his phone.
    Raises OwnerExists and JournalDown.
    """
    async with registry.writing() as transaction:
        if not another and await users.owner_can_sign_in(transaction):
            raise OwnerExists("an owner can sign in already and can invite others; --another adds one all the same")
        user = await users.by_email(transaction, email)
        if user is None:
            user_id = await users.add(
                transaction, email=email, name=name, role="owner", partner_id=None, language="en", now_ms=now_ms
            )
        elif user["role"] == "owner" and user["active"]:
            user_id = user["user_id"]
        else:
            raise OwnerExists("this e-mail address belongs to a user who is no owner, or is suspended")
        token = await users.invite(transaction, user_id, now_ms=now_ms, expires_ms=now_ms + invitation_s * 1_000)
        await audit.record(
            transaction, at_ms=now_ms, actor="system", actor_name="command line", address="",
            action="user.invite", subject=f"user:{user_id}", detail={"role": "owner"},
        )  # fmt: skip
    return invitation_link(console_url, token)


async def newcomer_link(registry: Registry, *, console_url: str, now_ms: int, invitation_s: int) -> str | None:
    """Return a one-time link for the owner `NEWCOMER` where nobody else was ever invited and he never came, else None.

    Raises JournalDown.
    """
    async with registry.reading() as transaction:
        known = await users.listed(transaction, partner_id=None, after=0, rows_max=2)
    if any(user["email"] != NEWCOMER or user["accepted"] for user in known):
        return None
    return await first_owner_link(
        registry, email=NEWCOMER, name="Owner", console_url=console_url, now_ms=now_ms, invitation_s=invitation_s
    )
