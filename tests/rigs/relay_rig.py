"""Headquarters with a bridge, a broker, and a relay that a test plays by hand, on real engines.

`Headquarters` is the product's worker in the test's own loop, `HandRelay` is `protocol.relay_line.RelayLine` over a
broker with everything that comes back kept, `Wiretap` is somebody who may read and publish whatever he likes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import asyncpg
import msgpack

from ledger.card_tokens import token_hash
from ledger.clock import Clock, SystemClock
from ledger.hot_store import HotStore
from ledger.journal import migrate
from ledger.journal.enrolment import NewCard, enrol
from ledger.journal.onboarding import Onboarding
from ledger.journal.partitioning import ensure_partitions
from ledger.journal.postgres import Postgres
from ledger.ledger import Place
from ledger.programme import Rules
from ledger.verify import Verified, verify
from protocol import scram, tokens
from protocol.codes import ErrorCode, Message, Outcome
from protocol.messages import LENGTH_BYTES, AnswerMessage, ErrorMessage, decode, encode
from protocol.relay_keys import RelayCredential
from protocol.relay_line import RelayLine
from protocol.relay_messages import (
    Data,
    DownItem,
    Goodbye,
    ReplyItem,
    RequestItem,
    Roster,
    RosterQuery,
    UpItem,
    Welcome,
    read_publication,
)
from protocol.requests import Card, EarnRequest, Receipt, RedeemRequest, Request
from server.ledger_engines import ledger_engines
from server.mqtt import Broker, BrokerLimits, NotPublished
from server.mqtt import Message as Publication
from server.programme_setup import add_relay, numbered_card
from server.secrets import Secrets
from server.settings import Settings
from server.workers.peer_address import new_address
from server.workers.worker import Worker

SECRETS = Secrets(*(bytes([number]) * 32 for number in range(1, 5)))
SECRET = "Zq7-vNfK3mPw9sXt2LdYhR5b"
RULES = Rules(0, earn_rate_bp=500)
ALL = [int(op) for op in Message if Message.BALANCE <= op <= Message.REPLACE]
EAGER = BrokerLimits(backoff_first_s=0.02, backoff_max_s=0.2, connect_timeout_s=2.0)
PATIENCE_S = 30.0

Reply = AnswerMessage | ErrorMessage


def card(number: int) -> Card:
    return numbered_card(number)


def receipt(amount: int = 10_000, reference: str = "0042-4") -> Receipt:
    return Receipt(amount, "EUR", reference)


def new_id() -> bytes:
    return os.urandom(16)


def earn(number: int = 0, amount: int = 100_000) -> EarnRequest:
    """Return what gives a twentieth of the amount."""
    return EarnRequest(new_id(), 0, card(number), receipt(amount), None, 0)


def redeem(number: int = 0, points: int = 700, ttl_ms: int = 0) -> RedeemRequest:
    return RedeemRequest(new_id(), ttl_ms, card(number), points, receipt())


class Headquarters:
    """One installation. The first store has the terminals T-0, T-1, … and the relay R-1, the second X-0 and R-2."""

    def __init__(self, postgres_url: str, redis_url: str, mqtt_url: str, data_dir: Path, **settings: Any) -> None:
        self.postgres_url = postgres_url
        self.redis_url = redis_url
        self.mqtt_url = mqtt_url
        self.data_dir = data_dir
        self._settings = settings
        self.store_id = self.other_store_id = self.network_id = 0
        self.credentials: dict[str, RelayCredential] = {}

    async def prepare(
        self,
        *,
        cards: int = 10,
        terminals: int = 4,
        rules: Sequence[Rules] = (RULES,),
        allowance_points: int = 0,
        partitions: int = 1,
        relays: int = 2,
    ) -> None:
        """Fill an empty database; cards have no points."""
        await migrate.run(self.postgres_url)
        await ensure_partitions(Postgres(self.postgres_url), partitions)
        async with self.database() as connection, connection.transaction():
            onboarding = Onboarding(connection)
            partner = await onboarding.partner("Harvest Foods")
            self.network_id = await onboarding.network(partner, "Harvest Market", "EUR")
            for each in rules:
                await onboarding.rules(self.network_id, each)
            keys = scram.credentials(SECRET, os.urandom(16), scram.ITERATIONS_MIN)
            self.store_id = await onboarding.store(self.network_id, "Mill Street")
            for number in range(terminals):
                await onboarding.terminal(self.store_id, f"T-{number}", ALL, keys)
            stores = [self.store_id]
            for number in range(1, relays):
                stores.append(await onboarding.store(self.network_id, f"Store {number}"))
                await onboarding.terminal(stores[-1], f"X-{number - 1}", ALL, keys)
            self.other_store_id = stores[-1]
            for number, store_id in enumerate(stores, 1):
                line = await add_relay(
                    onboarding, SECRETS.relay_master, store_id, f"R-{number}", allowance_points=allowance_points
                )
                self.credentials[f"R-{number}"] = RelayCredential.parse(line)
            await enrol(
                connection,
                [NewCard(self.token(number), 1, tokens.masked(str(card(number).token)), 1) for number in range(cards)],
            )

    @property
    def settings(self) -> Settings:
        return Settings.model_validate(
            {
                "listen_port": 0,
                "postgres_url": self.postgres_url,
                "redis_url": self.redis_url,
                "mqtt_url": self.mqtt_url,
                "data_dir": self.data_dir,
                "status_interval_ms": 100,
                "drain_timeout_ms": 5_000,
                **self._settings,
            }
        )

    @staticmethod
    def token(number: int) -> bytes:
        return token_hash(str(card(number).token), SECRETS.token_key)

    @asynccontextmanager
    async def worker(self, index: int = 0, clock: Clock | None = None, **settings: Any) -> AsyncIterator[Worker]:
        """Run a worker in this loop until the block ends, then stop it as SIGTERM would."""
        worker = self.make_worker(index, clock, **settings)
        await worker.start()
        try:
            await until(lambda: worker.bridge is not None and bool(worker.bridge.figures()["connected"]))
            yield worker
        finally:
            await worker.stop()

    def make_worker(self, index: int = 0, clock: Clock | None = None, **settings: Any) -> Worker:
        chosen = Settings.model_validate({**self.settings.model_dump(), **settings})
        place = Place(new_address(self.data_dir, index), index, chosen.workers)
        listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        engines = ledger_engines(chosen, SECRETS)
        return Worker(chosen, SECRETS, listening, place, engines, clock or SystemClock(), os.urandom)

    @asynccontextmanager
    async def relay(self, code: str = "R-1", *, sign_on: bool = True, **options: Any) -> AsyncIterator[HandRelay]:
        """Run a relay by hand."""
        relay = HandRelay(options.pop("url", self.mqtt_url), self.credentials[code], **options)
        async with relay.connected():
            if sign_on:
                await relay.sign_on()
            yield relay

    @asynccontextmanager
    async def database(self) -> AsyncIterator[asyncpg.Connection[Any]]:
        connection = await asyncpg.connect(self.postgres_url)
        try:
            yield connection
        finally:
            await connection.close()

    async def journal(self, number: int) -> list[asyncpg.Record]:
        """Return the entries of a card's account."""
        async with self.database() as connection:
            return list(
                await connection.fetch(
                    "SELECT e.*, t.code FROM entry e JOIN card c USING (account_id) LEFT JOIN terminal t"
                    " USING (terminal_id) WHERE c.token = $1 ORDER BY seq",
                    self.token(number),
                )
            )

    async def conflicts(self) -> list[asyncpg.Record]:
        """Return what is on the operators' list."""
        async with self.database() as connection:
            return list(await connection.fetch("SELECT * FROM office.conflict ORDER BY conflict_id"))

    async def verify(self) -> Verified:
        """Prove the books."""
        hot_store = HotStore.at(self.redis_url, timeout_s=5.0)
        try:
            return await verify(self.postgres_url, hot_store, SECRETS.seal_key, lambda _done, _total: None)
        finally:
            await hot_store.close()


class HandRelay:
    """A relay whose publications a test makes one by one. `replies` holds every answer by request id."""

    def __init__(self, url: str, credential: RelayCredential, *, qos: int = 1, limits: BrokerLimits = EAGER) -> None:
        self.credential = credential
        self.line = RelayLine(credential, "hand/1", os.urandom)
        self.replies: dict[bytes, list[Reply]] = {}
        self.items: list[DownItem] = []
        self.goodbyes: list[Goodbye] = []
        self.welcomes: list[Welcome] = []
        self.received: list[Publication] = []
        self.sent: list[tuple[str, bytes]] = []
        self.roster_version = 0
        self.qos = qos
        self.broker = Broker(
            url,
            f"hand-{credential.code}-{os.urandom(4).hex()}",
            subscriptions=[f"{credential.topic}/#"],
            on_message=self._take,
            random=Random(1),  # noqa: S311 - spreads reconnects
            qos=qos,
            limits=limits,
        )

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.broker.run(), name="hand relay")
        try:
            await until(lambda: self.broker.connected)
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})

    def now_ms(self) -> int:
        return int(time.monotonic() * 1000)

    async def sign_on(self) -> None:
        """Say HELLO until a WELCOME comes."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                before = len(self.welcomes)
                self.say_hello()
                deadline = time.monotonic() + 0.5
                while time.monotonic() < deadline:
                    if len(self.welcomes) > before and self.line.ready:
                        return
                    await asyncio.sleep(0.005)

    def say_hello(self) -> bytes:
        self.line.end()
        payload = self.line.hello(int(time.time() * 1000))
        self.publish_raw("hello", payload)
        return payload

    @property
    def data_topic(self) -> str:
        return f"to/{self.line.bridge}"

    def publish_raw(self, where: str, payload: bytes, **options: Any) -> None:
        topic = f"{self.credential.topic}/{where}"
        self.sent.append((topic, payload))
        # What cannot be published is lost on the way, as on a real line.
        with contextlib.suppress(NotPublished):
            self.broker.publish(topic, payload, qos=self.qos, **options)

    def publish(self, items: Sequence[UpItem], *, sent_ago_ms: int = 0, suffix: str = "", **options: Any) -> bytes:
        """Seal items as sent so long ago, publish them, return the payload."""
        payload = self.line.close(list(items), self.now_ms() - sent_ago_ms)
        self.publish_raw(self.data_topic + suffix, payload, **options)
        return payload

    def item(self, request: Request, terminal: str = "T-0", **fields: Any) -> RequestItem:
        return RequestItem(terminal, encode(request)[LENGTH_BYTES:], **fields)

    async def reply(self, request_id: bytes, count: int = 1) -> Reply:
        """Wait for the `count`th reply under an id."""
        await until(lambda: len(self.replies.get(request_id, [])) >= count)
        return self.replies[request_id][count - 1]

    async def ask(self, request: Request, terminal: str = "T-0", **fields: Any) -> Reply:
        """Send one request in a publication of its own and wait for what comes next under its id."""
        count = len(self.replies.get(request.request_id, [])) + 1
        self.publish([self.item(request, terminal, **fields)])
        return await self.reply(request.request_id, count)

    async def insist(self, request: Request, terminal: str = "T-0", **fields: Any) -> AnswerMessage:
        """Ask like a good relay: begin another session when there is silence, and repeat what is refused for now."""
        request_id = request.request_id
        async with asyncio.timeout(2 * PATIENCE_S):
            while True:
                before = len(self.replies.get(request_id, []))
                if self.line.ready and self.broker.connected:
                    self.publish([self.item(request, terminal, **fields)])
                deadline = time.monotonic() + 1.0
                while len(self.replies.get(request_id, [])) == before and time.monotonic() < deadline:
                    await asyncio.sleep(0.005)
                if len(self.replies.get(request_id, [])) == before:
                    await self.sign_on()
                    continue
                reply = self.replies[request_id][-1]
                if isinstance(reply, AnswerMessage):
                    return reply
                assert reply.code in (ErrorCode.BUSY, ErrorCode.EXPIRED, ErrorCode.UNAVAILABLE), reply
                await asyncio.sleep(0.02)

    async def roster(self, known_version: int = 0) -> Roster:
        before = len(self.items)
        self.publish([RosterQuery(known_version)])
        await until(lambda: any(isinstance(item, Roster) for item in self.items[before:]))
        return next(item for item in self.items[before:] if isinstance(item, Roster))

    def _take(self, message: Publication) -> None:
        if not message.topic.startswith(f"{self.credential.topic}/answer"):
            return
        self.received.append(message)
        publication = read_publication(message.payload)
        match publication:
            case Welcome():
                self.welcomes.append(publication)
                if self.line.session_id is None:
                    self.line.welcomed(publication, self.now_ms())
            case Data():
                if publication.session_id != self.line.session_id:
                    return
                _, self.roster_version, items = self.line.open(publication, self.now_ms())
                self.items += items
                for item in items:
                    if isinstance(item, ReplyItem):
                        reply = decode(item.message)
                        assert isinstance(reply, AnswerMessage | ErrorMessage)
                        self.replies.setdefault(reply.request_id, []).append(reply)
            case Goodbye():
                self.goodbyes.append(publication)


class Wiretap:
    """Hears all of the broker's publications and publishes what it likes."""

    def __init__(self, url: str) -> None:
        self.heard: list[Publication] = []
        self.broker = Broker(
            url,
            f"wiretap-{os.urandom(4).hex()}",
            subscriptions=["tillwire/#"],
            on_message=self.heard.append,
            random=Random(1),  # noqa: S311 - spreads reconnects
            limits=EAGER._replace(under_way_max=1_000),
        )

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Wiretap]:
        task = asyncio.create_task(self.broker.run(), name="wiretap")
        try:
            await until(lambda: self.broker.connected)
            yield self
        finally:
            task.cancel()
            await asyncio.wait({task})

    def up(self, part: str) -> list[Publication]:
        """Return what relays published under a topic with this part: `hello` or `to`."""
        return [message for message in self.heard if f"/{part}" in message.topic]

    async def publish(self, topic: str, payload: bytes) -> None:
        await asyncio.wait_for(self.broker.publish(topic, payload), PATIENCE_S)


async def until(condition: Any, seconds: float = PATIENCE_S) -> None:
    """Wait for something to become true."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


def approved(reply: Reply) -> AnswerMessage:
    assert isinstance(reply, AnswerMessage), reply
    assert reply.answer.outcome in (Outcome.APPROVED, Outcome.APPROVED_PARTIAL), reply.answer
    return reply


def declined(reply: Reply) -> int:
    assert isinstance(reply, AnswerMessage), reply
    assert reply.answer.outcome > Outcome.APPROVED_PARTIAL, reply.answer
    return int(reply.answer.outcome)


def refused(reply: Reply) -> int:
    assert isinstance(reply, ErrorMessage), reply
    return reply.code


def altered(payload: bytes, at: int = -5) -> bytes:
    """Return a payload with one bit of its sealed part changed."""
    fields = list(msgpack.unpackb(payload))
    sealed = bytearray(fields[-1])
    sealed[at] ^= 1
    return bytes(msgpack.packb([*fields[:-1], bytes(sealed)]))
