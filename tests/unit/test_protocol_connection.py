"""The server's half: what the vectors' dialogues cannot show, such as wrong use by the code around it."""

import pytest

from protocol.codes import ErrorCode, Goodbye
from protocol.connection import ServerConnection, State
from protocol.events import (
    Authenticated,
    BadRequest,
    Closed,
    HelloReceived,
    PingReceived,
    RequestReceived,
    TurnedAway,
)
from protocol.messages import ErrorMessage, decode, encode
from protocol.requests import BalanceRequest, Card, fingerprint
from protocol.scram import ClientExchange, credentials
from protocol.session import Farewell, Hello, Limits, Ping, Profile, Proof

SECRET = "Zq7-vNfK3mPw9sXt2LdYhR5b"
KNOWN = credentials(SECRET, bytes(range(16)), 4_096)
LIMITS = Limits(100, 2, 20_000, 60_000, 5_000, 30_000)
PROFILE = Profile("Demo Grocery", "EUR", (16,))


def request(number: int = 1) -> BalanceRequest:
    return BalanceRequest(number.to_bytes(16), 0, Card(1, "2000000000015"))


def proven() -> tuple[ServerConnection, ClientExchange]:
    connection = ServerConnection(0)
    exchange = ClientExchange("T-0001", SECRET, "client-nonce")
    hello = encode(Hello((1,), "T-0001", exchange.client_first, "AcmePOS 4.2"))
    assert connection.receive_data(hello, 1) == [HelloReceived("T-0001", (1,), "AcmePOS 4.2")]
    connection.challenge(KNOWN, "server-nonce")
    challenge = decode(connection.data_to_send()[4:])
    proof = encode(Proof(exchange.respond(challenge.server_first)))  # type: ignore[union-attr]
    assert connection.receive_data(proof, 2) == [Authenticated("T-0001")]
    return connection, exchange


def ready() -> ServerConnection:
    connection, exchange = proven()
    connection.welcome(3, LIMITS, PROFILE)
    welcome = decode(connection.data_to_send()[4:])
    exchange.verify(welcome.server_final)  # type: ignore[union-attr]
    return connection


def last_message(connection: ServerConnection) -> object:
    return decode(connection.data_to_send()[4:])


def test_a_request_comes_with_the_fingerprint_of_this_terminal() -> None:
    connection = ready()
    assert connection.receive_data(encode(request()), 4) == [
        RequestReceived(request(), fingerprint(request(), "T-0001"))
    ]
    assert connection.in_flight == 1


def test_one_flush_takes_everything_queued() -> None:
    connection = ready()
    connection.receive_data(encode(request(1)) + encode(request(2)), 4)
    connection.send_error(request(1).request_id, ErrorCode.EXPIRED, "late")
    connection.send_error(request(2).request_id, ErrorCode.EXPIRED, "late")
    assert len(connection.data_to_send()) == 2 * (4 + 1 + 1 + 18 + 1 + 5 + 1)
    assert connection.data_to_send() == b""


def test_the_limits_announced_are_enforced() -> None:
    connection = ready()
    found = connection.receive_data((101).to_bytes(4), 4)
    assert found == [Closed(Goodbye.TOO_LARGE, "a frame of 101 bytes; at most 100 are allowed")]


def test_a_refused_request_does_not_count_as_in_flight() -> None:
    connection = ready()
    found = connection.receive_data(b"".join(encode(request(number)) for number in range(5)), 4)
    assert [type(event) for event in found] == [RequestReceived] * 2 + [BadRequest] * 3
    assert connection.in_flight == 2


def test_who_has_too_much_to_do_turns_requests_away_unread() -> None:
    connection = ready()
    unread = b"\x94\x10\xc4\x10" + request(2).request_id + b"\x00not MessagePack"
    found = connection.receive_data(encode(request(1)) + len(unread).to_bytes(4) + unread, 4, busy_after_ms=70)
    assert found == [TurnedAway(16), TurnedAway(16)]
    sent = connection.data_to_send()
    half = len(sent) // 2
    for number, frame in enumerate((sent[:half], sent[half:]), start=1):
        assert decode(frame[4:]) == ErrorMessage(request(number).request_id, ErrorCode.BUSY, "", 70)
    assert connection.in_flight == 0
    assert not connection.closed


def test_what_is_no_request_is_read_however_much_there_is_to_do() -> None:
    connection = ready()
    assert connection.receive_data(encode(Ping(9)), 4, busy_after_ms=70) == [PingReceived(9)]
    found = connection.receive_data(encode(Farewell(Goodbye.NORMAL, "", 0)), 4, busy_after_ms=70)
    assert found == [Closed(Goodbye.NORMAL, "", by_peer=True)]


def test_nobody_is_turned_away_before_signing_on() -> None:
    connection = ServerConnection(0)
    connection.receive_data(encode(request()), 1, busy_after_ms=70)
    assert connection.closed


def test_an_answer_to_nothing_is_a_bug() -> None:
    connection = ready()
    with pytest.raises(RuntimeError, match="in flight"):
        connection.send_answer(bytes(16), False, b"\xc0")
    connection.receive_data(encode(request()), 4)
    connection.send_error(request().request_id, ErrorCode.EXPIRED, "")
    with pytest.raises(RuntimeError, match="in flight"):
        connection.send_error(request().request_id, ErrorCode.EXPIRED, "")


def test_steps_out_of_order_are_bugs() -> None:
    connection = ServerConnection(0)
    with pytest.raises(RuntimeError):
        connection.challenge(KNOWN, "server-nonce")
    with pytest.raises(RuntimeError):
        connection.welcome(0, LIMITS, PROFILE)
    connection = ready()
    with pytest.raises(RuntimeError):
        connection.challenge(KNOWN, "server-nonce")
    with pytest.raises(RuntimeError):
        connection.welcome(0, LIMITS, PROFILE)


def test_what_comes_too_late_does_no_harm() -> None:
    # The credentials or a decision may arrive when the connection has ended meanwhile.
    connection = ready()
    connection.receive_data(encode(request()), 4)
    assert connection.receive_eof() == [Closed(Goodbye.NORMAL, "closed without GOODBYE", by_peer=True)]
    connection.challenge(KNOWN, "server-nonce")
    connection.welcome(0, LIMITS, PROFILE)
    connection.send_answer(request().request_id, False, b"\xc0")
    connection.ping(1)
    connection.goodbye(Goodbye.DRAIN, "restarting")
    connection.goodbye(Goodbye.NORMAL, "")
    assert connection.data_to_send() == b""
    assert connection.receive_data(encode(request()), 5) == []
    assert connection.receive_eof() == []
    assert connection.handle_timeout(10**9) == []
    assert connection.next_deadline_ms() is None


def test_a_failure_drops_what_is_in_flight() -> None:
    connection = ready()
    connection.receive_data(encode(request()), 4)
    connection.fail(Goodbye.INTERNAL, "x" * 1_000)
    assert (connection.closed, connection.in_flight) == (True, 0)
    assert last_message(connection) == Farewell(Goodbye.INTERNAL, "x" * 200)


def test_draining_ends_when_the_time_is_up() -> None:
    connection = ready()
    connection.receive_data(encode(request()), 4)
    connection.goodbye(Goodbye.DRAIN, "restarting", 2_000)
    connection.goodbye(Goodbye.DRAIN, "restarting", 9_000)
    assert connection.state is State.DRAINING
    assert last_message(connection) == Farewell(Goodbye.DRAIN, "restarting", 2_000)
    connection.goodbye(Goodbye.INTERNAL, "took too long")
    assert connection.closed


def test_a_drain_in_the_handshake_closes_at_once() -> None:
    connection, _ = proven()
    connection.goodbye(Goodbye.DRAIN, "restarting", 2_000)
    assert connection.closed
    assert last_message(connection) == Farewell(Goodbye.DRAIN, "restarting", 2_000)


def test_the_server_may_ask_too() -> None:
    connection = ready()
    connection.ping(7)
    assert last_message(connection) == Ping(7)


def test_deadlines() -> None:
    connection = ServerConnection(1_000, handshake_timeout_ms=500)
    assert connection.next_deadline_ms() == 1_500
    connection = ready()
    assert connection.next_deadline_ms() == 60_002
    connection.receive_data(encode(request()), 50_000)
    assert connection.next_deadline_ms() == 110_000
    connection.receive_data(b"\0", 60_000)
    assert connection.next_deadline_ms() == 70_000
    connection.receive_data(b"\0\0\x03", 69_000)
    assert connection.next_deadline_ms() == 70_000
    connection.receive_data(b"\x92\x06\x01", 69_500)
    assert connection.next_deadline_ms() == 129_500
    assert connection.receive_data(b"", 100_000) == []
    assert connection.next_deadline_ms() == 129_500


def test_connections_are_small() -> None:
    assert not hasattr(ServerConnection(0), "__dict__")
