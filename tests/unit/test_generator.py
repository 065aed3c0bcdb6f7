import random
import select
import socket
from array import array
from collections import Counter
from itertools import islice

import pytest

from loadtests.generator.confirm import Mismatch, compare
from loadtests.generator.fleet import Fleet, Trouble
from loadtests.generator.frames import ANY_CARD, ANY_ID, ANY_ORIGINAL, ID_AT, ID_END, RequestIds, Template, bounds
from loadtests.generator.hearing import HEAD_END, Hearing, whole_answers
from loadtests.generator.load import Load, Work
from loadtests.generator.measuring import plan_of
from loadtests.generator.outcome import Outcome, together
from loadtests.generator.schedule import poisson
from loadtests.generator.target import Target
from loadtests.generator.work import Mix
from loadtests.population import Population
from protocol import requests
from protocol.answers import encode_body
from protocol.codes import CardKind, ErrorCode, Message
from protocol.messages import answer_frame, decode, encode, error_frame
from protocol.requests import Card, Receipt, Request
from protocol.session import Farewell, Ping, Pong

POPULATION = Population("127.0.0.1", 1, 3, "load-", "secret", 50, 7, "EUR", 6)
TARGET = Target(POPULATION)
RECEIPT = Receipt(2_500, "EUR")
PREFIX = b"\x01" * 8
APPROVED = encode_body(0, 100, 0, None)
DECLINED = encode_body(127, 0, 0, None)


def made(request_id: bytes, card: Card, original: bytes) -> list[Request]:
    return [
        requests.BalanceRequest(request_id, 5_000, card),
        requests.RedeemRequest(request_id, 5_000, card, 100, RECEIPT),
        requests.SaleRequest(request_id, 5_000, card, RECEIPT, 100),
        requests.HoldRequest(request_id, 5_000, card, 100, RECEIPT, hold_ms=60_000),
        requests.EarnRequest(request_id, 5_000, card, RECEIPT, None, 0),
        requests.CaptureRequest(request_id, 5_000, card, original, 0, RECEIPT),
        requests.ReverseRequest(request_id, 5_000, card, original),
    ]


@pytest.mark.parametrize("number", range(7))
def test_a_filled_template_is_the_frame_that_the_codec_makes(number: int) -> None:
    template = Template(made(ANY_ID, ANY_CARD, ANY_ORIGINAL)[number])
    card, request_id, original = POPULATION.card(3), bytes(range(16)), bytes(range(16, 32))
    assert TARGET.card(3).decode() == card.value
    expected = encode(made(request_id, card, original)[number])
    if number < 5:
        assert template.fill(request_id, TARGET.card(3)) == expected
    else:
        assert template.fill_original(request_id, TARGET.card(3), original) == expected
    assert expected[ID_AT:ID_END] == request_id


def test_no_two_ids_of_a_run_are_the_same_and_all_lie_within_its_bounds() -> None:
    shares = [RequestIds(PREFIX, share) for share in range(3)]
    ids = [one.next() for one in shares for _ in range(2_000)]
    least, greatest = bounds(PREFIX)
    assert len(set(ids)) == len(ids) == 6_000
    assert all(least <= one <= greatest and len(one) == 16 for one in ids)
    with pytest.raises(ValueError, match="8 bytes"):
        RequestIds(b"short")


def test_a_schedule_is_the_same_for_the_same_seed_and_keeps_its_rate() -> None:
    moments = list(islice(poisson(1_000.0, 50.0, seed=3), 20_000))
    assert moments == list(islice(poisson(1_000.0, 50.0, seed=3), 20_000))
    assert moments != list(islice(poisson(1_000.0, 50.0, seed=4), 20_000))
    assert moments == sorted(moments)
    assert moments[0] > 50.0
    assert (moments[-1] - 50.0) == pytest.approx(20.0, rel=0.05)


def test_cards_are_drawn_from_all_and_gone_through_in_turn() -> None:
    def cards(load: Load, share: int = 0, shares: int = 1) -> list[str]:
        plan = plan_of(load, TARGET, RequestIds(PREFIX), share, shares)
        plan.prepare(20)
        drawn = []
        for frame in (plan.next_frame(1) for _ in range(400)):
            if frame is None:
                break
            request = decode(frame[4:])
            assert isinstance(request, Request)
            drawn.append(request.card.value)
        return drawn

    every = [POPULATION.card(number).value for number in range(50)]
    assert set(cards(Load(1, 1.0))) == set(every)
    assert set(cards(Load(1, 1.0, cards=5))) == set(every[:5])
    assert cards(Load(1, 1.0, Work.HOT)) == every[:1] * 400
    assert cards(Load(1, 1.0, Work.SWEEP)) == every
    assert sorted(cards(Load(1, 1.0, Work.SWEEP), 0, 2) + cards(Load(1, 1.0, Work.SWEEP), 1, 2)) == sorted(every)
    assert cards(Load(1, 1.0, Work.SPEND, rounds=2, cards=3)) == every[:3] * 2


def test_a_mix_captures_what_it_holds_and_reverses_what_it_sold() -> None:
    dice = random.Random(1)  # noqa: S311
    plan = Mix("EUR", 5_000, RequestIds(PREFIX), (TARGET.card(dice.randrange(50)) for _ in range(10**6)), seed=1)
    seen: Counter[Message] = Counter()
    of: dict[bytes, tuple[Message, int, Card]] = {}
    for number in range(20_000):
        register = number % 7
        frame = plan._next(register)
        request = decode(frame[4:])
        assert isinstance(request, Request)
        seen[request.op] += 1
        of[request.request_id] = (request.op, register, request.card)
        if isinstance(request, requests.CaptureRequest):
            assert of.pop(request.hold_id) == (Message.HOLD, register, request.card)
        elif isinstance(request, requests.ReverseRequest):
            assert of.pop(request.original_id) == (Message.SALE, register, request.card)
        plan._approved(register, request.request_id)
    drawn = 20_000 - seen[Message.CAPTURE]
    for kind, share in ((Message.BALANCE, 0.6), (Message.SALE, 0.25), (Message.HOLD, 0.1), (Message.REVERSE, 0.05)):
        assert seen[kind] / drawn == pytest.approx(share, abs=0.015)
    assert seen[Message.CAPTURE] == pytest.approx(seen[Message.HOLD], abs=7)
    assert plan.effects(0) == {kind.name: n for kind, n in seen.items() if kind is not Message.BALANCE}


class Line:
    """Both ends of a register's connection, the generator's in a fleet."""

    def __init__(self) -> None:
        self.fleet = Fleet(TARGET, 1)
        mine, self.server = socket.socketpair()
        mine.setblocking(False)
        self.fd = mine.fileno()
        self.fleet.epoll.register(self.fd, select.EPOLLIN)
        self.fleet.admit(mine, 0)
        self.approved: list[bytes] = []
        self.hearing = Hearing(self.fleet, lambda _fd, request_id: self.approved.append(request_id))

    def close(self) -> None:
        self.fleet.close()
        self.server.close()


@pytest.fixture
def line() -> Line:
    line = Line()
    yield line
    line.close()


IDS = [bytes([number]) * 16 for number in range(4)]
STREAM = (
    answer_frame(IDS[0], replayed=False, body=APPROVED)
    + answer_frame(IDS[1], replayed=False, body=DECLINED)
    + error_frame(IDS[2], ErrorCode.BUSY, "full", 150)
    + encode(Pong(1, 2))
    + error_frame(IDS[3], ErrorCode.UNAVAILABLE, "no journal", 0)
)


@pytest.mark.parametrize("portion", [1, 2, 3, 7, 29, 64, 10_000])
def test_answers_are_heard_in_any_portions(line: Line, portion: int) -> None:
    hearing = line.hearing
    hearing.under_way.update(dict.fromkeys(IDS, 1.0))
    settled = sum(hearing.taken(line.fd, STREAM[at : at + portion], 1.5) for at in range(0, len(STREAM), portion))
    assert settled == 4
    assert not hearing.under_way
    assert not hearing.rests
    assert line.approved == IDS[:1]
    assert (hearing.approvals, hearing.answers, hearing.doubtful) == (1, 2, 1)
    assert hearing.errors == {ErrorCode.BUSY: 1, ErrorCode.UNAVAILABLE: 1}
    assert list(hearing.latencies_s) == [0.5]


def test_how_long_to_wait_is_what_the_last_error_said(line: Line) -> None:
    line.hearing.under_way[IDS[2]] = 1.0
    assert line.hearing.retry_after_ms == 0
    line.hearing.taken(line.fd, error_frame(IDS[2], ErrorCode.BUSY, "full", 150), 1.5)
    assert line.hearing.retry_after_ms == 150


def test_only_one_whole_answer_looks_like_one() -> None:
    heads = whole_answers(4_096)
    frame = answer_frame(IDS[0], replayed=False, body=APPROVED)
    assert len(heads) == 4_097
    assert heads[len(frame)] == frame[:HEAD_END]
    others = [b"", frame[:8], frame[:-1], frame + frame[:1], frame + frame, frame * 50, encode(Ping(1)),
              error_frame(IDS[0], ErrorCode.BUSY, "x" * 20, 0)]  # fmt: skip
    for other in others:
        assert heads[len(other)] != other[:HEAD_END]


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (answer_frame(IDS[0], replayed=False, body=APPROVED), "nobody waits"),
        (error_frame(IDS[0], ErrorCode.BUSY, "", 0), "nobody waits"),
        (error_frame(IDS[1], ErrorCode.ID_REUSED, "again", 0), "again"),
        (encode(Farewell(1, "restarting", 1_000)), "GOODBYE 1: restarting"),
        (b"", "closed"),
    ],
)
def test_what_no_register_expects_ends_the_run(line: Line, frame: bytes, words: str) -> None:
    line.hearing.under_way[IDS[1]] = 1.0
    with pytest.raises(Trouble, match=words):
        line.hearing.taken(line.fd, frame, 2.0)


def test_a_ping_is_answered(line: Line) -> None:
    assert line.hearing.taken(line.fd, encode(Ping(42)), 2.0) == 0
    assert decode(line.server.recv(100)[4:]) == Pong(42, 0)


def test_what_a_full_line_does_not_take_goes_out_later_and_in_order(line: Line) -> None:
    frames = [encode(Ping(number)) * 1_000 for number in range(300)]
    for frame in frames:
        line.fleet.say(line.fd, frame)
    heard = bytearray()
    line.server.setblocking(False)
    while len(heard) < len(b"".join(frames)):
        for _, mask in line.fleet.epoll.poll(0):
            if mask & select.EPOLLOUT:
                line.fleet.flush(line.fd)
        heard += line.server.recv(1 << 20)
    assert bytes(heard) == b"".join(frames)
    line.fleet.flush(line.fd)
    assert line.fleet.epoll.poll(0) == []


def test_percentiles_and_goodput_count_approvals_alone() -> None:
    outcome = Outcome(seconds=2.0, approved=1_000, declined=10, latencies_us=array("I", range(1_000, 1_001_000, 1_000)))
    assert outcome.percentiles_ms(0.5, 0.99, 0.999, 1.0) == [501.0, 991.0, 1_000.0, 1_000.0]
    assert outcome.goodput_per_s(250.0) == 125.0
    assert (outcome.approved_per_s, outcome.answered_per_s) == (500.0, 505.0)
    assert Outcome().percentiles_ms(0.5) == [0.0]


def test_processes_of_one_run_add_up() -> None:
    one = Outcome(3, 2.0, approved=5, errors=Counter(BUSY=1), effects=Counter(SALE=5), latencies_us=array("I", [1]))
    other = Outcome(4, 2.5, approved=6, errors=Counter(BUSY=2), effects=Counter(SALE=6), latencies_us=array("I", [2]))
    both = together([one, other])
    assert (both.registers, both.seconds, both.approved) == (7, 2.5, 11)
    assert (both.errors, both.effects, list(both.latencies_us)) == ({"BUSY": 3}, {"SALE": 11}, [1, 2])


def test_what_the_journal_does_not_bear_out_is_told() -> None:
    outcome = Outcome(effects=Counter(SALE=5, HOLD=2), doubtful=1)
    compare(outcome, Counter(SALE=5, HOLD=2))
    compare(outcome, Counter(SALE=5, HOLD=3))
    with pytest.raises(Mismatch, match="5 SALE were approved, but 4 stand"):
        compare(outcome, Counter(SALE=4, HOLD=2))
    with pytest.raises(Mismatch, match="2 HOLD were approved, but 0 stand"):
        compare(outcome, Counter(SALE=5))
    with pytest.raises(Mismatch, match="6 SALE stand in the journal, but 5 were approved"):
        compare(outcome, Counter(SALE=6, HOLD=3))
    with pytest.raises(Mismatch, match="2 CAPTURE stand in the journal, but 0"):
        compare(outcome, Counter(SALE=5, HOLD=2, CAPTURE=2))


def test_a_load_that_makes_no_sense_is_refused() -> None:
    for wrong in ({"registers": 0}, {"seconds": -1.0}, {"rate_per_s": 0.0}, {"work": Work.SWEEP, "rate_per_s": 5.0}):
        with pytest.raises(ValueError, match=r"needs|cannot"):
            Load(**{"registers": 1, "seconds": 1.0, **wrong})


def test_the_wildcards_of_a_template_are_what_they_stand_for() -> None:
    assert len({ANY_ID, ANY_ORIGINAL}) == 2
    assert ANY_CARD.kind == CardKind.EAN13
