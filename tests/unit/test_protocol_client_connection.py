import pytest

from protocol.answers import encode_body
from protocol.client_connection import ClientConnection
from protocol.codes import ErrorCode, Goodbye
from protocol.events import Closed, Draining, PongReceived, Welcomed
from protocol.messages import AnswerMessage, ErrorMessage, answer_frame, decode, encode
from protocol.requests import BalanceRequest, Card
from protocol.scram import ServerExchange, credentials, salted_key
from protocol.session import Challenge, Farewell, Hello, Limits, Ping, Pong, Profile, Proof, Welcome

SECRET = "Zq7-vNfK3mPw9sXt2LdYhR5b"
SALT = bytes(range(16))
KNOWN = credentials(SECRET, SALT, 4_096)
LIMITS = Limits(65_536, 2, 20_000, 60_000, 5_000, 30_000)
PROFILE = Profile("Demo Grocery", "EUR", (16,))
BODY = encode_body(0, 0, 0, None)


def request(number: int = 1) -> BalanceRequest:
    return BalanceRequest(number.to_bytes(16), 0, Card(1, "2000000000015"))


def sent(connection: ClientConnection) -> list[object]:
    data = connection.data_to_send()
    found: list[object] = []
    while data:
        end = 4 + int.from_bytes(data[:4])
        found.append(decode(data[4:end]))
        data = data[end:]
    return found


def challenged() -> tuple[ClientConnection, ServerExchange, str]:
    connection = ClientConnection("T-0001", SECRET, "client-nonce", 0, software="AcmePOS 4.2")
    (hello,) = sent(connection)
    assert isinstance(hello, Hello)
    assert (hello.versions, hello.terminal_id, hello.software) == ((1,), "T-0001", "AcmePOS 4.2")
    server = ServerExchange(hello.client_first)
    assert connection.receive_data(encode(Challenge(1, server.challenge(KNOWN, "server-nonce"))), 10) == []
    (proof,) = sent(connection)
    assert isinstance(proof, Proof)
    return connection, server, server.verify(proof.client_final)


def ready() -> ClientConnection:
    connection, _, server_final = challenged()
    welcome = encode(Welcome(server_final, 1_000, LIMITS, PROFILE))
    assert connection.receive_data(welcome, 20) == [Welcomed(1_000, LIMITS, PROFILE)]
    return connection


def test_a_request_and_its_answer() -> None:
    connection = ready()
    connection.send_request(request(), 30)
    assert sent(connection) == [request()]
    assert connection.in_flight == 1
    (answer,) = connection.receive_data(answer_frame(request().request_id, True, BODY), 40)
    assert isinstance(answer, AnswerMessage)
    assert (answer.request_id, answer.replayed, answer.body) == (request().request_id, True, BODY)
    assert connection.in_flight == 0


def test_errors_settle_a_request_too() -> None:
    connection = ready()
    connection.send_request(request(), 30)
    error = ErrorMessage(request().request_id, ErrorCode.BUSY, "busy", 250)
    assert connection.receive_data(encode(error), 40) == [error]
    assert connection.in_flight == 0


def test_nothing_is_sent_before_the_server_has_proved_itself() -> None:
    connection, _, server_final = challenged()
    assert not connection.can_send
    with pytest.raises(RuntimeError):
        connection.send_request(request(), 15)
    impostor = server_final.replace("v=", "v=A")[:-2] + "="
    (closed,) = connection.receive_data(encode(Welcome(impostor, 0, LIMITS, PROFILE)), 20)
    assert isinstance(closed, Closed)
    assert (closed.reason, closed.by_peer) == (Goodbye.AUTH_FAILED, False)
    assert (connection.closed, connection.data_to_send()) == (True, b"")


def test_a_challenge_that_is_not_acceptable_is_not_answered() -> None:
    connection = ClientConnection("T-0001", SECRET, "client-nonce", 0)
    connection.data_to_send()
    (closed,) = connection.receive_data(encode(Challenge(1, "r=other-nonce,s=AAAA,i=4096")), 10)
    assert isinstance(closed, Closed)
    assert closed.reason == Goodbye.AUTH_FAILED
    assert connection.data_to_send() == b""


def test_a_version_that_was_not_offered_ends_it() -> None:
    connection = ClientConnection("T-0001", SECRET, "client-nonce", 0)
    connection.data_to_send()
    assert connection.receive_data(encode(Challenge(2, "x")), 10) == [
        Closed(Goodbye.VERSION, "version 2 was not offered")
    ]


@pytest.mark.parametrize("early", [Welcome("v=AAAA", 0, LIMITS, PROFILE), Pong(1, 1), Proof("x"), Ping(1)])
def test_messages_at_the_wrong_time_end_it(early: Welcome | Pong | Proof | Ping) -> None:
    connection = ClientConnection("T-0001", SECRET, "client-nonce", 0)
    connection.data_to_send()
    (closed,) = connection.receive_data(encode(early), 10)
    assert isinstance(closed, Closed)
    assert closed.reason == Goodbye.PROTOCOL


def test_what_a_later_server_sends_is_ignored() -> None:
    connection = ready()
    later = b"\x92\x46\x01"  # type 70
    assert connection.receive_data(len(later).to_bytes(4) + later + encode(Pong(1, 2)), 30) == [PongReceived(1, 2)]


def test_garbage_ends_it() -> None:
    connection = ready()
    (closed,) = connection.receive_data(b"\0\0\0\x01\xc1", 30)
    assert isinstance(closed, Closed)
    assert closed.reason == Goodbye.PROTOCOL
    assert sent(connection) == [Farewell(Goodbye.PROTOCOL, closed.text)]
    connection = ready()
    (closed,) = connection.receive_data(b"\x7f\0\0\0", 30)
    assert isinstance(closed, Closed)
    assert closed.reason == Goodbye.TOO_LARGE


def test_in_flight_is_bounded_and_forgetting_makes_room() -> None:
    connection = ready()
    connection.send_request(request(1), 30)
    connection.send_request(request(2), 30)
    with pytest.raises(RuntimeError):
        connection.send_request(request(3), 30)
    connection.forget(request(1).request_id)
    connection.send_request(request(3), 30)
    assert connection.receive_data(answer_frame(request(1).request_id, False, BODY), 40)
    assert connection.in_flight == 2


def test_the_heartbeat() -> None:
    connection = ready()
    assert connection.next_deadline_ms() == 10 + 20_000
    connection.send_request(request(), 5_000)
    connection.data_to_send()
    assert connection.next_deadline_ms() == 25_000
    assert connection.handle_timeout(24_999) == []
    assert sent(connection) == []
    assert connection.handle_timeout(25_000) == []
    assert sent(connection) == [Ping(1)]
    assert connection.receive_data(encode(Pong(1, 9)), 25_100) == [PongReceived(1, 9)]
    assert connection.handle_timeout(45_000) == []
    assert sent(connection) == [Ping(2)]
    assert connection.handle_timeout(64_999) == []
    assert connection.handle_timeout(65_000) == [
        Closed(Goodbye.IDLE, "no sign of the server within 20000 ms after PING")
    ]


def test_asking_again_does_not_keep_a_dead_line_alive() -> None:
    connection = ready()
    connection.ping(1_000)
    connection.ping(20_000)
    (closed,) = connection.handle_timeout(21_000)
    assert isinstance(closed, Closed)
    assert closed.reason == Goodbye.IDLE


def test_any_byte_is_a_sign_of_life() -> None:
    connection = ready()
    connection.ping(1_000)
    connection.receive_data(b"\0", 1_001)
    assert connection.handle_timeout(1_000 + 20_000 - 1) == []
    assert connection.handle_timeout(1_000 + 20_000) == []
    assert not connection.closed


def test_a_server_that_asks_is_answered() -> None:
    connection = ready()
    assert connection.receive_data(encode(Ping(7)), 30) == []
    assert sent(connection) == [Pong(7, 30)]


def test_the_handshake_takes_no_longer_than_allowed() -> None:
    connection = ClientConnection("T-0001", SECRET, "client-nonce", 1_000, handshake_timeout_ms=500)
    assert connection.next_deadline_ms() == 1_500
    assert connection.handle_timeout(1_499) == []
    assert connection.handle_timeout(1_500) == [Closed(Goodbye.SLOW, "the handshake took too long")]
    assert connection.next_deadline_ms() is None


def test_a_drain_waits_for_what_is_in_flight() -> None:
    connection = ready()
    connection.send_request(request(), 30)
    drain = encode(Farewell(Goodbye.DRAIN, "restarting", 2_000))
    assert connection.receive_data(drain, 40) == [Draining("restarting", 2_000)]
    assert not connection.can_send
    answer, closed = connection.receive_data(answer_frame(request().request_id, False, BODY), 50)
    assert isinstance(answer, AnswerMessage)
    assert isinstance(closed, Closed)
    assert (closed.reason, closed.reconnect_after_ms, closed.by_peer) == (Goodbye.DRAIN, 2_000, False)


def test_a_drain_with_nothing_in_flight_and_one_cut_short() -> None:
    connection = ready()
    drain = encode(Farewell(Goodbye.DRAIN, "restarting", 2_000))
    assert connection.receive_data(drain, 40) == [Closed(Goodbye.DRAIN, "restarting", True, 2_000)]
    connection = ready()
    connection.send_request(request(), 30)
    connection.receive_data(drain, 40)
    assert connection.receive_eof() == [Closed(Goodbye.DRAIN, "closed by the server", True, 2_000)]
    assert connection.receive_eof() == []


def test_any_other_goodbye_ends_it_at_once() -> None:
    connection = ready()
    connection.send_request(request(), 30)
    assert connection.receive_data(encode(Farewell(99, "later", 5)), 40) == [Closed(99, "later", True, 5)]
    assert connection.in_flight == 0
    assert connection.receive_data(encode(Pong(1, 1)), 41) == []


def test_the_register_says_goodbye_once() -> None:
    connection = ready()
    connection.goodbye()
    connection.goodbye()
    assert sent(connection) == [Farewell(Goodbye.NORMAL, "")]


def test_the_salted_key_can_be_kept_for_the_next_connection() -> None:
    connection = ready()
    assert connection.salted == salted_key(SECRET, SALT, 4_096)


def test_connections_are_small() -> None:
    assert not hasattr(ClientConnection("T-0001", SECRET, "client-nonce", 0), "__dict__")
