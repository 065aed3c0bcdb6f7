"""Headquarters and a shop in one process: a worker with its bridge, real engines, a real broker, a relay, registers."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Self

import asyncpg

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
from ledger.verify import verify
from protocol import scram, tokens
from protocol.client import Client
from protocol.codes import Message
from protocol.framing import FrameReader
from protocol.messages import AnswerMessage, ErrorMessage, decode, encode
from protocol.requests import Card, EarnRequest, Receipt, RedeemRequest, Request
from protocol.scram import ClientExchange, SaltedKey, credentials, salted_key
from protocol.session import Challenge, Farewell, Hello, Proof, Welcome
from server.ledger_engines import ledger_engines
from server.programme_setup import add_relay, numbered_card
from server.relay.relay import Relay
from server.relay.settings import RelaySettings
from server.secrets import Secrets
from server.settings import Settings
from server.workers.peer_address import new_address
from server.workers.worker import Worker

SECRETS = Secrets(*(bytes([number]) * 32 for number in range(1, 5)))
SECRET = "Zq7-vNfK3mPw9sXt2LdYhR5b"
SALT = b"0123456789abcdef"
SALTED: SaltedKey = salted_key(SECRET, SALT, scram.ITERATIONS_MIN)
CARDS = 40
RECEIPT = Receipt(10_000, "EUR", "0042-4")
REGISTERS = 4
RELAY = "R-1"
OPERATIONS = [int(op) for op in Message if Message.BALANCE <= op <= Message.REPLACE]


class Headquarters:
    """One installation with one store, its registers T-0 … and its relay; `worker` is there between start and stop."""

    def __init__(self, postgres_url: str, redis_url: str, broker_url: str, folder: Path, **settings: Any) -> None:
        self.postgres_url = postgres_url
        self.redis_url = redis_url
        self.broker_url = broker_url
        self.folder = folder
        self.credential = ""
        self.worker: Worker | None = None
        self.port = 0
        self._settings = settings

    async def prepare(self, *, allowance_points: int = 0, allowance_ms: int = 3_600_000) -> None:
        """Make the programme: cards 0 … are active; those behind CARDS were issued only."""
        await migrate.run(self.postgres_url)
        await ensure_partitions(Postgres(self.postgres_url), 1)
        async with self.database() as connection:
            onboarding = Onboarding(connection)
            partner = await onboarding.partner("Harvest Foods")
            network = await onboarding.network(partner, "Harvest Market", "EUR")
            await onboarding.rules(network, Rules(0, earn_rate_bp=10_000, slip=("Balance {available}",)))
            store = await onboarding.store(network, "Mill Street")
            for register in range(REGISTERS):
                await onboarding.terminal(store, f"T-{register}", OPERATIONS, credentials_of(SECRET))
            self.credential = await add_relay(
                onboarding, SECRETS.relay_master, store, RELAY,
                allowance_points=allowance_points, allowance_ms=allowance_ms,
            )  # fmt: skip
            cards = [NewCard(token_of(card), 1, "…", int(card < CARDS)) for card in range(CARDS + 4)]
            await enrol(connection, cards)

    async def start(self) -> None:
        settings = Settings.model_validate(
            {
                "postgres_url": self.postgres_url,
                "redis_url": self.redis_url,
                "mqtt_url": self.broker_url,
                "data_dir": self.folder,
                "drain_timeout_ms": 5_000,
                "bridge_heartbeat_ms": 2_000,
                **self._settings,
            }
        )
        listening = socket.create_server(("127.0.0.1", 0))
        self.port = listening.getsockname()[1]
        place = Place(new_address(self.folder, 0), 0, 1)
        engines = ledger_engines(settings, SECRETS)
        self.worker = Worker(settings, SECRETS, listening, place, engines, SystemClock(), os.urandom)
        await self.worker.start()

    async def stop(self) -> None:
        if self.worker is not None:
            await self.worker.stop()
            self.worker = None

    @asynccontextmanager
    async def database(self) -> AsyncIterator[asyncpg.Connection[Any]]:
        connection = await asyncpg.connect(self.postgres_url)
        try:
            yield connection
        finally:
            await connection.close()

    async def journal(self, request_ids: Sequence[bytes]) -> dict[bytes, int]:
        """Return how many entries each of these requests has."""
        async with self.database() as connection:
            rows = await connection.fetch(
                "SELECT request_id, count(*) AS n FROM entry WHERE request_id = ANY($1) GROUP BY 1", list(request_ids)
            )
        found = {row["request_id"]: row["n"] for row in rows}
        return {request_id: found.get(request_id, 0) for request_id in request_ids}

    async def verify(self) -> None:
        hot_store = HotStore.at(self.redis_url, timeout_s=5.0)
        try:
            await verify(self.postgres_url, hot_store, SECRETS.seal_key, lambda _done, _total: None)
        finally:
            await hot_store.close()


class Shop:
    """The relay of the store, started and stopped at will on one folder; the port stays the same."""

    def __init__(
        self, headquarters: Headquarters, folder: Path, *, clock: Clock | None = None, **settings: Any
    ) -> None:
        self.folder = folder
        self.settings = RelaySettings.model_validate(
            {
                "credential": headquarters.credential,
                "mqtt_url": headquarters.broker_url,
                "data_dir": folder,
                "listen_port": 0,
                "status_interval_ms": 100,
                "drain_timeout_ms": 2_000,
                **settings,
            }
        )
        self.clock = clock
        self.relay: Relay | None = None

    @property
    def running(self) -> Relay:
        assert self.relay is not None
        return self.relay

    @property
    def port(self) -> int:
        return self.settings.listen_port

    async def start(self) -> None:
        self.relay = Relay(self.settings, self.clock)
        await self.relay.start()
        self.settings = self.settings.model_copy(update={"listen_port": self.relay.address[1]})

    async def stop(self) -> None:
        if self.relay is not None:
            await self.relay.stop()
            self.relay = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def until_up(self) -> None:
        await until(lambda: self.running.line.up and self.running.health()["roster_version"] > 0)

    async def until_down(self) -> None:
        await until(lambda: not self.running.line.up)

    async def until_drained(self) -> None:
        await until(lambda: not self.running.store.queued)


def credentials_of(secret: str) -> scram.Credentials:
    return credentials(secret, SALT, scram.ITERATIONS_MIN)


def card(number: int) -> Card:
    return numbered_card(number)


def token_of(number: int) -> bytes:
    return token_hash(tokens.canonical(card(number).kind, card(number).value), SECRETS.token_key)


def new_id() -> bytes:
    return secrets.token_bytes(16)


def earn(of: Card, amount: int = 10_000, request_id: bytes | None = None) -> EarnRequest:
    now_ms = SystemClock().now_ms()
    return EarnRequest(request_id or new_id(), 0, of, Receipt(amount, "EUR", "0042-4"), None, now_ms)


def redeem(of: Card, points: int, request_id: bytes | None = None, **fields: Any) -> RedeemRequest:
    return RedeemRequest(request_id or new_id(), 0, of, points, RECEIPT, **fields)


def outcome(message: AnswerMessage | ErrorMessage) -> int:
    assert isinstance(message, AnswerMessage), message
    return message.answer.outcome


def error(message: AnswerMessage | ErrorMessage) -> int:
    assert isinstance(message, ErrorMessage), message
    return message.code


async def until(condition: Callable[[], bool], timeout_s: float = 60) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.01)


class Till:
    """A register that sends each request once, and sees the very bytes of its answer."""

    def __init__(self, code: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.code = code
        self._reader = reader
        self._writer = writer
        self._frames = FrameReader(1_000_000)
        self._read: list[bytes] = []

    async def _receive(self) -> Any:
        while not self._read:
            data = await self._reader.read(65_536)
            if not data:
                raise EOFError
            self._read.extend(self._frames.feed(data))
        return decode(self._read.pop(0))

    async def sign_on(self, secret: str = SECRET) -> Welcome | Farewell:
        salted = SALTED if secret == SECRET else None
        exchange = ClientExchange(self.code, secret, secrets.token_urlsafe(18), salted)
        self._writer.write(encode(Hello((1,), self.code, exchange.client_first, "test")))
        challenge = await self._receive()
        if isinstance(challenge, Challenge):
            self._writer.write(encode(Proof(exchange.respond(challenge.server_first))))
            challenge = await self._receive()
        assert isinstance(challenge, Welcome | Farewell)
        return challenge

    async def ask(self, request: Request) -> AnswerMessage | ErrorMessage:
        """Send a request and return the next message, which must be about it."""
        self._writer.write(encode(request))
        async with asyncio.timeout(30):
            message = await self._receive()
        assert isinstance(message, AnswerMessage | ErrorMessage)
        assert message.request_id == request.request_id
        return message

    async def farewell(self) -> Farewell:
        async with asyncio.timeout(30):
            message = await self._receive()
        assert isinstance(message, Farewell)
        return message

    def close(self) -> None:
        self._writer.close()


class Counter:
    """Opens registers and closes them with the test."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()

    async def connect(self, port: int, code: str = "T-0") -> Till:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        till = Till(code, reader, writer)
        self._stack.callback(till.close)
        return till

    async def till(self, port: int, code: str = "T-0") -> Till:
        till = await self.connect(port, code)
        assert isinstance(await till.sign_on(), Welcome)
        return till

    async def client(self, port: int, code: str = "T-0", **options: Any) -> Client:
        return await self._stack.enter_async_context(Client("127.0.0.1", port, code, SECRET, **options))

    async def close(self) -> None:
        await self._stack.aclose()
