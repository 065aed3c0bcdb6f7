"""Both halves of a connection against each other and against garbage, over any chunking of the bytes between them."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.answers import encode_body
from protocol.client_connection import ClientConnection
from protocol.codes import ErrorCode, Goodbye, Outcome
from protocol.connection import ServerConnection
from protocol.events import Authenticated, BadRequest, Closed, Draining, HelloReceived, RequestReceived, Welcomed
from protocol.messages import AnswerMessage, ErrorMessage, encode
from protocol.requests import BalanceRequest, Card, Receipt, RedeemRequest, fingerprint
from protocol.scram import SaltedKey, credentials, salted_key
from protocol.session import Hello, Limits, Ping, Profile, Proof

SECRET = "Zq7-vNfK3mPw9sXt2LdYhR5b"
SALT = bytes(range(16))
KNOWN = credentials(SECRET, SALT, 4_096)
SALTED = salted_key(SECRET, SALT, 4_096)
LIMITS = Limits(4_096, 3, 20_000, 60_000, 5_000, 30_000)
PROFILE = Profile("Demo Grocery", "EUR", (16, 17))
EAN = Card(1, "2000000000015")
sizes = st.lists(st.integers(1, 60), max_size=60)


def client(salted: SaltedKey | None = SALTED) -> ClientConnection:
    return ClientConnection("T-0001", SECRET, "fyko+d2lbbFgONRv9qkxdawL", 0, salted=salted)


def request(number: int) -> RedeemRequest:
    return RedeemRequest(number.to_bytes(16), 0, EAN, 500, Receipt(2_500, "EUR", str(number)))


class Pair:
    """A register and a server with a line between them that cuts what it carries into the given sizes."""

    def __init__(self, cuts: list[int]) -> None:
        self.cuts = iter(cuts)
        self.client = client()
        self.server = ServerConnection(0)
        self.heard: list[Any] = []
        self.asked: list[RequestReceived] = []
        self.bad: list[BadRequest] = []

    def carry(self) -> None:
        """Move bytes both ways until nothing moves any more."""
        upstream, downstream = b"", b""
        while True:
            upstream += self.client.data_to_send()
            downstream += self.server.data_to_send()
            if not upstream and not downstream:
                return
            size = next(self.cuts, 4_096)
            part, upstream = upstream[:size], upstream[size:]
            for event in self.server.receive_data(part, 0):
                self.serve(event)
            size = next(self.cuts, 4_096)
            part, downstream = downstream[:size], downstream[size:]
            self.heard += self.client.receive_data(part, 0)

    def serve(self, event: object) -> None:
        if isinstance(event, HelloReceived):
            self.server.challenge(KNOWN, "3rfcNHYJY1ZVvWVs7j")
        elif isinstance(event, Authenticated):
            self.server.welcome(0, LIMITS, PROFILE)
        elif isinstance(event, RequestReceived):
            self.asked.append(event)
        elif isinstance(event, BadRequest):
            self.bad.append(event)


@given(sizes, st.lists(st.tuples(st.booleans(), st.booleans()), max_size=12), st.randoms())
def test_every_request_gets_its_own_answer(cuts: list[int], plan: list[tuple[bool, bool]], random: Any) -> None:
    pair = Pair(cuts)
    pair.carry()
    assert pair.heard == [Welcomed(0, LIMITS, PROFILE)]
    pair.heard.clear()
    sent: list[RedeemRequest] = []
    bodies: dict[bytes, bytes] = {}
    for number, (approve, replayed) in enumerate(plan):
        if not pair.client.can_send:
            settle(pair, bodies, random, replayed=replayed)
        sent.append(request(number))
        pair.client.send_request(sent[-1], 0)
        outcome = Outcome.APPROVED if approve else Outcome.INSUFFICIENT
        bodies[sent[-1].request_id] = encode_body(outcome, number, 0, None, [f"line {number}"])
    settle(pair, bodies, random, replayed=False)
    answers = {event.request_id: event for event in pair.heard if isinstance(event, AnswerMessage)}
    assert {key: event.body for key, event in answers.items()} == bodies
    assert [event.request for event in pair.asked] == sent
    assert [event.fingerprint for event in pair.asked] == [fingerprint(one, "T-0001") for one in sent]
    assert (pair.server.in_flight, pair.client.in_flight, pair.bad) == (0, 0, [])


def settle(pair: Pair, bodies: dict[bytes, bytes], random: Any, *, replayed: bool) -> None:
    pair.carry()
    answered = {event.request_id for event in pair.heard}
    waiting = [event.request.request_id for event in pair.asked if event.request.request_id not in answered]
    random.shuffle(waiting)
    for request_id in waiting:
        pair.server.send_answer(request_id, replayed, bodies[request_id])
    pair.carry()


@given(sizes, st.integers(0, 3), st.integers(1, 5))
def test_a_drain_answers_what_is_in_flight(cuts: list[int], in_flight: int, late: int) -> None:
    pair = Pair(cuts)
    pair.carry()
    for number in range(in_flight):
        pair.client.send_request(request(number), 0)
    pair.carry()
    pair.server.goodbye(Goodbye.DRAIN, "restarting", 2_000)
    for number in range(late):
        for event in pair.server.receive_data(encode(request(100 + number)), 0):
            pair.serve(event)
    pair.carry()
    assert pair.server.closed == (in_flight == 0)
    for event in list(pair.asked):
        pair.server.send_error(event.request.request_id, ErrorCode.UNAVAILABLE, "not known")
    pair.carry()
    assert pair.server.closed
    assert pair.client.closed
    assert len(pair.asked) == in_flight
    closings = [event for event in pair.heard if isinstance(event, Closed)]
    assert [(event.reason, event.reconnect_after_ms) for event in closings] == [(Goodbye.DRAIN, 2_000)]
    assert pair.heard[-1] is closings[0]
    assert any(isinstance(event, Draining) for event in pair.heard) == bool(in_flight)


def run_server(stream: bytes, cuts: list[int]) -> tuple[list[object], bytes]:
    server = ServerConnection(0)
    found: list[object] = []
    out = b""
    steps = iter(cuts)
    while stream:
        size = next(steps, 11)
        for event in server.receive_data(stream[:size], 0):
            found.append(event)
            if isinstance(event, HelloReceived):
                server.challenge(KNOWN, "3rfcNHYJY1ZVvWVs7j")
            elif isinstance(event, Authenticated):
                server.welcome(0, LIMITS, PROFILE)
        stream = stream[size:]
        out += server.data_to_send()
    return found, out


def good_handshake() -> bytes:
    one = client()
    server = ServerConnection(0)
    hello = one.data_to_send()
    server.receive_data(hello, 0)
    server.challenge(KNOWN, "3rfcNHYJY1ZVvWVs7j")
    one.receive_data(server.data_to_send(), 0)
    return hello + one.data_to_send()


HANDSHAKE = good_handshake()
frames = st.one_of(
    st.binary(max_size=40).map(lambda data: len(data).to_bytes(4) + data),
    st.binary(max_size=20),
    st.integers(0, 9).map(lambda number: encode(request(number))),
    st.integers(0, 9).map(lambda number: encode(BalanceRequest(bytes(16), number, EAN))),
    st.integers(0, 9).map(lambda number: encode(Ping(number))),
    st.just(encode(Hello((1,), "T-0001", "n,,n=T-0001,r=abc"))),
    st.just(encode(Proof("c=biws,r=abc,p=AAAA"))),
)
garbage = st.lists(frames, max_size=12).map(b"".join)


# A whole handshake and PBKDF2's absence keep this fast; what varies is what comes before and after it.
@settings(max_examples=200)
@given(st.booleans(), garbage, sizes)
def test_the_server_takes_anything_in_any_chunks(authenticated: bool, junk: bytes, cuts: list[int]) -> None:
    stream = (HANDSHAKE if authenticated else b"") + junk
    # The shell answers at once, so that all the chunks of a good handshake lead to the same state before what follows.
    whole = run_server(stream, frame_sizes(stream))
    assert run_server(stream, cuts_at_frames(stream, cuts)) == whole
    closings = [event for event in whole[0] if isinstance(event, Closed)]
    assert len(closings) <= 1
    assert whole[0][-1:] == closings or not closings
    assert sum(isinstance(event, RequestReceived) for event in whole[0]) <= LIMITS.in_flight_max


def frame_sizes(stream: bytes) -> list[int]:
    """The sizes of the whole frames in a stream; what no longer is one comes as the last."""
    found = []
    while len(stream) >= 4:
        size = 4 + int.from_bytes(stream[:4])
        found.append(size)
        stream = stream[size:]
    return [*found, 1_000_000]


def cuts_at_frames(stream: bytes, cuts: list[int]) -> list[int]:
    """Cut each frame further, but never put two into one chunk: a register awaits WELCOME before it goes on."""
    sizes_left = iter(cuts)
    found = []
    for whole in frame_sizes(stream):
        left = min(whole, 1_000)
        while left:
            size = min(left, next(sizes_left, left))
            found.append(size)
            left -= size
    return found


@given(garbage, st.booleans())
def test_the_client_takes_anything(junk: bytes, welcomed: bool) -> None:
    one = client()
    if welcomed:
        pair = Pair([])
        pair.carry()
        one = pair.client
        one.send_request(request(1), 0)
    found = [event for at in range(0, len(junk), 7) for event in one.receive_data(junk[at : at + 7], 0)]
    closings = [event for event in found if isinstance(event, Closed)]
    assert len(closings) <= 1
    assert one.closed == bool(closings)
    assert not any(isinstance(event, AnswerMessage | ErrorMessage) for event in found)


@given(garbage, st.lists(st.integers(0, 200_000), max_size=8))
def test_time_only_ends_a_connection(junk: bytes, times: list[int]) -> None:
    server = ServerConnection(0)
    server.receive_data(junk, 0)
    for now_ms in sorted(times):
        deadline = server.next_deadline_ms()
        found = server.handle_timeout(now_ms)
        assert bool(found) == (deadline is not None and now_ms >= deadline)
        assert server.closed == (server.next_deadline_ms() is None)
