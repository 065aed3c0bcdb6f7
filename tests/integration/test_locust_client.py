"""The client that locust's registers use reports every copy of a request as what it was, whatever the server does."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from loadtests.population import Population
from loadtests.users.measured_client import MeasuredClient
from loadtests.users.open_requests import OpenRequests
from loadtests.users.rows import TCP, Rows
from protocol.answers import encode_body
from protocol.codes import ErrorCode, Goodbye, Message, Outcome
from protocol.requests import BalanceRequest, Card, EarnRequest, Receipt, RedeemRequest, ReverseRequest
from protocol.retry import Backoff
from protocol.session import Limits
from protocol.ticket import Rejected
from protocol.ticket_book import Timing
from tests.rigs.misbehaving_server import SECRET, MisbehavingServer, Till

CARD = Card(1, "2000000000015")
RECEIPT = Receipt(2500, "EUR", "0042-1")
QUICK = Timing(
    answer_margin_ms=0,
    pong_ms=10_000,
    patience_ms=30_000,
    reversal_patience_ms=30_000,
    backoff=Backoff(first_ms=4, cap_ms=20),
)


class Heard:
    """What locust would have been told."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def fire(self, **told: Any) -> None:
        self.events.append(told)

    @property
    def good(self) -> list[str]:
        return [event["name"] for event in self.events if event["exception"] is None]

    @property
    def failed(self) -> list[tuple[str, str]]:
        return [(event["name"], repr(event["exception"])) for event in self.events if event["exception"] is not None]


@pytest.fixture
def server() -> Iterator[MisbehavingServer]:
    server = MisbehavingServer()
    yield server
    server.close()


@pytest.fixture
def heard() -> Heard:
    return Heard()


def client_of(server: MisbehavingServer, heard: Heard, store: OpenRequests, secret: str = SECRET) -> MeasuredClient:
    population = Population("127.0.0.1", server.port, 1, "load-", secret, 1, 0, "EUR", 1)
    return MeasuredClient(population, 0, store, Rows(heard.fire, TCP), timing=QUICK)


def redeem(client: MeasuredClient) -> RedeemRequest:
    return RedeemRequest(client.new_id(), 0, CARD, 500, RECEIPT)


def test_an_answer_is_a_success_with_its_time_and_bytes(server: MisbehavingServer, heard: Heard) -> None:
    store = OpenRequests()
    with client_of(server, heard, store) as client:
        assert client.request(redeem(client)).approved
    assert (heard.good, heard.failed) == (["CONNECT", "REDEEM"], [])
    told = heard.events[1]
    assert told["request_type"] == "tillwire"
    assert told["response_length"] == 25 + len(encode_body(0, 500, 0, (750, 0, 0, 0, 0, 0), ["Spent 5.00 points"]))
    assert told["response_time"] > 0
    assert len(store) == 0


def test_a_decline_is_a_success_in_a_row_of_its_own(server: MisbehavingServer, heard: Heard) -> None:
    body = encode_body(Outcome.INSUFFICIENT, 0, 0, None)
    server.script = [lambda till, request: till.connection.send_answer(request.request_id, False, body)]
    with client_of(server, heard, OpenRequests()) as client:
        assert not client.request(redeem(client)).approved
    assert (heard.good, heard.failed) == (["CONNECT", "REDEEM declined INSUFFICIENT"], [])


@pytest.mark.parametrize(
    ("code", "word"),
    [(ErrorCode.BUSY, "Busy"), (ErrorCode.UNAVAILABLE, "Unavailable"), (ErrorCode.EXPIRED, "Expired")],
)
def test_a_refused_copy_is_a_failure_and_the_answer_to_the_next_a_repetition(
    server: MisbehavingServer, heard: Heard, code: ErrorCode, word: str
) -> None:
    server.script = [lambda till, request: till.refuse(request, code)] * 2
    with client_of(server, heard, OpenRequests()) as client:
        client.request(redeem(client))
    assert heard.failed == [("REDEEM", word)] * 2
    assert heard.good == ["CONNECT", "REDEEM repeated"]
    assert [event["response_time"] for event in heard.events if event["exception"]] == [None, None]


def test_a_line_lost_before_the_answer_is_a_failure(server: MisbehavingServer, heard: Heard) -> None:
    store = OpenRequests()
    server.script = [Till.cut_in_the_middle_of_the_answer]
    with client_of(server, heard, store) as client:
        assert client.request(redeem(client)).replayed
    assert heard.failed == [("REDEEM", "ConnectionLost")]
    assert heard.good == ["CONNECT", "CONNECT again", "REDEEM repeated"]
    assert len(store) == 0


def test_silence_and_giving_up(server: MisbehavingServer, heard: Heard) -> None:
    server.limits = Limits(65_536, 64, 20_000, 60_000, 100, 30_000)
    server.script = [Till.take_effect_without_answer]
    store = OpenRequests()
    with client_of(server, heard, store) as client:
        reply = client.request(redeem(client), patience_ms=50)
        assert reply.reversal_id is not None
        assert client.request(BalanceRequest(client.new_id(), 0, CARD)).approved
    assert heard.failed == [("REDEEM", "Silence")]
    assert heard.good == ["CONNECT", "REVERSE", "BALANCE"]
    assert len(store) == 0


def test_a_server_that_does_not_want_the_terminal_or_is_not_there(server: MisbehavingServer, heard: Heard) -> None:
    with client_of(server, heard, OpenRequests(), "another secret") as client, pytest.raises(Rejected):
        client.connect(30_000)
    assert heard.failed == [("CONNECT", "Rejected")]

    gone = MisbehavingServer()
    gone.close()
    heard.events.clear()
    with client_of(gone, heard, OpenRequests()) as client:
        assert client.connect(100) is None
    assert heard.good == []
    assert Counter(heard.failed).keys() == {("CONNECT", "NotReached")}


def test_a_server_that_is_full_has_failed_the_sign_on(server: MisbehavingServer, heard: Heard) -> None:
    def greet(till: Till) -> bool:
        if till.number == 1:
            till.connection.goodbye(Goodbye.BUSY, "full")
        return till.number > 1

    server.greeting = greet
    with client_of(server, heard, OpenRequests()) as client:
        assert client.connect(30_000) is not None
    assert (heard.failed, heard.good) == ([("CONNECT", "HandshakeFailed")], ["CONNECT"])


def test_a_line_cut_on_purpose_sends_the_same_request_again(server: MisbehavingServer, heard: Heard) -> None:
    store = OpenRequests()
    with client_of(server, heard, store) as client:
        client.connect(30_000)
        assert client.request_and_lose_line(redeem(client)).approved
    assert len({request.request_id for request in server.requests}) == 1
    assert heard.failed == [("REDEEM", "ConnectionLost")]
    assert heard.good == ["CONNECT", "CONNECT again", "REDEEM repeated"]
    assert len(store) == 0


def test_after_a_power_cut_the_journal_says_what_to_reverse_and_what_to_send_again(
    server: MisbehavingServer, heard: Heard
) -> None:
    store = OpenRequests()
    client = client_of(server, heard, store)
    client.connect(30_000)
    spent, earned = redeem(client), EarnRequest(client.new_id(), 0, CARD, RECEIPT, None, 1)
    client.request_and_lose_power(spent)
    store.put(earned)

    with client_of(server, heard, store) as restarted:
        first = store.after_restart(restarted.new_id)
        assert [request.op for request in first] == [Message.EARN, Message.REVERSE]
        again, reversal = first
        assert isinstance(again, EarnRequest)
        assert (again.request_id, again.offline) == (earned.request_id, True)
        assert isinstance(reversal, ReverseRequest)
        assert (reversal.original_id, reversal.card) == (spent.request_id, CARD)
        # A second power cut changes nothing: the reversal stands in the journal already.
        assert store.after_restart(restarted.new_id) == first
        for request in first:
            restarted.request(request)
    assert len(store) == 0
    assert heard.failed == [("REDEEM", "ConnectionLost")]
