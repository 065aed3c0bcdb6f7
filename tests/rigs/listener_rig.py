"""The listener on real sockets, with a ledger that answers as the test says, and registers that can misbehave."""

import asyncio
import os
import secrets
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from ledger.business_day import BusinessDay
from ledger.clock import SystemClock
from ledger.programme import Network, Programme, Rules, Terminal
from ledger.submission import Submission
from protocol.answers import encode_body
from protocol.codes import CardKind, Goodbye, Message, Outcome
from protocol.framing import FrameReader
from protocol.messages import decode, encode
from protocol.requests import Card, Receipt, RedeemRequest
from protocol.scram import ClientExchange, credentials, salted_key
from protocol.session import Challenge, Farewell, Hello, Proof, Welcome
from server.observation.metrics import Metrics
from server.registers.answers import AnswerRenderer
from server.registers.dispatch import Dispatcher, DispatchLimits
from server.registers.listener import Listener
from server.registers.reception import ConnectionLimits, Reception
from server.registers.terminal_room import TerminalRoom

SECRET = "Zq7-vNfK3mPw9sXt2LdYhR5b"
SALT = b"0123456789abcdef"
KNOWN = credentials(SECRET, SALT, 4096)
SALTED = salted_key(SECRET, SALT, 4096)
CARD = Card(CardKind.EAN13, "2000000000015")
RECEIPT = Receipt(2_500, "EUR", "0042-4")
CONNECTION_LIMITS = ConnectionLimits(
    connections_max=4_000,
    frame_bytes_max=65_536,
    in_flight_max=16,
    send_buffer_bytes_max=1_048_576,
    handshake_timeout_ms=20_000,
    frame_timeout_ms=20_000,
    idle_timeout_ms=90_000,
    heartbeat_ms=30_000,
    ttl_default_ms=5_000,
    ttl_max_ms=60_000,
    reconnect_after_ms=1_000,
    linger_ms=300,
    tick_ms=20,
)
DISPATCH_LIMITS = DispatchLimits(5_000, 60_000, 600_000, 10**11, 100)


def body(points: int) -> bytes:
    return encode_body(Outcome.APPROVED, points, 0, (1_000, 0, 0, 0, 0, 0))


class Ledger:
    """Answers at once unless a test takes the submissions itself."""

    def __init__(self) -> None:
        network = Network(7, 3, "Corner shops", "EUR", (Rules(0),))
        self.programme = Programme(1, {7: network}, BusinessDay(ZoneInfo("UTC")))
        self.enrolled = {code: self.known(code) for code in ("T-0001", "T-0002")}
        self.looked_up: list[int] = []
        self.taken: list[Submission] = []
        self.hold_back = False
        self.overloaded = False
        self.down = False

    def known(self, code: str, **changes: Any) -> Terminal:
        permitted = frozenset({int(Message.BALANCE), int(Message.REDEEM)})
        made = Terminal(
            11, code, 7, 5, permitted, True, KNOWN.salt, KNOWN.iterations, KNOWN.stored_key, KNOWN.server_key
        )
        return replace(made, **changes)

    async def terminals(self, codes: Sequence[str]) -> dict[str, Terminal]:
        if self.down:
            raise ConnectionError("PostgreSQL is away")
        self.looked_up.append(len(codes))
        return {code: self.enrolled[code] for code in codes if code in self.enrolled}

    def submit(self, submission: Submission) -> None:
        self.taken.append(submission)
        if not self.hold_back:
            submission.reply_to.answer(submission.request_id, body(submission.points), replayed=False)

    def answer_all(self) -> None:
        taken, self.taken = self.taken, []
        for submission in taken:
            submission.reply_to.answer(submission.request_id, body(submission.points), replayed=False)


class Till:
    """A register that can misbehave: bytes out, messages in."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._frames = FrameReader(1_000_000)
        self._read: list[bytes] = []

    def send(self, *messages: Any) -> None:
        self.writer.write(b"".join(encode(message) for message in messages))

    def send_bytes(self, data: bytes) -> None:
        self.writer.write(data)

    async def receive(self) -> Any:
        while not self._read:
            data = await self.reader.read(65_536)
            if not data:
                raise EOFError
            self._read.extend(self._frames.feed(data))
        return decode(self._read.pop(0))

    async def farewell(self) -> Goodbye:
        """Read on to GOODBYE and to the end of the connection after it."""
        message = None
        while not isinstance(message, Farewell):
            message = await self.receive()
        with pytest.raises(EOFError):
            await self.receive()
        return Goodbye(message.reason)

    async def sign_on(self, code: str = "T-0001", secret: str = SECRET) -> Any:
        salted = SALTED if secret == SECRET else None
        exchange = ClientExchange(code, secret, secrets.token_urlsafe(18), salted)
        self.send(Hello((1,), code, exchange.client_first, "test"))
        challenge = await self.receive()
        if not isinstance(challenge, Challenge):
            return challenge
        self.send(Proof(exchange.respond(challenge.server_first)))
        welcome = await self.receive()
        if isinstance(welcome, Welcome):
            exchange.verify(welcome.server_final)
        return welcome


class Shop:
    """A running listener and the ways to reach it."""

    def __init__(self, ledger: Ledger, listener: Listener, reception: Reception, port: int) -> None:
        self.ledger = ledger
        self.listener = listener
        self.reception = reception
        self.port = port
        self._stack = AsyncExitStack()

    async def connect(self, **options: Any) -> Till:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, **options)

        async def close() -> None:
            writer.close()
            with suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()

        self._stack.push_async_callback(close)
        return Till(reader, writer)

    async def till(self, code: str = "T-0001") -> Till:
        till = await self.connect()
        assert isinstance(await till.sign_on(code), Welcome)
        return till

    async def close(self) -> None:
        await self._stack.aclose()
        await self.listener.stop()
        await self.listener.stop()


@asynccontextmanager
async def open_shop(tls: ssl.SSLContext | None = None, **changes: Any) -> AsyncIterator[Shop]:
    ledger = Ledger()
    metrics = Metrics()

    async def spent_today(_: int) -> int:
        return 0

    room = TerminalRoom(spent_today, asyncio.get_running_loop().time)
    clock = SystemClock()
    dispatcher = Dispatcher(
        ledger, AnswerRenderer(lambda: ledger.programme, clock.now_ms), room, b"k" * 32, DISPATCH_LIMITS
    )
    limits = replace(CONNECTION_LIMITS, **changes)
    reception = Reception(ledger, dispatcher, room, metrics, limits, b"d" * 32, clock, os.urandom)
    listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
    shop = Shop(ledger, Listener(reception, listening, tls), reception, listening.getsockname()[1])
    await shop.listener.start()
    await shop.listener.start()
    try:
        yield shop
    finally:
        await shop.close()
        await room.stop()


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    async with open_shop() as opened:
        yield opened


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


def redeem(points: int, request_id: bytes | None = None) -> RedeemRequest:
    return RedeemRequest(request_id or secrets.token_bytes(16), 0, CARD, points, RECEIPT)
