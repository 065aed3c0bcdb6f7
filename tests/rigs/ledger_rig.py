"""A whole ledger on real engines for tests, without wire or process around it."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import asyncpg
import msgpack
import redis.asyncio

from ledger.clock import SystemClock
from ledger.hot_store import HotStore, connect
from ledger.journal import migrate
from ledger.journal.enrolment import NewCard, enrol
from ledger.journal.onboarding import Onboarding
from ledger.journal.partitioning import ensure_partitions
from ledger.journal.postgres import Postgres
from ledger.ledger import Engines, Ledger, Place
from ledger.limits import Limits
from ledger.operations import Operation
from ledger.programme import Rules
from ledger.submission import Refusal, Submission
from ledger.verify import Verified, verify
from protocol.scram import Credentials

SEAL_KEY, PERSONAL_KEY = b"s" * 32, b"p" * 32
ISSUED, ACTIVE = 0, 1
RULES = Rules(valid_from_ms=0, earn_rate_bp=500)
#: For tests that break engines: trouble is noticed as soon as in production, and ownership moves sooner.
FAULT_LIMITS = Limits(settle_interval_s=0.2, refresh_interval_s=0.1, acquire_interval_s=0.05, takeover_interval_s=0.3,
                      redis_probe_interval_s=0.05, redis_steady_s=0.1)  # fmt: skip
#: For tests on healthy engines: a disk that stalls under other people's load is no trouble.
LIMITS = replace(FAULT_LIMITS, redis_timeout_s=30.0, postgres_timeout_s=30.0, journal_silence_s=30.0,
                 owner_silence_s=60.0, lease_s=60.0)  # fmt: skip


class Reply(NamedTuple):
    """What came back: an answer's fields, or a refusal."""

    outcome: int | None = None
    points: int = 0
    earned: int = 0
    balance: list[int] | None = None
    detail: Any = None
    replayed: bool = False
    body: bytes = b""
    refusal: Refusal | None = None
    greeting: str | None = None

    @property
    def provisional(self) -> bool:
        return self.detail == "provisional"


class PlainRenderer:
    """Renders all fields and nothing else."""

    def decided(
        self,
        op: int,
        network_id: int,
        outcome: int,
        points: int,
        earned: int,
        balance: Sequence[int] | None,
        detail: int,
        greeting: str | None,
    ) -> bytes:
        return bytes(msgpack.packb([outcome, points, earned, balance, detail, greeting]))

    def provisional(self, outcome: int, balance: Sequence[int]) -> bytes:
        return bytes(msgpack.packb([outcome, 0, 0, balance, "provisional", None]))

    def status(self, state: int, original_body: bytes | None) -> bytes:
        return bytes(msgpack.packb([0, 0, 0, None, [state, original_body], None]))


class Waiter:
    """Takes a reply, and keeps count of them: more than one is a bug that `Rig.verify` tells."""

    def __init__(self) -> None:
        self.reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self.replies: list[Reply] = []

    def answer(self, request_id: bytes, body: bytes, *, replayed: bool) -> None:
        outcome, points, earned, balance, detail, greeting = msgpack.unpackb(body)
        self._take(Reply(outcome, points, earned, balance, detail, replayed, body, None, greeting))

    def refuse(self, request_id: bytes, refusal: Refusal, retry_after_ms: int) -> None:
        self._take(Reply(refusal=refusal))

    def _take(self, reply: Reply) -> None:
        self.replies.append(reply)
        if not self.reply.done():
            self.reply.set_result(reply)


class Clock(SystemClock):
    """A clock whose time of day a test moves."""

    def __init__(self) -> None:
        self.ms = super().now_ms()

    def now_ms(self) -> int:
        return self.ms


def token_of(card: int) -> bytes:
    return hashlib.blake2b(str(card).encode(), digest_size=16).digest()


class Rig:
    """One installation: database, hot store, and ledgers (workers) on them; cards are plain numbers."""

    def __init__(self, postgres_url: str, redis_url: str, limits: Limits = LIMITS) -> None:
        self.postgres_url = postgres_url
        self.limits = limits
        self.redis_url = redis_url
        self.network_id = 0
        self.partner_id = 0
        self.terminal_id = 0
        self._waiters: list[Waiter] = []

    async def prepare(self, cards: int, *, issued: int = 0, partitions: int = 1) -> None:
        """Migrate and create a partner, a network, a terminal, and an account for each card from 0 on.

        The first `cards` cards are active, the `issued` ones behind them wait to be activated or to replace a card.
        """
        await migrate.run(self.postgres_url)
        await ensure_partitions(Postgres(self.postgres_url), partitions)
        async with self.database() as connection:
            onboarding = Onboarding(connection)
            self.partner_id = await onboarding.partner("Partner")
            self.network_id = await onboarding.network(self.partner_id, "Network", "EUR")
            await onboarding.rules(self.network_id, RULES)
            store_id = await onboarding.store(self.network_id, "Store")
            credentials = Credentials(b"salt", 4096, b"stored", b"server")
            self.terminal_id = await onboarding.terminal(store_id, "till-1", [Operation.REDEEM], credentials)
            await enrol(
                connection,
                [NewCard(token_of(card), 1, f"…{card}", ACTIVE if card < cards else ISSUED)
                 for card in range(cards + issued)],
            )  # fmt: skip

    @asynccontextmanager
    async def database(self) -> AsyncIterator[asyncpg.Connection[Any]]:
        connection = await asyncpg.connect(self.postgres_url)
        try:
            yield connection
        finally:
            await connection.close()

    @asynccontextmanager
    async def redis(self) -> AsyncIterator[Any]:
        async with redis.asyncio.Redis.from_url(self.redis_url) as client:
            yield client

    @asynccontextmanager
    async def ledger(
        self,
        limits: Limits | None = None,
        place: Place | None = None,
        *,
        redis_url: str | None = None,
        **options: Any,
    ) -> AsyncIterator[Ledger]:
        """Run a worker's ledger until it serves; stop it at the end. `redis_url` leads it to another Redis."""
        limits = limits or self.limits
        redis = connect(redis_url or self.redis_url, timeout_s=limits.redis_timeout_s)
        engines = Engines(Postgres(self.postgres_url), redis, SEAL_KEY, PERSONAL_KEY)
        options.setdefault("forward", lambda _address, _submission: False)
        options.setdefault("clock", SystemClock())
        ledger = Ledger(engines, place or Place("worker-0"), limits, PlainRenderer(), **options)
        await ledger.start()
        try:
            await self.until_serving(ledger)
            yield ledger
        finally:
            await ledger.stop(2.0)

    async def until_serving(self, ledger: Ledger) -> None:
        async with asyncio.timeout(30):
            while not ledger.health()["ready"]:
                await asyncio.sleep(0.01)

    async def until_on(self, ledger: Ledger, *, standby: bool) -> None:
        """Wait until every partition by plan is served, and decided in Redis, or in the worker's memory."""
        async with asyncio.timeout(30):
            while any(p.by_plan and not (p.serving and p.standby is standby) for p in ledger._partitions):
                await asyncio.sleep(0.01)

    def submission(self, op: Operation, card: int, **fields: Any) -> Submission:
        """Return a submission of terminal 1; fields as in Submission, `ttl_s` for the deadline."""
        ttl_s = fields.pop("ttl_s", 60.0)
        fields.setdefault("request_id", os.urandom(16))
        content = repr((int(op), card, sorted((k, v) for k, v in fields.items() if k not in ("request_id", "sale_ms"))))
        fields.setdefault("fingerprint", hashlib.blake2b(content.encode(), digest_size=8).digest())
        fields.setdefault("terms", RULES.terms)
        return Submission(
            op=op,
            token=token_of(card),
            terminal_id=fields.pop("terminal_id", self.terminal_id),
            partner_id=fields.pop("partner_id", self.partner_id),
            network_id=self.network_id,
            deadline=time.monotonic() + ttl_s,
            reply_to=Waiter(),
            **fields,
        )

    def send(self, ledger: Ledger, submission: Submission) -> Waiter:
        """Submit; the same submission may be sent again, as a retry."""
        waiter = Waiter()
        self._waiters.append(waiter)
        ledger.submit(replace(submission, reply_to=waiter, account=0, attempts=0, resolved_afresh=False))
        return waiter

    async def ask(self, ledger: Ledger, submission: Submission) -> Reply:
        """Submit and wait for the reply; the same submission may be asked again, as a retry."""
        fresh = replace(submission, deadline=max(submission.deadline, time.monotonic() + 5))
        return await asyncio.wait_for(self.send(ledger, fresh).reply, 30)

    async def insist(self, ledger: Ledger, submission: Submission) -> Reply:
        """Ask like a good register: again with the same id while the answer is UNAVAILABLE, EXPIRED or BUSY."""
        async with asyncio.timeout(60):
            while True:
                reply = await self.ask(ledger, submission)
                if reply.refusal in (None, Refusal.ID_REUSED):
                    return reply
                await asyncio.sleep(0.02)

    async def do(self, ledger: Ledger, op: Operation, card: int, **fields: Any) -> Reply:
        """Make a submission and ask."""
        return await self.ask(ledger, self.submission(op, card, **fields))

    async def give(self, ledger: Ledger, card: int, points: int) -> Submission:
        """Let a card earn exactly so many minor points."""
        submission = self.submission(Operation.EARN, card, amount=points * 20)
        reply = await self.ask(ledger, submission)
        assert (reply.outcome, reply.earned) == (0, points)
        return submission

    async def available(self, ledger: Ledger, card: int) -> int:
        """Return the points that the card may spend now."""
        reply = await self.insist(ledger, self.submission(Operation.BALANCE, card))
        assert reply.balance is not None
        return reply.balance[0]

    async def journal(self, card: int) -> list[asyncpg.Record]:
        """Return the entries of the account that the card leads to."""
        async with self.database() as connection:
            return list(
                await connection.fetch(
                    "SELECT e.* FROM entry e JOIN card c USING (account_id) WHERE c.token = $1 ORDER BY seq",
                    token_of(card),
                )
            )

    async def until_journaled(self, card: int, op: Operation) -> asyncpg.Record:
        """Wait for an entry that nobody asks for."""
        async with asyncio.timeout(30):
            while True:
                for entry in await self.journal(card):
                    if entry["op"] == op:
                        return entry
                await asyncio.sleep(0.05)

    async def verify(self) -> Verified:
        """Prove the books, and that nobody was answered twice."""
        assert not [waiter.replies for waiter in self._waiters if len(waiter.replies) > 1]
        hot_store = HotStore.at(self.redis_url, timeout_s=2.0)
        try:
            return await verify(self.postgres_url, hot_store, SEAL_KEY, lambda _done, _total: None)
        finally:
            await hot_store.close()
