"""Both clients connect, again after most farewells and never after a final one, keep the line alive and speak TLS."""

import socket
import ssl
import threading
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from protocol.codes import Goodbye
from protocol.events import PingReceived
from protocol.requests import Request
from protocol.ticket import NoAnswer, Rejected, Reply
from tests.rigs.clients_rig import QUICK, MemoryStore, Runner, new_redeem, only_reply, run, server
from tests.rigs.misbehaving_server import LIMITS, MisbehavingServer, Till

__all__ = ["run", "server"]


def test_the_server_comes_back(run: Runner) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    servers: list[MisbehavingServer] = []

    timer = threading.Timer(0.1, lambda: servers.append(MisbehavingServer(port=port)))
    timer.start()
    try:
        assert only_reply(run(port, new_redeem())).approved
    finally:
        timer.join()
        servers[0].close()


def test_a_drain_is_obeyed(server: MisbehavingServer, run: Runner) -> None:
    server.limits = LIMITS._replace(in_flight_max=2)
    requests = [new_redeem(), new_redeem(), new_redeem()]

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
    request = new_redeem()
    assert only_reply(run(server.port, request)).approved
    assert server.requests == [request, request]
    assert server.connections == 2


def test_too_many_connections_at_first(server: MisbehavingServer, run: Runner) -> None:
    def busy_twice(till: Till) -> bool:
        if till.number < 3:
            till.connection.goodbye(Goodbye.BUSY, "too many connections", 10)
        return till.number >= 3

    server.greeting = busy_twice
    assert only_reply(run(server.port, new_redeem())).approved
    assert server.connections == 3


def test_a_wrong_secret_is_told_at_once_and_not_tried_again(server: MisbehavingServer, run: Runner) -> None:
    store = MemoryStore()
    first, second = run(server.port, new_redeem(), new_redeem(), secret="another secret", store=store)
    for failure in (first, second):
        assert isinstance(failure, Rejected)
        assert failure.reason == Goodbye.AUTH_FAILED
    assert server.connections == 1
    assert server.requests == []
    assert store.held == {}


def test_a_server_that_cannot_prove_itself_gets_no_request(server: MisbehavingServer, run: Runner) -> None:
    good = server._credentials
    server._credentials = replace(good, server_key=bytes(32))
    (failure,) = run(server.port, new_redeem())
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
    assert only_reply(run(server.port, new_redeem(ttl_ms=30_000), timing=replace(QUICK, patience_ms=60_000))).approved
    assert server.pings >= 2


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
    requests = [new_redeem(ttl_ms=200), new_redeem(), new_redeem()]
    assert all(isinstance(reply, Reply) for reply in run(server.port, *requests, tls=trusting))


def test_an_unknown_issuer_gets_no_word(server: MisbehavingServer, run: Runner, certificate: Certificate) -> None:
    server.tls = certificate.server_context
    timing = replace(QUICK, patience_ms=150)
    (failure,) = run(server.port, new_redeem(), tls=ssl.create_default_context(), timing=timing)
    assert type(failure) is NoAnswer
    assert server.requests == []
