from zoneinfo import ZoneInfo

import pytest

from ledger.business_day import BusinessDay
from ledger.programme import Network, Programme, Rules
from ledger.rules_check import POINTS_MAX
from ledger.slip import (
    BYTES_MAX,
    LINE_CHARACTERS_MAX,
    LINES_MAX,
    SlipTemplates,
    TemplateError,
    _Line,
    calendar_day,
    check_template,
    printed_points,
)
from protocol.answers import GREETING_CHARACTERS_MAX, SLIP_LINE_CHARACTERS_MAX, SLIP_LINES_MAX, Answer, outcome_of
from protocol.codes import FRAME_BYTES_MAX_DEFAULT, Message, Outcome, StatusState
from protocol.framing import FrameReader
from protocol.messages import answer_frame, decode
from server.registers.answers import AnswerRenderer, check_programme

SLIP = (
    "Spent {spent}",
    "Earned {earned}",
    "Given back {given_back}, taken back {taken_back}",
    "Balance {available} (100 % yours)",
    "Held {held}",
    "Expiring {expiring} on {expiring_on}",
    "Thank you",
)
NOTHING = (0, 0, 0, 0, 0, 0)


def programme(*rules: Rules) -> Programme:
    network = Network(7, 3, "Corner shops", "EUR", rules)
    return Programme(1, {7: network}, BusinessDay(ZoneInfo("UTC")))


def renderer(*rules: Rules, now_ms: int = 1_000) -> AnswerRenderer:
    snapshot = programme(*(rules or (Rules(0, slip=SLIP),)))
    return AnswerRenderer(lambda: snapshot, lambda: now_ms)


def decided(op: Message, outcome: Outcome, points: int = 0, earned: int = 0, **facts: object) -> Answer:
    balance = facts.get("balance", (1250, 0, 0, 0, 0, 0))
    body = renderer().decided(
        op,
        7,
        outcome,
        points,
        earned,
        balance,
        facts.get("detail", 0),
        facts.get("greeting"),  # type: ignore[arg-type]
    )
    return Answer.from_body(body)


def test_a_sale_prints_what_was_spent_earned_and_left() -> None:
    answer = decided(Message.SALE, Outcome.APPROVED, 500, 45)
    assert answer.slip == ("Spent 5.00", "Earned 0.45", "Balance 12.50 (100 % yours)", "Thank you")
    assert (answer.points, answer.earned, answer.detail) == (500, 45, None)


def test_a_line_that_names_nothing_is_left_out_but_an_empty_balance_is_told() -> None:
    answer = decided(Message.REDEEM, Outcome.APPROVED, 1250, balance=NOTHING)
    assert answer.slip == ("Spent 12.50", "Balance 0.00 (100 % yours)", "Thank you")


def test_a_refund_prints_both_directions() -> None:
    answer = decided(Message.REFUND, Outcome.APPROVED, 500, -45)
    assert "Given back 5.00, taken back 0.45" in answer.slip
    assert answer.earned == -45
    assert not any(line.startswith(("Spent", "Earned")) for line in answer.slip)


def test_a_day_of_expiry_is_printed_and_sent_as_a_date() -> None:
    answer = decided(Message.BALANCE, Outcome.APPROVED, balance=(1250, 0, 0, 0, 300, 20_818))
    assert answer.balance is not None
    assert (answer.balance.expiring_points, answer.balance.expiring_on) == (300, 20261231)
    assert "Expiring 3.00 on 2026-12-31" in answer.slip


@pytest.mark.parametrize("op", [Message.BALANCE, Message.REDEEM, Message.HOLD, Message.SALE])
def test_a_decline_prints_the_balance_and_nothing_else(op: Message) -> None:
    answer = decided(op, Outcome.INSUFFICIENT, greeting="Anna")
    assert answer.slip == ("Balance 12.50 (100 % yours)",)
    assert answer.detail is None


def test_a_decline_without_an_account_has_no_balance_and_no_slip() -> None:
    answer = decided(Message.REDEEM, Outcome.UNKNOWN_CARD, balance=None)
    assert (answer.balance, answer.slip, answer.detail) == (None, (), None)


def test_only_a_balance_greets() -> None:
    assert decided(Message.BALANCE, Outcome.APPROVED, greeting="Anna").greeting == "Anna"
    assert decided(Message.BALANCE, Outcome.APPROVED, greeting=None).greeting is None
    assert decided(Message.REDEEM, Outcome.APPROVED, 1, greeting="Anna").detail is None


def test_a_greeting_that_the_wire_cannot_carry_is_made_fit() -> None:
    greeting = decided(Message.BALANCE, Outcome.APPROVED, greeting="An\nna\x1b" + "a" * 200).greeting
    assert greeting is not None
    assert greeting.startswith("Anna")
    assert len(greeting) == GREETING_CHARACTERS_MAX


def test_a_provisional_balance_is_marked_and_not_printed() -> None:
    for outcome in (Outcome.APPROVED, Outcome.CARD_BLOCKED):
        answer = Answer.from_body(renderer().provisional(outcome, (1250, 20, 0, 0, 250, 20_000)))
        assert (answer.outcome, answer.provisional, answer.slip) == (outcome, True, ())
        assert answer.balance == (1250, 20, 0, 0, 250, 20_241_004)


def test_a_hold_tells_until_when() -> None:
    assert (
        decided(Message.HOLD, Outcome.APPROVED_PARTIAL, 5, detail=1_789_300_800_000).hold_until_ms == 1_789_300_800_000
    )


def test_a_status_carries_the_original_byte_for_byte() -> None:
    made = renderer()
    original = made.decided(Message.REDEEM, 7, Outcome.APPROVED, 500, 0, (1, 0, 0, 0, 0, 0), 0, None)
    body = made.status(StatusState.STANDS, original)
    assert original in body
    answer = Answer.from_body(body)
    assert (answer.status, answer.original) == (StatusState.STANDS, Answer.from_body(original))
    assert Answer.from_body(made.status(StatusState.UNKNOWN, None)).original is None


def test_the_outcome_of_a_body_is_found_without_reading_the_rest() -> None:
    for outcome in Outcome:
        body = renderer().decided(Message.BALANCE, 7, outcome, 0, 0, NOTHING, 0, None)
        assert outcome_of(body) == outcome


def test_the_rules_in_force_give_the_lines() -> None:
    rules = (Rules(0, slip=("old {available}",)), Rules(5_000, slip=("new {available}",)))
    for now_ms, line in ((4_999, "old 1.00"), (5_000, "new 1.00")):
        body = renderer(*rules, now_ms=now_ms).decided(Message.BALANCE, 7, 0, 0, 0, (100, 0, 0, 0, 0, 0), 0, None)
        assert Answer.from_body(body).slip == (line,)


@pytest.mark.parametrize(
    "line",
    [
        "{spend}",
        "{}",
        "{0}",
        "{spent!r}",
        "{spent:>8}",
        "open {spent",
        "close } it",
        "two\nlines",
        "x" * (LINE_CHARACTERS_MAX + 1),
    ],
)
def test_a_template_that_cannot_be_printed_is_refused(line: str) -> None:
    with pytest.raises(TemplateError, match="slip line"):
        check_template(line)


@pytest.mark.parametrize("line", ["", "100 % {spent}", "{{braces}} {available}", *SLIP])
def test_a_good_template_is_accepted(line: str) -> None:
    check_template(line)


def test_a_programme_with_a_bad_line_is_refused_before_it_serves_but_answers_go_on() -> None:
    with pytest.raises(TemplateError):
        check_programme(programme(Rules(0, slip=("{nonsense}",))))
    body = renderer(Rules(0, slip=("{nonsense}",))).decided(Message.BALANCE, 7, 0, 0, 0, NOTHING, 0, None)
    assert Answer.from_body(body).slip == ()


def test_a_printed_line_fits_the_wire() -> None:
    rules = Rules(0, slip=("{available}" * 9,))
    body = renderer(rules).decided(Message.BALANCE, 7, 0, 0, 0, (2**53 - 1, 0, 0, 0, 0, 0), 0, None)
    assert [len(line) for line in Answer.from_body(body).slip] == [LINE_CHARACTERS_MAX]


@pytest.mark.parametrize(
    "line", ["x" * 128, "\U0001f381" * 128, "é{available}{spent}" * 6, "{expiring} {expiring_on}" * 5]
)
def test_the_longest_slip_that_is_accepted_fits_a_frame_with_everything_else(line: str) -> None:
    """As many such lines as the check lets through, the longest amounts, a greeting; and a STATUS that tells it."""
    count = LINES_MAX
    while sum(_Line(line).bytes_max for _ in range(count)) > BYTES_MAX:
        count -= 1
    SlipTemplates((line,) * count)
    if count < LINES_MAX:
        with pytest.raises(TemplateError, match="bytes"):
            SlipTemplates((line,) * (count + 1))
    render = renderer(Rules(0, slip=(line,) * count))
    largest = (POINTS_MAX, POINTS_MAX, POINTS_MAX, POINTS_MAX, POINTS_MAX, 10**9)
    greeting = "\U0001f381" * GREETING_CHARACTERS_MAX
    for body in (
        render.decided(Message.BALANCE, 7, 0, 0, 0, largest, 0, greeting),
        render.decided(Message.SALE, 7, 0, POINTS_MAX, POINTS_MAX, largest, 0, None),
    ):
        assert len(Answer.from_body(body).slip) in (0, count)
        told = render.status(StatusState.STANDS, body)
        for framed in (answer_frame(b"i" * 16, True, body), answer_frame(b"i" * 16, True, told)):
            (frame,) = FrameReader(FRAME_BYTES_MAX_DEFAULT).feed(framed)
            decode(frame)


def test_more_is_never_printed_than_a_register_takes() -> None:
    assert (LINES_MAX, LINE_CHARACTERS_MAX) == (SLIP_LINES_MAX, SLIP_LINE_CHARACTERS_MAX)


def test_points_are_printed_exactly() -> None:
    assert [printed_points(points) for points in (0, 5, 100, -205, 2**53 - 1)] == [
        "0.00",
        "0.05",
        "1.00",
        "-2.05",
        "90071992547409.91",
    ]


def test_days_become_dates() -> None:
    assert [calendar_day(day) for day in (0, 1, 19_782, 10**9)] == [0, 19700102, 20240229, 99991231]
