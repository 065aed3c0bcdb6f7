"""The register without I/O, on a clock of the test's: what it waits for, to the millisecond."""

from dataclasses import dataclass, field

import pytest

from protocol import scram
from protocol.answers import encode_body
from protocol.codes import ErrorCode, Goodbye, Message
from protocol.connection import ServerConnection
from protocol.events import Authenticated, HelloReceived, RequestReceived
from protocol.register import Identity, Link, Register
from protocol.requests import Card, Receipt, RedeemRequest, Request, ReverseRequest
from protocol.retry import Backoff
from protocol.session import Limits, Profile
from protocol.ticket import InDoubt, NoStore, Refused, Rejected
from protocol.ticket_book import TicketBook, Timing

CREDENTIALS = scram.credentials("secret", b"salt of the test", 4_096)
LIMITS = Limits(65_536, 64, 20_000, 60_000, 5_000, 30_000)
TIMING = Timing(patience_ms=100_000, reversal_patience_ms=50_000, backoff=Backoff(first_ms=200, cap_ms=5_000))
START_MS = 1_000_000
BODY = encode_body(0, 500, 0, None)


def _redeem(number: int = 1, ttl_ms: int = 0) -> RedeemRequest:
    return RedeemRequest(number.to_bytes(16), ttl_ms, Card(1, "2000000000015"), 500, Receipt(2500, "EUR"))


@dataclass
class Shop:
    """A register and the server's half of its connection, joined by hand; dice always fall in the middle."""

    now_ms: int = START_MS
    seen: list[Request] = field(default_factory=list)

    def __post_init__(self) -> None:
        ids = iter(range(1_000, 2_000))
        book = TicketBook(TIMING, NoStore(), lambda: 0.5, lambda: next(ids).to_bytes(16))
        self.register = Register(
            Identity("T-1", "secret"), TIMING, book, random=lambda: 0.5, random_bytes=bytes, stay_connected=False
        )

    def connect(self) -> None:
        assert self.register.wants_connection(self.now_ms)
        self.register.connecting()
        self.register.connected(self.now_ms)
        self.server = ServerConnection(self.now_ms)
        self.exchange()

    def exchange(self) -> None:
        """Carry bytes both ways until there are none."""
        self.register.tick(self.now_ms)
        while data := self.register.data_to_send():
            for event in self.server.receive_data(data, self.now_ms):
                match event:
                    case HelloReceived():
                        self.server.challenge(CREDENTIALS, "nonce")
                    case Authenticated():
                        self.server.welcome(self.now_ms, LIMITS, Profile("Demo", "EUR", ()))
                    case RequestReceived(request):
                        self.seen.append(request)
            self.hear()

    def hear(self) -> None:
        if data := self.server.data_to_send():
            self.register.received(data, self.now_ms)
        self.register.tick(self.now_ms)

    def quietly(self) -> None:
        """Send, and let nothing come back."""
        self.register.tick(self.now_ms)
        for event in self.server.receive_data(self.register.data_to_send(), self.now_ms):
            if isinstance(event, RequestReceived):
                self.seen.append(event.request)
        self.server.data_to_send()

    def hang_up(self) -> None:
        assert self.register.wants_close
        self.register.disconnected(self.now_ms)


@pytest.fixture
def shop() -> Shop:
    return Shop()


def test_busy_waits_what_the_server_asks_and_then_the_jitter(shop: Shop) -> None:
    ticket = shop.register.submit(_redeem(), shop.now_ms)
    shop.connect()
    shop.server.send_error(_redeem().request_id, ErrorCode.BUSY, "", 3_000)
    shop.hear()
    assert shop.register.next_deadline_ms() == START_MS + 3_000 + 100
    shop.now_ms += 3_099
    shop.exchange()
    assert len(shop.seen) == 1
    shop.now_ms += 1
    shop.exchange()
    assert shop.seen == [_redeem(), _redeem()]
    shop.server.send_answer(_redeem().request_id, False, BODY)
    shop.hear()
    assert ticket.outcome().points == 500


def test_repetitions_wait_longer_and_longer(shop: Shop) -> None:
    shop.register.submit(_redeem(), shop.now_ms)
    shop.connect()
    waits = []
    for _ in range(7):
        shop.server.send_error(_redeem().request_id, ErrorCode.BUSY, "", 0)
        shop.hear()
        waits.append(shop.register.next_deadline_ms() - shop.now_ms)
        shop.now_ms = shop.register.next_deadline_ms()
        shop.exchange()
    assert waits == [100, 200, 400, 800, 1_600, 2_500, 2_500]


def test_silence_asks_for_a_sign_before_it_sends_again(shop: Shop) -> None:
    shop.register.submit(_redeem(ttl_ms=4_000), shop.now_ms)
    shop.connect()
    assert shop.register.next_deadline_ms() == START_MS + 4_000 + TIMING.answer_margin_ms
    shop.now_ms += 5_000
    shop.quietly()
    shop.now_ms += 1_000
    shop.quietly()
    assert len(shop.seen) == 1, "nobody knows yet whether the line is alive"
    assert shop.register.next_deadline_ms() == START_MS + 5_000 + TIMING.pong_ms
    shop.now_ms += 1_000
    shop.register.tick(shop.now_ms)
    shop.hang_up()
    assert shop.register.next_deadline_ms() == shop.now_ms + 100
    shop.now_ms += 100
    shop.connect()
    assert len(shop.seen) == 2


def test_a_refusal_speaks_about_its_own_copy_only(shop: Shop) -> None:
    ticket = shop.register.submit(_redeem(ttl_ms=4_000), shop.now_ms)
    shop.connect()
    shop.now_ms += 5_000
    shop.exchange()
    shop.now_ms += 100
    shop.exchange()
    assert (len(shop.seen), ticket.state.name) == (2, "RESENT")
    shop.server.send_error(_redeem().request_id, ErrorCode.EXPIRED, "", 0)
    shop.hear()
    assert ticket.state.name == "DOUBT"
    shop.now_ms = START_MS + TIMING.patience_ms
    shop.exchange()
    assert ticket.state.name == "REVERSING"
    assert shop.seen[-1].op is Message.REVERSE


def test_reconnecting_waits_what_goodbye_asks(shop: Shop) -> None:
    shop.register.submit(_redeem(), shop.now_ms)
    shop.connect()
    shop.server.goodbye(Goodbye.INTERNAL, "", 7_000)
    shop.hear()
    shop.hang_up()
    shop.now_ms += 7_099
    assert not shop.register.wants_connection(shop.now_ms)
    shop.now_ms += 1
    shop.connect()
    assert len(shop.seen) == 2


def test_connecting_in_vain_backs_off(shop: Shop) -> None:
    shop.register.submit(_redeem(), shop.now_ms)
    waits = []
    for _ in range(7):
        shop.register.connecting()
        shop.register.disconnected(shop.now_ms)
        waits.append(shop.register.next_deadline_ms() - shop.now_ms)
        shop.now_ms = shop.register.next_deadline_ms()
    assert waits == [100, 200, 400, 800, 1_600, 2_500, 2_500]


def test_where_it_is_not_wanted_it_stays_away_for_a_minute(shop: Shop) -> None:
    shop.register.submit(_redeem(), shop.now_ms)
    shop.connect()
    shop.server.goodbye(Goodbye.SUSPENDED, "ask the operator")
    shop.hear()
    shop.hang_up()
    (in_doubt,) = [t for t in shop.register.book.settled if t.request == _redeem()]
    with pytest.raises(InDoubt):
        in_doubt.outcome()
    shop.now_ms += TIMING.stop_ms - 1
    ticket = shop.register.submit(_redeem(2), shop.now_ms)
    assert not shop.register.wants_connection(shop.now_ms)
    shop.register.tick(shop.now_ms)
    with pytest.raises(Rejected):
        ticket.outcome()
    shop.now_ms += 1
    shop.register.tick(shop.now_ms)
    shop.register.submit(_redeem(3), shop.now_ms)
    shop.connect()
    assert shop.seen[-1] == _redeem(3)


def test_draining_sends_nothing_new_and_does_not_wait_for_ever(shop: Shop) -> None:
    shop.register.submit(_redeem(1, ttl_ms=4_000), shop.now_ms)
    shop.connect()
    shop.server.goodbye(Goodbye.DRAIN, "", 500)
    shop.hear()
    assert shop.register.link is Link.DRAINING
    shop.register.submit(_redeem(2), shop.now_ms)
    shop.exchange()
    assert len(shop.seen) == 1
    shop.now_ms += 5_000
    shop.quietly()
    shop.hang_up()
    shop.connect()
    shop.now_ms += 100
    shop.exchange()
    assert {request.request_id for request in shop.seen[1:]} == {_redeem(1).request_id, _redeem(2).request_id}


def test_patience_ends_a_request_that_was_only_refused(shop: Shop) -> None:
    ticket = shop.register.submit(_redeem(), shop.now_ms, patience_ms=1_000)
    shop.connect()
    shop.server.send_error(_redeem().request_id, ErrorCode.BUSY, "", 3_000)
    shop.hear()
    shop.now_ms += 1_000
    shop.exchange()
    with pytest.raises(Refused):
        ticket.outcome()
    assert ticket.state.name == "ABANDONED"
    assert len(shop.seen) == 1


def test_a_decline_while_an_earlier_copy_is_unaccounted_for_closes_the_id_before_it_is_told(shop: Shop) -> None:
    ticket = shop.register.submit(_redeem(), shop.now_ms)
    shop.connect()
    shop.register.disconnected(shop.now_ms)
    shop.now_ms = shop.register.next_deadline_ms()
    shop.connect()
    shop.exchange()
    shop.server.send_answer(_redeem().request_id, False, encode_body(127, 0, 0, None))
    shop.hear()
    # The first copy may wait in a worker that stands still, and be approved when points have come in.
    assert not ticket.settled
    shop.exchange()
    reversal = shop.seen[-1]
    assert isinstance(reversal, ReverseRequest)
    assert reversal.original_id == _redeem().request_id
    shop.server.send_answer(reversal.request_id, False, encode_body(0, 0, 0, None))
    shop.hear()
    assert (ticket.outcome().outcome, ticket.state.name) == (127, "REVERSED")


def test_a_decline_of_the_only_copy_is_told_at_once(shop: Shop) -> None:
    ticket = shop.register.submit(_redeem(), shop.now_ms)
    shop.connect()
    shop.server.send_answer(_redeem().request_id, False, encode_body(127, 0, 0, None))
    shop.hear()
    assert (ticket.outcome().outcome, ticket.state.name) == (127, "ANSWERED")
