"""The listener on real sockets, with a ledger that answers as the test says."""

import asyncio
import os
import resource
import secrets
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgpack
import psutil
import pytest

from ledger.business_day import BusinessDay
from ledger.clock import SystemClock
from ledger.programme import Network, Programme, Rules, Terminal
from ledger.submission import Refusal, Submission
from protocol.answers import encode_body
from protocol.codes import CardKind, ErrorCode, Goodbye, Message, Outcome
from protocol.framing import FrameReader
from protocol.messages import AnswerMessage, ErrorMessage, decode, encode
from protocol.requests import BalanceRequest, Card, Receipt, RedeemRequest
from protocol.scram import ClientExchange, credentials, salted_key
from protocol.session import Challenge, Farewell, Hello, Ping, Pong, Proof, Welcome
from server.observation.metrics import Metrics
from server.registers.answers import AnswerRenderer
from server.registers.dispatch import Dispatcher, DispatchLimits
from server.registers.listener import Listener
from server.registers.reception import ConnectionLimits, Reception
from server.registers.terminal_room import TerminalRoom
from server.registers.tls import server_context
from tests.rigs.certificates import certificate

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
        self._reader = reader
        self.writer = writer
        self._frames = FrameReader(1_000_000)
        self._read: list[bytes] = []

    def send(self, *messages: Any) -> None:
        self.writer.write(b"".join(encode(message) for message in messages))

    def send_bytes(self, data: bytes) -> None:
        self.writer.write(data)

    async def receive(self) -> Any:
        while not self._read:
            data = await self._reader.read(65_536)
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


# Signing on.


async def test_a_register_signs_on_and_is_told_what_holds(shop: Shop) -> None:
    welcome = await (await shop.connect()).sign_on()
    assert welcome.limits == CONNECTION_LIMITS.announced()
    assert (welcome.profile.network_name, welcome.profile.currency) == ("Corner shops", "EUR")
    assert set(welcome.profile.permitted) == {Message.BALANCE, Message.REDEEM, Message.REVERSE, Message.STATUS}


@pytest.mark.parametrize(("code", "secret"), [("T-0001", "wrong-wrong"), ("T-9999", SECRET)])
async def test_wrong_credentials_and_unknown_terminals_look_alike(shop: Shop, code: str, secret: str) -> None:
    till = await shop.connect()
    answer = await till.sign_on(code, secret)
    assert (answer.reason, answer.reconnect_after_ms) == (Goodbye.AUTH_FAILED, 0)
    assert answer.text == "the nonce or the proof is wrong"


async def test_an_unknown_terminal_has_one_salt_for_ever(shop: Shop) -> None:
    salts = set()
    for _ in range(3):
        till = await shop.connect()
        till.send(Hello((1,), "T-9999", "n,,n=T-9999,r=abcdefgh", ""))
        challenge = await till.receive()
        salts.add(challenge.server_first.split(",")[1])
    assert len(salts) == 1


async def test_a_suspended_terminal_is_refused_after_its_proof(shop: Shop) -> None:
    shop.ledger.enrolled["T-0001"] = shop.ledger.known("T-0001", active=False)
    answer = await (await shop.connect()).sign_on()
    assert answer.reason == Goodbye.SUSPENDED
    wrong = await (await shop.connect()).sign_on("T-0001", "wrong-wrong")
    assert wrong.reason == Goodbye.AUTH_FAILED


async def test_while_terminals_cannot_be_looked_up_registers_come_back_later(shop: Shop) -> None:
    shop.ledger.down = True
    answer = await (await shop.connect()).sign_on()
    assert answer.reason == Goodbye.BUSY
    assert answer.reconnect_after_ms >= 1_000


async def test_a_terminal_suspended_while_connected_is_sent_away(shop: Shop) -> None:
    till, other = await shop.till(), await shop.till("T-0002")
    shop.ledger.enrolled["T-0001"] = shop.ledger.known("T-0001", active=False)
    shop.ledger.programme = replace(shop.ledger.programme, version=2)
    assert await till.farewell() == Goodbye.SUSPENDED
    other.send(redeem(5))
    assert isinstance(await other.receive(), AnswerMessage)


async def test_a_terminal_whose_secret_was_replaced_must_sign_on_with_the_new_one(shop: Shop) -> None:
    till, other = await shop.till(), await shop.till("T-0002")
    fresh = credentials("a-new-secret", b"n" * 16, 4096)
    shop.ledger.enrolled["T-0001"] = shop.ledger.known(
        "T-0001", salt=fresh.salt, stored_key=fresh.stored_key, server_key=fresh.server_key
    )
    shop.ledger.programme = replace(shop.ledger.programme, version=2)
    assert await till.farewell() == Goodbye.AUTH_FAILED
    other.send(redeem(5))
    assert isinstance(await other.receive(), AnswerMessage)
    assert (await (await shop.connect()).sign_on()).reason == Goodbye.AUTH_FAILED
    assert isinstance(await (await shop.connect()).sign_on("T-0001", "a-new-secret"), Welcome)


async def test_a_terminal_suspended_during_its_handshake_is_sent_away(shop: Shop) -> None:
    till = await shop.connect()
    exchange = ClientExchange("T-0001", SECRET, secrets.token_urlsafe(18), SALTED)
    till.send(Hello((1,), "T-0001", exchange.client_first, ""))
    challenge = await till.receive()
    shop.ledger.enrolled["T-0001"] = shop.ledger.known("T-0001", active=False)
    shop.ledger.programme = replace(shop.ledger.programme, version=2)
    till.send(Proof(exchange.respond(challenge.server_first)))
    assert await till.farewell() == Goodbye.SUSPENDED


async def test_all_connected_terminals_are_looked_up_by_one_query(shop: Shop) -> None:
    tills = [await shop.till(f"T-{number:04d}") for number in (1, 2)]
    before = len(shop.ledger.looked_up)
    shop.ledger.programme = replace(shop.ledger.programme, version=2)
    await until(lambda: len(shop.ledger.looked_up) > before)
    assert shop.ledger.looked_up[before:] == [len(tills)]


async def test_a_permission_taken_away_holds_for_open_connections(shop: Shop) -> None:
    till = await shop.till()
    shop.ledger.enrolled["T-0001"] = shop.ledger.known("T-0001", permitted=frozenset())
    shop.ledger.programme = replace(shop.ledger.programme, version=2)
    permitted = True
    while permitted:
        till.send(redeem(5))
        await till.receive()
        permitted = shop.ledger.taken[-1].permitted


# Requests.


async def test_answers_come_back_in_any_order_each_to_its_request(shop: Shop) -> None:
    till = await shop.till()
    shop.ledger.hold_back = True
    requests = [redeem(points) for points in range(1, 11)]
    till.send(*requests)
    await until(lambda: len(shop.ledger.taken) == 10)
    assert [taken.points for taken in shop.ledger.taken] == list(range(1, 11))
    shop.ledger.taken.reverse()
    shop.ledger.answer_all()
    answers = [await till.receive() for _ in requests]
    assert [answer.answer.points for answer in answers] == list(range(10, 0, -1))
    points_of = {request.request_id: request.points for request in requests}
    assert all(points_of[answer.request_id] == answer.answer.points for answer in answers)


async def test_two_copies_of_a_request_in_flight_are_both_answered(shop: Shop) -> None:
    till = await shop.till()
    shop.ledger.hold_back = True
    request = redeem(5)
    till.send(request, request)
    await until(lambda: len(shop.ledger.taken) == 2)
    shop.ledger.answer_all()
    assert [(await till.receive()).request_id for _ in range(2)] == [request.request_id] * 2


async def test_the_answer_is_the_ledgers_bytes(shop: Shop) -> None:
    till = await shop.till()
    shop.ledger.hold_back = True
    till.send(redeem(5))
    await until(lambda: bool(shop.ledger.taken))
    taken = shop.ledger.taken.pop()
    taken.reply_to.answer(taken.request_id, body(4), replayed=True)
    answer = await till.receive()
    assert (answer.body, answer.replayed) == (body(4), True)


async def test_a_refusal_becomes_an_error(shop: Shop) -> None:
    till = await shop.till()
    shop.ledger.hold_back = True
    till.send(redeem(5))
    await until(lambda: bool(shop.ledger.taken))
    taken = shop.ledger.taken.pop()
    taken.reply_to.refuse(taken.request_id, Refusal.UNAVAILABLE, 70)
    error = await till.receive()
    assert (error.request_id, error.code, error.retry_after_ms) == (taken.request_id, ErrorCode.UNAVAILABLE, 70)


async def test_more_in_flight_than_agreed_are_busy_and_the_others_live(shop: Shop) -> None:
    till = await shop.till()
    shop.ledger.hold_back = True
    till.send(*[redeem(points) for points in range(1, 19)])
    errors = [await till.receive() for _ in range(2)]
    assert [error.code for error in errors] == [ErrorCode.BUSY] * 2
    shop.ledger.answer_all()
    assert len([await till.receive() for _ in range(16)]) == 16


async def test_while_the_ledger_has_too_much_to_do_requests_are_not_even_read(shop: Shop) -> None:
    till = await shop.till()
    till.send(redeem(1))
    assert (await till.receive()).answer.points == 1
    shop.ledger.overloaded = True
    till.send(redeem(2))
    await till.receive()
    shop.ledger.taken.clear()
    refused = redeem(3)
    till.send(refused)
    error = await till.receive()
    assert (error.request_id, error.code, error.retry_after_ms) == (refused.request_id, ErrorCode.BUSY, 100)
    assert not shop.ledger.taken
    metrics = shop.reception.metrics
    metrics.flush()
    labels = {"operation": "REDEEM", "code": "BUSY"}
    assert metrics.registry.get_sample_value("tillwire_errors_total", labels) == 1
    shop.ledger.overloaded = False
    till.send(redeem(4))
    assert (await till.receive()).code == ErrorCode.BUSY
    till.send(redeem(5))
    assert (await till.receive()).answer.points == 5


async def test_a_malformed_request_is_told_and_the_connection_lives(shop: Shop) -> None:
    till = await shop.till()
    request_id = secrets.token_bytes(16)
    wrong = msgpack.packb([int(Message.REDEEM), request_id, 0, [1, "2000000000015"], -5, [1, "EUR", ""], False])
    unknown = msgpack.packb([60, request_id, 0, [1, "2000000000015"]])
    for payload, code in ((wrong, ErrorCode.MALFORMED), (unknown, ErrorCode.UNSUPPORTED)):
        till.send_bytes(struct.pack(">I", len(payload)) + payload)
        error = await till.receive()
        assert isinstance(error, ErrorMessage)
        assert (error.request_id, error.code) == (request_id, code)
    till.send(Ping(7))
    assert (await till.receive()).nonce == 7


async def test_what_leaves_before_its_answer_harms_nobody(shop: Shop) -> None:
    shop.ledger.hold_back = True
    gone, till = await shop.till(), await shop.till("T-0002")
    gone.send(redeem(1))
    till.send(redeem(2))
    await until(lambda: len(shop.ledger.taken) == 2)
    gone.writer.transport.abort()
    await until(lambda: shop.listener.connections == 1)
    shop.ledger.answer_all()
    assert (await till.receive()).answer.points == 2


# Bad input.

GARBAGE = {
    "http": b"GET / HTTP/1.1\r\nHost: till\r\n\r\n",
    "oversized": struct.pack(">I", 65_537) + b"x" * 100_000,
    "empty": struct.pack(">I", 0),
    "not an array": struct.pack(">I", 1) + b"\x05",
    "never valid": struct.pack(">I", 1) + b"\xc1",
    "two values": struct.pack(">I", 2) + b"\x90\x90",
    "unknown type": struct.pack(">I", 3) + b"\x91\xcc\xfa",
    "request too early": encode(BalanceRequest(b"i" * 16, 0, CARD)),
    "deep": struct.pack(">I", 3_000) + b"\x91" * 3_000,
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE.keys())
async def test_garbage_is_told_and_closed_and_others_go_on(shop: Shop, garbage: bytes) -> None:
    till, stranger = await shop.till(), await shop.connect()
    stranger.send_bytes(garbage)
    assert await stranger.farewell() in (Goodbye.PROTOCOL, Goodbye.TOO_LARGE)
    till.send(redeem(5))
    assert (await till.receive()).answer.points == 5


async def test_a_frame_above_the_limit_after_sign_on_is_too_large(shop: Shop) -> None:
    till = await shop.till()
    till.send_bytes(struct.pack(">I", 65_537) + b"x" * 65_537)
    assert await till.farewell() == Goodbye.TOO_LARGE


async def test_random_bytes_never_get_further_than_a_goodbye(shop: Shop) -> None:
    for _ in range(50):
        stranger = await shop.connect()
        stranger.send_bytes(secrets.token_bytes(500))
        assert await stranger.farewell() in (Goodbye.PROTOCOL, Goodbye.TOO_LARGE)


async def test_a_truncated_frame_and_a_closed_line_leave_nothing(shop: Shop) -> None:
    till = await shop.till()
    till.send_bytes(encode(redeem(5))[:-3])
    till.writer.write_eof()
    with suppress(EOFError):
        await till.receive()
    await until(lambda: shop.listener.connections == 0)
    assert not shop.ledger.taken
    assert len(shop.reception.wheel) == 0


async def test_any_chunking_of_requests_is_the_same(shop: Shop) -> None:
    till = await shop.till()
    stream = b"".join(encode(redeem(points)) for points in range(1, 6))
    for start in range(0, len(stream), 3):
        till.send_bytes(stream[start : start + 3])
        await till.writer.drain()
        await asyncio.sleep(0)
    assert [(await till.receive()).answer.points for _ in range(5)] == [1, 2, 3, 4, 5]


# Time-outs.


async def test_who_says_nothing_is_slow() -> None:
    async with open_shop(handshake_timeout_ms=60) as shop:
        assert await (await shop.connect()).farewell() == Goodbye.SLOW


async def test_a_byte_now_and_then_does_not_keep_a_frame_open() -> None:
    async with open_shop(frame_timeout_ms=150) as shop:
        till = await shop.till()
        frame = encode(redeem(5))

        async def trickle() -> None:
            for byte in frame:
                till.send_bytes(bytes([byte]))
                await asyncio.sleep(0.03)

        trickling = asyncio.create_task(trickle())
        assert await till.farewell() == Goodbye.SLOW
        trickling.cancel()
        assert not shop.ledger.taken


async def test_a_half_open_connection_is_idle_one_with_heartbeats_is_not() -> None:
    async with open_shop(idle_timeout_ms=300) as shop:
        dead, alive = await shop.till(), await shop.till("T-0002")
        leaving = asyncio.create_task(dead.farewell())
        nonce = 0
        while not leaving.done():
            nonce += 1
            alive.send(Ping(nonce))
            pong = await alive.receive()
            assert isinstance(pong, Pong)
            await asyncio.sleep(0.03)
        assert leaving.result() == Goodbye.IDLE


async def test_a_register_that_does_not_hang_up_after_goodbye_is_cut_off() -> None:
    async with open_shop(handshake_timeout_ms=60) as shop:
        stranger = await shop.connect()
        message = await stranger.receive()
        assert message.reason == Goodbye.SLOW
        await until(lambda: shop.listener.connections == 0)


async def test_one_who_does_not_read_is_closed_and_the_others_are_served() -> None:
    async with open_shop(send_buffer_bytes_max=65_536) as shop:
        till, deaf = await shop.till(), await shop.connect(limit=1_024)
        assert isinstance(await deaf.sign_on("T-0002"), Welcome)
        deaf.writer.transport.pause_reading()
        pings = b"".join(encode(Ping(nonce)) for nonce in range(20_000))
        with suppress(ConnectionError):
            while shop.listener.connections == 2:
                deaf.send_bytes(pings)
                await asyncio.wait([asyncio.create_task(deaf.writer.drain())], timeout=0.05)
                await asyncio.sleep(0)
        await until(lambda: shop.listener.connections == 1)
        deaf.writer.transport.abort()
        till.send(redeem(5))
        assert (await till.receive()).answer.points == 5


# How many.


async def test_more_than_connections_max_are_told_to_come_back() -> None:
    async with open_shop(connections_max=3) as shop:
        tills = [await shop.till() for _ in range(3)]
        stranger = await shop.connect()
        farewell = await stranger.receive()
        assert (farewell.reason, 1_000 <= farewell.reconnect_after_ms <= 2_000) == (Goodbye.BUSY, True)
        with pytest.raises(EOFError):
            await stranger.receive()
        stranger.writer.close()
        tills[0].send(redeem(5))
        assert isinstance(await tills[0].receive(), AnswerMessage)
        tills[1].writer.close()
        await until(lambda: shop.listener.connections == 2)
        await shop.till()


@pytest.fixture
def many_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 5_000
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))


CROWD = 2_000


async def test_an_idle_crowd_is_cheap_and_leaves_nothing_behind(shop: Shop, many_files: None) -> None:
    # Plain sockets on the registers' side, so that the memory measured is the server's.
    loop = asyncio.get_running_loop()

    async def sign_on() -> socket.socket:
        connected = socket.socket()
        connected.setblocking(False)
        await loop.sock_connect(connected, ("127.0.0.1", shop.port))
        exchange = ClientExchange("T-0001", SECRET, secrets.token_urlsafe(18), SALTED)
        await loop.sock_sendall(connected, encode(Hello((1,), "T-0001", exchange.client_first, "test")))
        challenge = decode((await loop.sock_recv(connected, 4_096))[4:])
        assert isinstance(challenge, Challenge)
        await loop.sock_sendall(connected, encode(Proof(exchange.respond(challenge.server_first))))
        assert isinstance(decode((await loop.sock_recv(connected, 4_096))[4:]), Welcome)
        return connected

    warm = [await sign_on() for _ in range(50)]
    before = psutil.Process().memory_info().rss
    crowd = [await sign_on() for _ in range(CROWD)]
    grown = psutil.Process().memory_info().rss - before
    assert shop.listener.connections == CROWD + 50
    assert grown / CROWD < 8 * 1024
    till = await shop.till("T-0002")
    till.send(redeem(5))
    assert (await till.receive()).answer.points == 5
    for connected in warm + crowd:
        connected.close()
    await until(lambda: shop.listener.connections == 1)
    assert len(shop.reception.wheel) == 1


# Drain.


async def test_draining_answers_what_is_in_flight_and_sends_everybody_on(shop: Shop) -> None:
    busy, idle = await shop.till(), await shop.till("T-0002")
    shop.ledger.hold_back = True
    busy.send(redeem(5))
    await until(lambda: len(shop.ledger.taken) == 1)
    draining = asyncio.create_task(shop.listener.drain(10_000))
    farewell = await busy.receive()
    assert (farewell.reason, 1_000 <= farewell.reconnect_after_ms <= 2_000) == (Goodbye.DRAIN, True)
    assert await idle.farewell() == Goodbye.DRAIN
    with pytest.raises(OSError, match=r".*"):
        await asyncio.open_connection("127.0.0.1", shop.port)
    late = redeem(6)
    busy.send(late)
    error = await busy.receive()
    assert (error.request_id, error.code) == (late.request_id, ErrorCode.BUSY)
    assert not draining.done()
    shop.ledger.answer_all()
    assert (await busy.receive()).answer.points == 5
    with pytest.raises(EOFError):
        await busy.receive()
    for till in (busy, idle):
        till.writer.close()
    await draining
    assert shop.listener.connections == 0
    await shop.listener.drain(10_000)


async def test_a_drain_ends_even_if_an_answer_never_comes(shop: Shop) -> None:
    till = await shop.till()
    shop.ledger.hold_back = True
    till.send(redeem(5))
    await until(lambda: len(shop.ledger.taken) == 1)
    await shop.listener.drain(50)
    await shop.listener.stop()
    assert shop.listener.connections == 0
    # The answer that comes after all goes nowhere and breaks nothing.
    shop.ledger.answer_all()


# TLS.


async def test_a_register_signs_on_over_tls_and_a_plain_one_does_not(tmp_path: Path) -> None:
    cert_file, key_file = certificate(tmp_path, "server")
    trusting = ssl.create_default_context(cafile=str(cert_file))
    async with open_shop(server_context(cert_file, key_file), handshake_timeout_ms=1_000) as shop:
        till = await shop.connect(ssl=trusting, server_hostname="localhost")
        assert isinstance(await till.sign_on(), Welcome)
        asked = redeem(5)
        till.send(asked)
        assert (await till.receive()).answer.points == 5
        # It was read into the one buffer that all sessions share, and not into a new one of the loop's.
        assert asked.request_id in bytes(shop.reception.read_buffer)
        plain = await shop.connect()
        plain.send(Hello((1,), "T-0001", "n,,n=T-0001,r=abcdefgh", ""))
        assert await nothing_but_tls(plain)
        stranger = await shop.connect(ssl=trusting, server_hostname="localhost")
        stranger.send_bytes(b"x" * 100)
        assert (await stranger.receive()).reason == Goodbye.TOO_LARGE


async def nothing_but_tls(till: Till) -> bool:
    try:
        await till.receive()
    except Exception:  # noqa: BLE001 - an alert is no frame, and a reset is no answer either
        return True
    return False


async def test_with_a_client_authority_a_register_needs_its_certificate(tmp_path: Path) -> None:
    cert_file, key_file = certificate(tmp_path, "server")
    client_cert, client_key = certificate(tmp_path, "client")
    trusting = ssl.create_default_context(cafile=str(cert_file))
    async with open_shop(server_context(cert_file, key_file, client_cert)) as shop:
        stranger = await shop.connect(ssl=trusting, server_hostname="localhost")
        stranger.send(Hello((1,), "T-0001", "n,,n=T-0001,r=abcdefgh", ""))
        assert await nothing_but_tls(stranger)
        trusting.load_cert_chain(client_cert, client_key)
        till = await shop.connect(ssl=trusting, server_hostname="localhost")
        assert isinstance(await till.sign_on(), Welcome)


async def test_a_fleet_that_reconnects_at_once_fits_into_the_backlog(shop: Shop) -> None:
    # Nothing is accepted meanwhile, since this loop is the server's own. Left alone, it keeps a hundred waiting.
    fleet = [socket.create_connection(("127.0.0.1", shop.port), timeout=20) for _ in range(120)]
    await until(lambda: shop.listener.connections == len(fleet))
    for register in fleet:
        register.close()
