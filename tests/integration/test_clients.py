"""Both clients in the same scenarios, against a small server on the sans-I/O connection that misbehaves on demand."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from protocol.answers import Balance, encode_body
from protocol.blocking import BlockingClient
from protocol.client import Client
from protocol.codes import ErrorCode, Goodbye, Message, Outcome
from protocol.events import PingReceived
from protocol.requests import Card, EarnRequest, Receipt, RedeemRequest, Request, ReverseRequest
from protocol.retry import Backoff
from protocol.steady_clock import SteadyClock
from protocol.ticket import InDoubt, NoAnswer, Refused, Rejected, Reply, Unanswered
from protocol.ticket_book import Timing
from tests.integration.misbehaving_server import LIMITS, PROFILE, SECRET, MisbehavingServer, Till

CARD = Card(1, "2000000000015")
RECEIPT = Receipt(2500, "EUR", "0042-1")
QUICK = Timing(
    connect_ms=1_000,
    answer_margin_ms=0,
    pong_ms=10_000,
    patience_ms=30_000,
    reversal_patience_ms=30_000,
    backoff=Backoff(first_ms=4, cap_ms=20),
)


@dataclass
class MemoryStore:
    """What a register's store would hold after each call."""

    held: dict[bytes, Request] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)

    def put(self, request: Request) -> None:
        self.held[request.request_id] = request
        self.log.append(f"put {request.op.name}")

    def replace(self, original: Request, reversal: Request) -> None:
        del self.held[original.request_id]
        self.held[reversal.request_id] = reversal
        self.log.append(f"replace {original.op.name}")

    def done(self, request_id: bytes) -> None:
        self.log.append(f"done {self.held.pop(request_id).op.name}")


def _run_blocking(requests: list[Request], port: int, options: dict[str, Any]) -> list[Reply | Unanswered]:
    with BlockingClient("127.0.0.1", port, "T-0001", **options) as client:
        return client.request_many(requests)


async def _run_asyncio(requests: list[Request], port: int, options: dict[str, Any]) -> list[Reply | Unanswered]:
    async with Client("127.0.0.1", port, "T-0001", **options) as client:
        results = await asyncio.gather(*[client.request(request) for request in requests], return_exceptions=True)
    for result in results:
        if not isinstance(result, Reply | Unanswered):
            raise result
    return results  # type: ignore[return-value]


Runner = Callable[..., list[Reply | Unanswered]]


@pytest.fixture(params=["blocking", "asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Runner:
    def runner(server_port: int, *requests: Request, **options: Any) -> list[Reply | Unanswered]:
        options = {"secret": SECRET, "timing": QUICK, **options}
        if request.param == "blocking":
            return _run_blocking(list(requests), server_port, options)
        loop_factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.SelectorEventLoop
        with asyncio.Runner(loop_factory=loop_factory) as loop:
            return loop.run(_run_asyncio(list(requests), server_port, options))

    return runner


@pytest.fixture
def server() -> Iterator[MisbehavingServer]:
    server = MisbehavingServer()
    yield server
    server.close()


_ids = iter(range(1, 10**6))


def _redeem(ttl_ms: int = 0) -> RedeemRequest:
    return RedeemRequest(next(_ids).to_bytes(16), ttl_ms, CARD, 500, RECEIPT)


def _earn() -> EarnRequest:
    return EarnRequest(next(_ids).to_bytes(16), 0, CARD, RECEIPT, None, 0)


def _reply(results: list[Reply | Unanswered]) -> Reply:
    assert len(results) == 1
    assert isinstance(results[0], Reply), results[0]
    return results[0]


def test_an_answer(server: MisbehavingServer, run: Runner) -> None:
    request, store = _redeem(), MemoryStore()
    reply = _reply(run(server.port, request, store=store))
    assert (reply.outcome, reply.points, reply.request_id, reply.replayed) == (0, 500, request.request_id, False)
    assert reply.balance == Balance(750, 0, 0, 0, 0, 0)
    assert server.requests == [request]
    assert store.log == ["put REDEEM", "done REDEEM"]


def test_a_decline_is_an_answer(server: MisbehavingServer, run: Runner) -> None:
    declined = encode_body(Outcome.INSUFFICIENT, 0, 0, None)
    server.script = [lambda till, request: till.connection.send_answer(request.request_id, False, declined)]
    assert _reply(run(server.port, _redeem())).outcome == Outcome.INSUFFICIENT
    assert len(server.requests) == 1


def test_many_in_flight_and_answers_in_another_order(server: MisbehavingServer, run: Runner) -> None:
    requests = [_redeem() for _ in range(20)]

    def answer_backwards(till: Till, _: Request) -> None:
        if len(server.requests) == len(requests):
            for request in reversed(server.requests):
                till.approve(request)

    server.script = [answer_backwards] * len(requests)
    replies = run(server.port, *requests)
    assert [reply.request_id for reply in replies] == [request.request_id for request in requests]
    assert server.connections == 1


def test_no_more_in_flight_than_the_server_allows(server: MisbehavingServer, run: Runner) -> None:
    server.limits = LIMITS._replace(in_flight_max=3)
    requests = [_redeem() for _ in range(10)]
    assert all(isinstance(reply, Reply) for reply in run(server.port, *requests))
    assert server.requests == requests


def test_a_dropped_answer_is_fetched_with_the_same_id(server: MisbehavingServer, run: Runner) -> None:
    server.script = [Till.take_effect_without_answer]
    request = _redeem(ttl_ms=40)
    reply = _reply(run(server.port, request))
    assert reply.replayed
    assert len(server.requests) > 1
    assert set(server.requests) == {request}
    assert server.connections == 1, "the line answered PING, so it is alive"
    assert server.pings >= 1


def test_a_line_cut_in_the_middle_of_the_answer(server: MisbehavingServer, run: Runner) -> None:
    server.script = [Till.cut_in_the_middle_of_the_answer]
    request = _redeem()
    assert _reply(run(server.port, request)).replayed
    assert server.requests == [request, request]
    assert server.connections == 2


def test_a_dead_line_is_noticed_and_replaced(server: MisbehavingServer, run: Runner) -> None:
    def fall_silent(till: Till, request: Request) -> None:
        till.take_effect_without_answer(request)
        till.silent = True

    server.script = [fall_silent]
    request = _redeem(ttl_ms=40)
    assert _reply(run(server.port, request, timing=replace(QUICK, pong_ms=100))).replayed
    assert server.connections > 1
    assert set(server.requests) == {request}


def test_busy_is_waited_out(server: MisbehavingServer, run: Runner) -> None:
    server.script = [lambda till, request: till.refuse(request, ErrorCode.BUSY, 30)] * 2
    request = _redeem()
    assert _reply(run(server.port, request)).approved
    assert server.requests == [request] * 3


@pytest.mark.parametrize("code", [ErrorCode.EXPIRED, ErrorCode.UNAVAILABLE, 4711])
def test_errors_that_are_tried_again(server: MisbehavingServer, run: Runner, code: int) -> None:
    server.script = [lambda till, request: till.connection.send_error(request.request_id, code, "", 0)]
    request = _redeem()
    assert _reply(run(server.port, request)).approved
    assert server.requests == [request, request]


@pytest.mark.parametrize("code", [ErrorCode.MALFORMED, ErrorCode.UNSUPPORTED, ErrorCode.ID_REUSED])
def test_errors_that_are_final(server: MisbehavingServer, run: Runner, code: ErrorCode) -> None:
    server.script = [lambda till, request: till.refuse(request, code)]
    store = MemoryStore()
    (failure,) = run(server.port, _redeem(), store=store)
    assert isinstance(failure, Refused)
    assert (failure.code, failure.text) == (code, "because")
    assert len(server.requests) == 1
    assert store.held == {}


def test_busy_for_ever_ends_without_reversal(server: MisbehavingServer, run: Runner) -> None:
    server.script = [lambda till, request: till.refuse(request, ErrorCode.BUSY)] * 10_000
    store = MemoryStore()
    (failure,) = run(server.port, _redeem(), timing=replace(QUICK, patience_ms=60), store=store)
    assert isinstance(failure, Refused)
    assert failure.code == ErrorCode.BUSY
    assert {request.op for request in server.requests} == {Message.REDEEM}
    assert store.held == {}


def test_a_redeem_in_doubt_is_reversed(server: MisbehavingServer, run: Runner) -> None:
    def ignore_redeem(till: Till, request: Request) -> None:
        if request.op is Message.REVERSE:
            till.approve(request)

    server.script = [ignore_redeem] * 10_000
    request, store = _redeem(ttl_ms=20), MemoryStore()
    reply = _reply(run(server.port, request, timing=replace(QUICK, patience_ms=80), store=store))
    assert (reply.outcome, reply.points, reply.request_id) == (Outcome.REVERSED, 0, request.request_id)
    assert not reply.approved
    reversal = server.requests[-1]
    assert isinstance(reversal, ReverseRequest)
    assert (reversal.original_id, reversal.card) == (request.request_id, CARD)
    assert reply.reversal_id == reversal.request_id != request.request_id
    assert store.log == ["put REDEEM", "replace REDEEM", "done REVERSE"]


def test_the_reversal_is_repeated_with_its_own_id(server: MisbehavingServer, run: Runner) -> None:
    reversals: list[Request] = []

    def answer_the_third_reversal(till: Till, request: Request) -> None:
        if request.op is Message.REVERSE:
            reversals.append(request)
            if len(reversals) == 3:
                till.approve(request)
            else:
                till.refuse(request, ErrorCode.UNAVAILABLE)

    server.script = [answer_the_third_reversal] * 10_000
    reply = _reply(run(server.port, _redeem(ttl_ms=20), timing=replace(QUICK, patience_ms=60)))
    assert reply.outcome == Outcome.REVERSED
    assert len(reversals) == 3
    assert len(set(reversals)) == 1


@pytest.mark.parametrize(
    ("outcome", "settled"), [(Outcome.UNKNOWN_CARD, True), (Outcome.BAD_CARD, True), (Outcome.NOT_PERMITTED, False)]
)
def test_a_declined_reversal(server: MisbehavingServer, run: Runner, outcome: Outcome, settled: bool) -> None:
    def decline_reversal(till: Till, request: Request) -> None:
        if request.op is Message.REVERSE:
            till.connection.send_answer(request.request_id, False, encode_body(outcome, 0, 0, None))

    server.script = [decline_reversal] * 10_000
    store = MemoryStore()
    (result,) = run(server.port, _redeem(ttl_ms=20), timing=replace(QUICK, patience_ms=60), store=store)
    assert isinstance(result, Reply if settled else InDoubt)
    assert (store.held == {}) == settled


def test_in_doubt_only_if_even_the_reversal_finds_no_answer(server: MisbehavingServer, run: Runner) -> None:
    server.script = [lambda _till, _request: None] * 10_000
    request, store = _redeem(ttl_ms=20), MemoryStore()
    timing = replace(QUICK, patience_ms=60, reversal_patience_ms=60)
    (failure,) = run(server.port, request, timing=timing, store=store)
    assert isinstance(failure, InDoubt)
    assert failure.request_id == request.request_id
    (reversal,) = store.held.values()
    assert isinstance(reversal, ReverseRequest)
    assert (reversal.request_id, reversal.original_id) == (failure.reversal_id, request.request_id)


def test_an_earn_in_doubt_is_kept_and_not_reversed(server: MisbehavingServer, run: Runner) -> None:
    server.script = [lambda _till, _request: None] * 10_000
    request, store = _earn(), MemoryStore()
    (failure,) = run(server.port, request, timing=replace(QUICK, patience_ms=60), store=store)
    assert isinstance(failure, InDoubt)
    assert failure.reversal_id is None
    assert store.held == {request.request_id: request}
    assert {r.op for r in server.requests} == {Message.EARN}


def test_nobody_there_is_no_doubt(run: Runner) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    store, earn = MemoryStore(), _earn()
    first, second = run(port, _redeem(), earn, timing=replace(QUICK, patience_ms=80), store=store)
    assert type(first) is NoAnswer
    assert type(second) is NoAnswer
    assert store.held == {earn.request_id: earn}, "what is to be kept is sent later"


def test_the_server_comes_back(run: Runner) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    servers: list[MisbehavingServer] = []

    timer = threading.Timer(0.1, lambda: servers.append(MisbehavingServer(port=port)))
    timer.start()
    try:
        assert _reply(run(port, _redeem())).approved
    finally:
        timer.join()
        servers[0].close()


def test_a_drain_is_obeyed(server: MisbehavingServer, run: Runner) -> None:
    server.limits = LIMITS._replace(in_flight_max=2)
    requests = [_redeem(), _redeem(), _redeem()]

    def drain(till: Till, request: Request) -> None:
        till.connection.goodbye(Goodbye.DRAIN, "restarting", 10)
        till.approve(request)

    server.script = [drain]
    results = run(server.port, *requests)
    assert all(isinstance(result, Reply) for result in results)
    assert server.connections == 2
    assert server.requests == requests, "what was in flight was answered on the old line, the rest went to the new one"


@pytest.mark.parametrize("reason", [Goodbye.IDLE, Goodbye.INTERNAL, Goodbye.BUSY, Goodbye.NORMAL])
def test_goodbyes_after_which_it_connects_again(server: MisbehavingServer, run: Runner, reason: Goodbye) -> None:
    server.script = [lambda till, _: till.connection.goodbye(reason, "bye", 10)]
    request = _redeem()
    assert _reply(run(server.port, request)).approved
    assert server.requests == [request, request]
    assert server.connections == 2


def test_too_many_connections_at_first(server: MisbehavingServer, run: Runner) -> None:
    def busy_twice(till: Till) -> bool:
        if till.number < 3:
            till.connection.goodbye(Goodbye.BUSY, "too many connections", 10)
        return till.number >= 3

    server.greeting = busy_twice
    assert _reply(run(server.port, _redeem())).approved
    assert server.connections == 3


def test_a_wrong_secret_is_told_at_once_and_not_tried_again(server: MisbehavingServer, run: Runner) -> None:
    store = MemoryStore()
    first, second = run(server.port, _redeem(), _redeem(), secret="another secret", store=store)
    for failure in (first, second):
        assert isinstance(failure, Rejected)
        assert failure.reason == Goodbye.AUTH_FAILED
    assert server.connections == 1
    assert server.requests == []
    assert store.held == {}


def test_a_suspended_terminal_with_a_request_in_doubt(server: MisbehavingServer, run: Runner) -> None:
    def suspend(till: Till) -> bool:
        if till.number == 2:
            till.connection.goodbye(Goodbye.SUSPENDED, "ask the operator")
        return till.number == 1

    server.greeting = suspend
    server.script = [Till.cut_in_the_middle_of_the_answer]
    store = MemoryStore()
    (failure,) = run(server.port, _redeem(), store=store)
    assert isinstance(failure, InDoubt)
    assert [request.request_id for request in store.held.values()] == [failure.reversal_id]
    assert server.connections == 2


def test_a_server_that_cannot_prove_itself_gets_no_request(server: MisbehavingServer, run: Runner) -> None:
    good = server._credentials
    server._credentials = replace(good, server_key=bytes(32))
    (failure,) = run(server.port, _redeem())
    assert isinstance(failure, Rejected)
    assert server.requests == []


def test_heartbeats_go_out_while_nothing_else_does(server: MisbehavingServer, run: Runner) -> None:
    server.limits = LIMITS._replace(heartbeat_ms=100)
    server.script = [lambda _till, _request: None]
    happen = server._happen

    def answer_after_two_heartbeats(till: Till, event: object) -> None:
        happen(till, event)
        if isinstance(event, PingReceived) and server.pings == 2:
            till.approve(server.requests[0])

    server._happen = answer_after_two_heartbeats  # type: ignore[method-assign]
    assert _reply(run(server.port, _redeem(ttl_ms=30_000), timing=replace(QUICK, patience_ms=60_000))).approved
    assert server.pings >= 2


def test_the_same_id_cannot_be_under_way_twice(server: MisbehavingServer, run: Runner) -> None:
    request = _redeem()
    with pytest.raises(ValueError, match="id"):
        run(server.port, request, request)


@dataclass(frozen=True)
class Certificate:
    """A self-signed certificate for localhost, as two files' contents in one."""

    path: Path

    @property
    def server_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.path)
        return context


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + signed.public_bytes(serialization.Encoding.PEM))
    return Certificate(path)


def test_tls(server: MisbehavingServer, run: Runner, certificate: Certificate) -> None:
    server.tls = certificate.server_context
    server.script = [Till.take_effect_without_answer]
    trusting = ssl.create_default_context(cafile=certificate.path)
    requests = [_redeem(ttl_ms=200), _redeem(), _redeem()]
    assert all(isinstance(reply, Reply) for reply in run(server.port, *requests, tls=trusting))


def test_an_unknown_issuer_gets_no_word(server: MisbehavingServer, run: Runner, certificate: Certificate) -> None:
    server.tls = certificate.server_context
    timing = replace(QUICK, patience_ms=150)
    (failure,) = run(server.port, _redeem(), tls=ssl.create_default_context(), timing=timing)
    assert type(failure) is NoAnswer
    assert server.requests == []


async def test_every_operation_of_the_asyncio_client(server: MisbehavingServer) -> None:
    async with Client("127.0.0.1", server.port, "T-0001", SECRET, timing=QUICK) as till:
        assert (await till.balance(CARD)).greeting == "Anna"
        held = await till.hold(CARD, 500, RECEIPT, hold_ms=1_000)
        await till.redeem(CARD, 500, RECEIPT, allow_partial=True)
        await till.capture(CARD, held.request_id, 0, RECEIPT)
        await till.release(CARD, held.request_id)
        await till.earn(CARD, RECEIPT)
        sold = await till.sale(CARD, RECEIPT, 500)
        await till.refund(CARD, sold.request_id, RECEIPT)
        await till.reverse(CARD, sold.request_id)
        await till.status(CARD, sold.request_id)
        await till.activate(CARD)
        await till.block(CARD, 1)
        await till.replace(CARD, Card(5, "wallet-7Hq2ZkP0"))
        assert till.profile == PROFILE
        assert till.connected
    operations = [m for m in Message if Message.BALANCE <= m < Message.ANSWER]
    assert sorted(request.op for request in server.requests) == operations
    earn = next(request for request in server.requests if isinstance(request, EarnRequest))
    assert abs(earn.sale_time_ms - SteadyClock()() - 60_000) < 30_000, "the server's clock is a minute ahead"


def test_every_operation_of_the_blocking_client(server: MisbehavingServer) -> None:
    with BlockingClient("127.0.0.1", server.port, "T-0001", SECRET, timing=QUICK) as till:
        assert till.balance(CARD).greeting == "Anna"
        held = till.hold(CARD, 500, RECEIPT, hold_ms=1_000)
        till.redeem(CARD, 500, RECEIPT, allow_partial=True)
        till.capture(CARD, held.request_id, 0, RECEIPT)
        till.release(CARD, held.request_id)
        till.earn(CARD, RECEIPT)
        sold = till.sale(CARD, RECEIPT, 500)
        till.refund(CARD, sold.request_id, RECEIPT)
        till.reverse(CARD, sold.request_id)
        till.status(CARD, sold.request_id)
        till.activate(CARD)
        till.block(CARD, 1)
        till.replace(CARD, Card(5, "wallet-7Hq2ZkP0"))
        assert till.profile == PROFILE
        assert till.connected
    operations = [m for m in Message if Message.BALANCE <= m < Message.ANSWER]
    assert sorted(request.op for request in server.requests) == operations


def test_a_line_that_died_between_two_calls_is_noticed_before_sending(server: MisbehavingServer) -> None:
    with BlockingClient("127.0.0.1", server.port, "T-0001", SECRET, timing=QUICK) as till:
        till.balance(CARD)
        server.tills[0].hang_up()
        till.keep_alive()
        assert not till.connected
        assert till.balance(CARD).approved
    assert len(server.requests) == 2


def test_connecting_without_a_request(server: MisbehavingServer) -> None:
    with BlockingClient("127.0.0.1", server.port, "T-0001", SECRET, timing=QUICK) as till:
        assert till.connect(30_000) == PROFILE
        assert till.connect(30_000) == PROFILE
    assert (server.connections, server.requests) == (1, [])
    stranger = BlockingClient("127.0.0.1", server.port, "T-0001", "another secret", timing=QUICK)
    with stranger, pytest.raises(Rejected):
        stranger.connect(30_000)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with BlockingClient("127.0.0.1", port, "T-0001", SECRET, timing=QUICK) as till:
        assert till.connect(50) is None


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


async def test_closing_twice_and_with_requests_under_way(server: MisbehavingServer) -> None:
    server.script = [lambda _till, _request: None] * 100
    store = MemoryStore()
    till = Client("127.0.0.1", server.port, "T-0001", SECRET, timing=QUICK, store=store)
    async with till:
        request = _redeem()
        asking = asyncio.ensure_future(till.request(request))
        await _until(lambda: bool(server.requests))
        await till.close()
        with pytest.raises(InDoubt):
            await asking
        await till.close()
    assert [held.op for held in store.held.values()] == [Message.REVERSE]
    with pytest.raises(NoAnswer):
        await till.request(_redeem())


async def test_a_caller_that_is_cancelled_leaves_the_request_under_way(server: MisbehavingServer) -> None:
    server.script = [lambda till, request: till.refuse(request, ErrorCode.BUSY, 30)]
    store = MemoryStore()
    async with Client("127.0.0.1", server.port, "T-0001", SECRET, timing=QUICK, store=store) as till:
        asking = asyncio.ensure_future(till.request(_redeem()))
        await _until(lambda: bool(server.requests))
        asking.cancel()
        await _until(lambda: not store.held)
    assert len(server.effects) == 1
