"""People of the console, for tests: invited, with a password and an authenticator, at a browser."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx

from admin_api.api.users import UserAsked, invite_user
from admin_api.office import Office
from admin_api.security.actor import Actor
from admin_api.security.codes import STEP_S, code_at
from admin_api.security.permissions import Role
from ledger.registry import member_tokens, sessions
from tests.rigs.office_rig import EVERYTHING, OfficeRig

PASSWORD = "a long enough phrase"
SYSTEM = Actor("system", "test", EVERYTHING)


@dataclass
class Person:
    user_id: int
    email: str
    token: str
    secret: bytes
    last_step: int = 0

    def code(self, office: Office) -> str:
        """Return a code that was not used yet: the present one, then the next, so a slow test is in time."""
        self.last_step = max(self.last_step + 1, office.clock.now_ms() // 1_000 // STEP_S)
        return code_at(self.secret, self.last_step).decode()

    def proofs(self, office: Office) -> dict[str, str]:
        return {"email": self.email, "password": PASSWORD, "code": self.code(office)}


async def invited(
    office: Office, role: Role = Role.OWNER, *, email: str = "anna@example.com", partner_id: int | None = None
) -> Person:
    if role is Role.PARTNER and partner_id is None:
        partner_id = 1
    asked = UserAsked(email=email, name=f"The {role}", role=role, partner_id=partner_id)
    made = await invite_user(office, SYSTEM, asked)
    token = made.link.rpartition("/")[2]
    return Person(made.user_id, email, token, office.guard.codes.secret_of(token))


async def accepted(rig: OfficeRig, person: Person, client: httpx.AsyncClient) -> httpx.Response:
    """Accept by the endpoint; the client is then signed in."""
    answer = await client.post(
        f"/v1/invitations/{person.token}", json={"password": PASSWORD, "code": person.code(rig.office)}
    )
    assert answer.status_code == 200, answer.text
    client.headers["x-csrf-token"] = answer.json()["csrf"]
    return answer


@asynccontextmanager
async def signed_in(
    rig: OfficeRig, role: Role = Role.OWNER, *, email: str = "anna@example.com", partner_id: int | None = None
) -> AsyncIterator[tuple[Person, httpx.AsyncClient]]:
    person = await invited(rig.office, role, email=email, partner_id=partner_id)
    async with rig.anonymous() as client:
        await accepted(rig, person, client)
        yield person, client


async def session_cookie(rig: OfficeRig, user_id: int) -> str:
    """Begin a session without proofs, where a test is not about them."""
    now_ms = rig.clock.now_ms()
    async with rig.registry.writing() as transaction:
        return await sessions.add(
            transaction, user_id, now_ms=now_ms, idle_s=1_800, expires_ms=now_ms + 3_600_000, address="", agent=""
        )


async def member_token(rig: OfficeRig) -> str:
    """Return a token of the member to whom the first card belongs."""
    now_ms = rig.clock.now_ms()
    async with rig.registry.writing() as transaction:
        return await member_tokens.add(
            transaction, account=rig.cards[0].account, created_by="system", now_ms=now_ms,
            expires_ms=now_ms + 3_600_000,
        )  # fmt: skip
