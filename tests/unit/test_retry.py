"""The register's rules for silence: the table is the specification's, and no path through it loses a doubt."""

import re
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import retry
from protocol.codes import ErrorCode, Message, Outcome
from protocol.requests import BalanceRequest, Card, EarnRequest, Receipt, RedeemRequest, fingerprint
from protocol.retry import FINAL, TRANSITIONS, Action, Backoff, Event, GivingUp, State, step

SPEC = (Path(retry.__file__).parent / "SPEC.md").read_text(encoding="utf-8")
MACHINE = SPEC.split("### 13.1")[1].split("### 13.2")[0]
CARD = Card(1, "2000000000015")
RECEIPT = Receipt(2500, "EUR", "0042-1")


def test_the_table_is_that_of_the_specification() -> None:
    rows = re.findall(r"^\| ([A-Z]+) \| ([A-Z_]+) \| ([a-z]+) \| ([A-Z]+) \|$", MACHINE, re.MULTILINE)
    assert {(State(s), Event(e)): (Action(a), State(n)) for s, e, a, n in rows} == dict(TRANSITIONS)
    assert len(rows) == len(TRANSITIONS)


def test_the_diagram_is_that_table() -> None:
    drawn = {}
    for state, following, events, action in re.findall(
        r"^ +([A-Z]+) --> ([A-Z]+): ([A-Z_, ]+) / ([a-z]+)$", MACHINE, re.MULTILINE
    ):
        for event in events.split(", "):
            drawn[State(state), Event(event)] = (Action(action), State(following))
    assert drawn == dict(TRANSITIONS)
    assert {State(state) for state in re.findall(r"^ +([A-Z]+) --> \[\*\]$", MACHINE, re.MULTILINE)} == FINAL


def test_what_giving_up_means_is_that_of_the_specification() -> None:
    operations = SPEC.split("## 9. Operations")[1].split("### 9.1")[0]
    rows = re.findall(r"^\| (\d+) \| [A-Z]+ \|.*\| (yes|no) \| *(yes|no|) ?\| (\w+) \|$", operations, re.MULTILINE)
    assert {Message(int(n)): GivingUp(word) for n, _, _, word in rows} == dict(retry.GIVING_UP)
    for number, effect, reversible, word in rows:
        assert (effect == "yes") == (retry.GIVING_UP[Message(int(number))] is not GivingUp.DROP)
        assert word != "reverse" or reversible == "yes"
        assert (reversible == "yes") == (Message(int(number)) in retry.REVERSIBLE)


def test_every_state_has_a_way_to_an_end() -> None:
    for start in set(State) - FINAL:
        reached = {start}
        while not reached & FINAL:
            more = {TRANSITIONS[s, e][1] for s, e in TRANSITIONS if s in reached} | reached
            assert more != reached, start
            reached = more


def test_nothing_leaves_an_end() -> None:
    for state, event in product(FINAL, Event):
        assert step(state, event) == (None, state)


@given(st.lists(st.sampled_from(Event), max_size=30))
def test_a_copy_without_answer_is_never_forgotten(events: list[Event]) -> None:
    """Independent book-keeping: a request is dropped, or stored as untouched, only if each copy was accounted for."""
    state, unaccounted = State.STORED, 0
    for event in events:
        before = state
        action, state = step(state, event)
        if action is Action.SEND:
            unaccounted += 1
        elif before is State.SENT and event in {Event.BUSY, Event.EXPIRED, Event.REFUSED, Event.REUSED, Event.DECLINE}:
            unaccounted -= 1
        if state in {State.STORED, State.ABANDONED}:
            assert unaccounted == 0
        if event is Event.DECLINE and action is Action.DELIVER:
            # A copy that is still under way could be approved behind the register's back.
            assert unaccounted == 0
        if event is Event.GIVE_UP and unaccounted and before not in FINAL:
            assert state is State.REVERSING


@pytest.mark.parametrize(
    ("code", "event"),
    [
        (ErrorCode.MALFORMED, Event.REFUSED),
        (ErrorCode.UNSUPPORTED, Event.REFUSED),
        (ErrorCode.BUSY, Event.BUSY),
        (ErrorCode.EXPIRED, Event.EXPIRED),
        (ErrorCode.ID_REUSED, Event.REUSED),
        (ErrorCode.UNAVAILABLE, Event.UNAVAILABLE),
        (4711, Event.UNAVAILABLE),
    ],
)
def test_errors_as_events(code: int, event: Event) -> None:
    assert retry.event_of_error(code) is event


def test_a_decline_ends_a_doubt_only_where_no_copy_can_fare_better() -> None:
    redeem = RedeemRequest(bytes(16), 0, CARD, 500, RECEIPT)
    answers = {o for o in Outcome if retry.event_of_answer(redeem, o) is Event.ANSWER}
    same = {Outcome.REVERSED, Outcome.NOT_PERMITTED, Outcome.BAD_CARD, Outcome.WRONG_CURRENCY}
    assert answers == {Outcome.APPROVED, Outcome.APPROVED_PARTIAL} | same
    assert retry.event_of_answer(redeem, 999) is Event.DECLINE
    assert retry.event_of_answer(BalanceRequest(bytes(16), 0, CARD), Outcome.UNKNOWN_CARD) is Event.ANSWER


def test_a_reversal_proves_something_only_when_approved_or_without_account() -> None:
    proofs = {o for o in Outcome if retry.event_of_reversal(o) is Event.REVERSAL_APPROVED}
    assert proofs == {Outcome.APPROVED, Outcome.APPROVED_PARTIAL, Outcome.BAD_CARD, Outcome.UNKNOWN_CARD}
    assert retry.event_of_reversal(999) is Event.REVERSAL_DECLINED


def test_only_questions_need_no_store() -> None:
    assert not retry.has_effect(BalanceRequest(bytes(16), 0, CARD))
    assert retry.has_effect(RedeemRequest(bytes(16), 0, CARD, 500, RECEIPT))


def test_an_earn_sent_again_as_an_advice_is_the_same_request() -> None:
    earn = EarnRequest(bytes(16), 0, CARD, RECEIPT, None, 1_789_300_800_000)
    advice = retry.as_advice(earn)
    assert isinstance(advice, EarnRequest)
    assert advice.offline
    assert fingerprint(advice, "T-1") == fingerprint(earn, "T-1")


def test_backoff_doubles_up_to_its_cap_and_jitters_over_the_whole_range() -> None:
    backoff = Backoff(first_ms=200, cap_ms=5_000)
    assert [backoff.wait_ms(n, 0, lambda: 0.999999) for n in range(1, 8)] == [199, 399, 799, 1599, 3199, 4999, 4999]
    assert backoff.wait_ms(10**9, 0, lambda: 0.5) == 2_500
    assert backoff.wait_ms(3, 0, lambda: 0.0) == 0


def test_what_the_server_asks_for_comes_before_the_jitter() -> None:
    backoff = Backoff(first_ms=200, cap_ms=5_000)
    assert backoff.wait_ms(1, 250, lambda: 0.0) == 250
    assert backoff.wait_ms(1, 250, lambda: 0.5) == 350
