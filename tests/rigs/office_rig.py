"""The operators' HTTP application on a whole ledger and real engines, called without a socket in between."""

from __future__ import annotations

import asyncio
import secrets as random
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import httpx

from admin_api.app import create_app
from admin_api.cards.card_numbers import ean13_numbers, new_card
from admin_api.office import Keys, Office, OfficeLimits
from admin_api.security.permissions import Permission
from ledger.clock import SystemClock
from ledger.hot_store import connect
from ledger.journal import migrate
from ledger.journal.enrolment import Enrolled
from ledger.journal.onboarding import onboarding
from ledger.journal.partitioning import ensure_partitions
from ledger.journal.postgres import Postgres
from ledger.ledger import Engines, Ledger, Place
from ledger.operator_desk import OperatorDesk
from ledger.programme import Rules
from ledger.registry import tokens
from ledger.registry.registry import Registry
from ledger.verify import Verified, verify
from protocol.codes import CardKind
from server.programme_setup import add_terminal
from server.registers.answers import AnswerRenderer
from tests.rigs.ledger_rig import LIMITS, PERSONAL_KEY, SEAL_KEY, HotStore

TOKEN_KEY = b"t" * 32
RELAY_MASTER = b"r" * 32
EVERYTHING = frozenset(Permission) - {Permission.OWN_ACCOUNT}
CONSOLE_URL = "https://office.test"
REGISTERS_AT = "tills.office.test:7411"
FIRST_CARD = "200000000001"


class Installation:
    """Stands where the supervisor's side is in production."""

    def __init__(self) -> None:
        self.drained = False

    async def health(self) -> dict[str, Any]:
        return {"live": True, "ready": not self.drained, "state": "serving", "down": [], "workers": []}

    def metrics(self) -> bytes:
        return b""

    def drain(self) -> None:
        self.drained = True

    async def events(self) -> AsyncGenerator[dict[str, Any]]:
        yield await self.health()


class NoProofs:
    def start(self) -> str:
        return "none"

    def state(self) -> dict[str, Any]:
        return {"id": "none", "state": "none", "done": 0, "total": 0, "findings": {}}


class OfficeRig:
    """Partner 1 "Harvest Foods" with network 1 (EUR, 5 %), store 1 with terminal "till-1"; five active EAN-13 cards."""

    def __init__(self, postgres_url: str, redis_url: str) -> None:
        self.postgres_url, self.redis_url = postgres_url, redis_url
        self.limits = OfficeLimits()
        self.clock = SystemClock()
        self.console_url = CONSOLE_URL
        self.numbers = ean13_numbers(FIRST_CARD, 5)
        self.cards: list[Enrolled] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[OfficeRig]:
        """Prepare the programme, run a ledger and make the application."""
        await migrate.run(self.postgres_url)
        await ensure_partitions(Postgres(self.postgres_url), 1)
        async with onboarding(self.postgres_url) as to:
            partner_id = await to.partner("Harvest Foods")
            network_id = await to.network(partner_id, "Harvest Market", "EUR")
            await to.rules(network_id, Rules(valid_from_ms=0, earn_rate_bp=500))
            self.secret = await add_terminal(to, await to.store(network_id, "Mill Street"), "till-1", range(16, 35))
            self.cards = await to.cards([new_card(CardKind.EAN13, n, TOKEN_KEY, active=True) for n in self.numbers])
        redis = connect(self.redis_url, timeout_s=LIMITS.redis_timeout_s)
        postgres = Postgres(self.postgres_url)
        renderer = AnswerRenderer(lambda: self.ledger.programme, self.clock.now_ms)
        self.ledger = Ledger(
            Engines(postgres, redis, SEAL_KEY, PERSONAL_KEY),
            Place("worker-0"), LIMITS, renderer, lambda _address, _submission: False, self.clock,
        )  # fmt: skip
        self.registry = Registry(postgres, connections_max=4, timeout_s=30.0)
        self.installation = Installation()
        self.office = Office(
            self.registry,
            OperatorDesk(self.ledger, self.clock, patience_s=30.0),
            Keys(TOKEN_KEY, PERSONAL_KEY, RELAY_MASTER),
            self.limits,
            self.clock,
            self.installation,
            NoProofs(),
            self.console_url,
            REGISTERS_AT,
        )
        self.app = create_app(self.office)
        await self.ledger.start()
        async with asyncio.timeout(30):
            while not self.ledger.health()["ready"]:
                await asyncio.sleep(0.01)
        try:
            yield self
        finally:
            await self.ledger.stop(2.0)
            await self.registry.close()

    @asynccontextmanager
    async def client(self, *permissions: Permission, partner_id: int | None = None) -> AsyncIterator[httpx.AsyncClient]:
        """Call as a program with these permissions; without any, with all."""
        token = await self.token(permissions or EVERYTHING, partner_id=partner_id)
        async with self.anonymous() as client:
            client.headers["authorization"] = f"Bearer {token}"
            yield client

    @asynccontextmanager
    async def anonymous(self) -> AsyncIterator[httpx.AsyncClient]:
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url=CONSOLE_URL) as client:
            yield client

    async def token(self, permissions: Iterable[Permission], *, partner_id: int | None = None) -> str:
        """Return a token that somebody made who has made no other one."""
        now_ms = self.clock.now_ms()
        async with self.registry.writing() as transaction:
            _, token = await tokens.add(
                transaction, name="test", permissions=[str(p) for p in permissions], partner_id=partner_id,
                created_by="system", person=f"person {random.token_hex(4)}", now_ms=now_ms,
                expires_ms=now_ms + 3_600_000,
            )  # fmt: skip
        return token

    @staticmethod
    def key() -> dict[str, str]:
        """Return the header that every POST needs."""
        return {"idempotency-key": random.token_hex(16)}

    async def verify(self) -> Verified:
        """Prove the books."""
        hot_store = HotStore.at(self.redis_url, timeout_s=2.0)
        try:
            return await verify(self.postgres_url, hot_store, SEAL_KEY, lambda _done, _total: None)
        finally:
            await hot_store.close()
