from collections.abc import Callable
from dataclasses import replace
from hashlib import blake2b
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from ledger.business_day import BusinessDay
from ledger.clock import SystemClock
from ledger.programme import Network, Programme, Rules, Terminal
from ledger.submission import Refusal, Submission
from protocol.answers import Answer, encode_body
from protocol.codes import CardKind, ErrorCode, Message, Outcome
from protocol.requests import (
    REQUESTS,
    ActivateRequest,
    BalanceRequest,
    BlockRequest,
    CaptureRequest,
    Card,
    EarnRequest,
    HoldRequest,
    Receipt,
    RedeemRequest,
    RefundRequest,
    ReleaseRequest,
    ReplaceRequest,
    Request,
    ReverseRequest,
    SaleRequest,
    StatusRequest,
)
from server.observation.metrics import Metrics
from server.registers.answers import AnswerRenderer
from server.registers.dispatch import Dispatcher, DispatchLimits, Moment, Relayed
from server.registers.pending import Pending
from server.registers.terminal_room import TerminalRoom

KEY = b"k" * 32
ID = bytes(range(16))
TARGET = b"t" * 16
FINGERPRINT = b"f" * 8
CARD = Card(CardKind.EAN13, "2000000000015")
BAD_CARD = Card(CardKind.EAN13, "2000000000016")
OTHER_CARD = Card(CardKind.TRACK, ";4111111111111111=29121011000012345678?")
RECEIPT = Receipt(2_500, "EUR", "0042-4")
DAY_MS = 86_400_000
NOON = 20_000 * DAY_MS + DAY_MS // 2
LIMITS = DispatchLimits(
    ttl_default_ms=5_000, ttl_max_ms=60_000, advice_future_max_ms=600_000, amount_max=10**11, busy_retry_after_ms=100
)
ALL = frozenset(int(request.op) for request in REQUESTS)
ONE_OF_EACH: tuple[Request, ...] = (
    BalanceRequest(ID, 0, CARD),
    RedeemRequest(ID, 0, CARD, 500, RECEIPT, allow_partial=True),
    HoldRequest(ID, 0, CARD, 500, RECEIPT, allow_partial=True, hold_ms=60_000),
    CaptureRequest(ID, 0, CARD, TARGET, 300, RECEIPT),
    ReleaseRequest(ID, 0, CARD, TARGET),
    EarnRequest(ID, 0, CARD, RECEIPT, 2_000, NOON),
    SaleRequest(ID, 0, CARD, RECEIPT, 500, allow_partial=True, eligible_amount=None),
    RefundRequest(ID, 0, CARD, TARGET, RECEIPT),
    ReverseRequest(ID, 0, CARD, TARGET),
    StatusRequest(ID, 0, CARD, TARGET),
    ActivateRequest(ID, 0, CARD),
    BlockRequest(ID, 0, CARD, 1),
    ReplaceRequest(ID, 0, CARD, OTHER_CARD),
)


def terminal(**changes: Any) -> Terminal:
    known = Terminal(11, "T-0001", 7, 5, ALL, True, b"s" * 16, 4096, b"k" * 32, b"v" * 32)
    return replace(known, **changes)


class Ledger:
    """Takes submissions and does nothing with them."""

    def __init__(self, *rules: Rules, zone: str = "UTC") -> None:
        network = Network(7, 3, "Corner shops", "EUR", rules or (Rules(0, earn_rate_bp=500),))
        self.programme = Programme(1, {7: network}, BusinessDay(ZoneInfo(zone)))
        self.submitted: list[Submission] = []

    def submit(self, submission: Submission) -> None:
        self.submitted.append(submission)


class Register:
    """What comes back to the connection."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.errors: list[tuple[int, str, int]] = []

    def send_answer(self, request_id: bytes, replayed: bool, body: bytes) -> None:
        assert request_id == ID
        assert type(replayed) is bool
        self.answers.append(Answer.from_body(body))

    def send_error(self, request_id: bytes, code: int, text: str, retry_after_ms: int) -> None:
        assert request_id == ID
        self.errors.append((code, text, retry_after_ms))


class Desk:
    """A dispatcher with everything around it."""

    def __init__(self, *rules: Rules, zone: str = "UTC", spent: int = 0) -> None:
        self.ledger = Ledger(*rules, zone=zone)
        self.register = Register()
        self.spent = spent
        self.monotonic = 50.0
        self.room = TerminalRoom(self.spent_today, lambda: self.monotonic)
        self.metrics = Metrics()
        renderer = AnswerRenderer(lambda: self.ledger.programme, lambda: NOON)
        self.dispatcher = Dispatcher(self.ledger, renderer, self.room, KEY, LIMITS)

    async def spent_today(self, terminal_id: int) -> int:
        assert terminal_id == 11
        return self.spent

    def take(self, request: Request, now_ms: int = NOON, relayed: Relayed | None = None, **changes: Any) -> Submission:
        """Dispatch and return what reached the ledger."""
        self.send(request, now_ms, relayed, **changes)
        assert not self.register.answers
        assert not self.register.errors
        return self.ledger.submitted[-1]

    def send(self, request: Request, now_ms: int = NOON, relayed: Relayed | None = None, **changes: Any) -> Pending:
        known = terminal(**changes)
        pending = Pending(self.register, 1, int(request.op), self.monotonic, self.metrics, self.room, SystemClock())
        self.dispatcher.dispatch(request, FINGERPRINT, known, pending, Moment(now_ms, self.monotonic), relayed)
        return pending


@pytest.fixture
def desk() -> Desk:
    return Desk()


def body(outcome: Outcome, points: int) -> bytes:
    return encode_body(outcome, points, 0, None)


@pytest.mark.parametrize("request_", ONE_OF_EACH, ids=lambda request: request.op.name)
def test_every_operation_carries_who_what_and_until_when(desk: Desk, request_: Request) -> None:
    submission = desk.take(request_)
    assert submission.op == request_.op
    assert type(submission.op) is int
    assert submission.request_id == ID
    assert submission.token == blake2b(b"ean13:2000000000015", digest_size=16, key=KEY).digest()
    assert (submission.terminal_id, submission.partner_id, submission.network_id) == (11, 3, 7)
    assert submission.fingerprint == FINGERPRINT
    assert submission.terms == Rules(0, earn_rate_bp=500).terms
    assert submission.deadline == 55.0
    assert (submission.permitted, submission.currency_ok, submission.time_ok) == (True, True, True)


def test_no_operation_is_missing() -> None:
    assert {type(request) for request in ONE_OF_EACH} == set(REQUESTS)


def test_the_fields_of_each_operation_arrive(desk: Desk) -> None:
    redeem = desk.take(ONE_OF_EACH[1])
    assert (redeem.points, redeem.amount, redeem.currency, redeem.reference) == (500, 2_500, "EUR", "0042-4")
    assert redeem.partial
    hold = desk.take(ONE_OF_EACH[2])
    assert (hold.points, hold.amount, hold.partial, hold.hold_ms) == (500, 2_500, True, 60_000)
    capture = desk.take(ONE_OF_EACH[3])
    assert (capture.target, capture.points, capture.amount) == (TARGET, 300, 2_500)
    assert desk.take(ONE_OF_EACH[4]).target == TARGET
    earn = desk.take(ONE_OF_EACH[5])
    assert (earn.amount, earn.eligible, earn.active_day, earn.expiry_day) == (2_500, 2_000, 20_000, 0)
    sale = desk.take(ONE_OF_EACH[6])
    assert (sale.points, sale.amount, sale.partial, sale.eligible, sale.active_day) == (500, 2_500, True, -1, 20_000)
    refund = desk.take(ONE_OF_EACH[7])
    assert (refund.target, refund.amount) == (TARGET, 2_500)
    for request in ONE_OF_EACH[8:10]:
        assert desk.take(request).target == TARGET
    replacement = desk.take(ONE_OF_EACH[12])
    assert replacement.new_token == blake2b(b"pan:4111111111111111", digest_size=16, key=KEY).digest()
    assert (replacement.new_token_masked, replacement.new_token_kind) == ("pan:4111********1111", CardKind.PAN)


@pytest.mark.parametrize("request_", ONE_OF_EACH, ids=lambda request: request.op.name)
def test_permissions_are_facts_for_the_decision_but_doubt_always_has_a_way_out(desk: Desk, request_: Request) -> None:
    submission = desk.take(request_, permitted=frozenset())
    assert submission.permitted == (request_.op in (Message.REVERSE, Message.STATUS))


@pytest.mark.parametrize("request_", ONE_OF_EACH, ids=lambda request: request.op.name)
def test_an_unreadable_card_is_declined_without_asking_the_ledger(desk: Desk, request_: Request) -> None:
    desk.send(replace(request_, card=BAD_CARD))
    assert [answer.outcome for answer in desk.register.answers] == [Outcome.BAD_CARD]
    assert desk.register.answers[0].balance is None
    assert not desk.ledger.submitted


def test_not_permitted_comes_before_a_bad_card(desk: Desk) -> None:
    desk.send(replace(ONE_OF_EACH[1], card=BAD_CARD), permitted=frozenset())
    assert [answer.outcome for answer in desk.register.answers] == [Outcome.NOT_PERMITTED]


def test_an_unreadable_new_card_is_a_bad_card(desk: Desk) -> None:
    desk.send(ReplaceRequest(ID, 0, CARD, BAD_CARD))
    assert [answer.outcome for answer in desk.register.answers] == [Outcome.BAD_CARD]


def test_another_currency_is_a_fact_for_the_decision(desk: Desk) -> None:
    assert not desk.take(RedeemRequest(ID, 0, CARD, 500, Receipt(2_500, "USD", ""))).currency_ok


@pytest.mark.parametrize(("ttl_ms", "deadline"), [(0, 55.0), (1, 50.001), (60_000, 110.0), (2**53 - 1, 110.0)])
def test_the_time_to_live_is_defaulted_and_capped(desk: Desk, ttl_ms: int, deadline: float) -> None:
    assert desk.take(BalanceRequest(ID, ttl_ms, CARD)).deadline == deadline


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (RedeemRequest(ID, 0, CARD, 10**11 + 1, RECEIPT), "points"),
        (RedeemRequest(ID, 0, CARD, 1, Receipt(10**11 + 1, "EUR", "")), "receipt.amount"),
        (EarnRequest(ID, 0, CARD, RECEIPT, 10**11 + 1, NOON), "eligible_amount"),
        (CaptureRequest(ID, 0, CARD, TARGET, 10**11 + 1, RECEIPT), "points"),
        (RefundRequest(ID, 0, CARD, TARGET, Receipt(2**53 - 1, "EUR", "")), "receipt.amount"),
    ],
)
def test_beyond_the_largest_amount_a_request_is_malformed(desk: Desk, request_: Request, field: str) -> None:
    desk.send(request_)
    assert [(code, text.partition(":")[0]) for code, text, _ in desk.register.errors] == [(ErrorCode.MALFORMED, field)]
    assert not desk.ledger.submitted


def test_the_largest_amount_itself_is_fine(desk: Desk) -> None:
    assert desk.take(RedeemRequest(ID, 0, CARD, 10**11, Receipt(10**11, "EUR", ""))).points == 10**11


NEW_RULES_AT = NOON + 10_000
CHANGING = (
    Rules(0, earn_rate_bp=500, activation_days=1, expiry_days=10),
    Rules(NEW_RULES_AT, earn_rate_bp=900, activation_days=2, expiry_days=20),
)


def earn(sale_time_ms: int, *, offline: bool) -> EarnRequest:
    return EarnRequest(ID, 0, CARD, RECEIPT, None, sale_time_ms, offline)


def test_online_the_servers_clock_picks_the_rules_whatever_the_register_says() -> None:
    desk = Desk(*CHANGING)
    for now_ms, rate, days in ((NEW_RULES_AT - 1, 500, (20_001, 20_010)), (NEW_RULES_AT, 900, (20_002, 20_020))):
        for sale_time_ms in (0, NEW_RULES_AT + DAY_MS, 2**53 - 1):
            submission = desk.take(earn(sale_time_ms, offline=False), now_ms)
            assert (submission.terms[0], submission.sale_ms) == (rate, now_ms)
            assert (submission.active_day, submission.expiry_day) == days
            assert submission.time_ok


def test_an_advice_counts_by_the_time_of_the_sale_however_late_it_comes() -> None:
    desk = Desk(*CHANGING)
    sold = NEW_RULES_AT - 5 * DAY_MS
    submission = desk.take(earn(sold, offline=True), NEW_RULES_AT + 40 * DAY_MS)
    assert (submission.terms[0], submission.sale_ms, submission.time_ok) == (500, sold, True)
    assert (submission.active_day, submission.expiry_day) == (19_996, 20_005)
    assert desk.take(earn(0, offline=True)).time_ok


def test_what_a_relay_answered_counts_by_the_time_of_its_answer_also_a_sale() -> None:
    desk = Desk(*CHANGING)
    sold = NEW_RULES_AT - 1
    for request in (earn(0, offline=False), SaleRequest(ID, 0, CARD, RECEIPT)):
        submission = desk.take(request, NEW_RULES_AT + 40 * DAY_MS, Relayed(sale_ms=sold))
        assert submission.terms == CHANGING[0].terms
        assert (submission.sale_ms, submission.active_day) == (sold, 20_001)


def test_a_relay_whose_clock_is_ahead_sold_now(desk: Desk) -> None:
    submission = desk.take(earn(NOON, offline=True), NOON, Relayed(sale_ms=NOON + 90 * DAY_MS))
    assert (submission.sale_ms, submission.time_ok) == (NOON, True)


def test_a_hold_that_a_relay_may_make_lasts_as_it_shall_and_no_receipt_bounds_it() -> None:
    rules = Rules(0, hold_default_ms=1_000, hold_max_ms=2_000, redeem_max=700, share_bp=5_000, day_points_max=900)
    desk = Desk(rules)
    submission = desk.take(ONE_OF_EACH[2], NOON, Relayed(hold_ms=90_000))
    assert submission.hold_ms == 90_000
    assert submission.terms == Rules(0, hold_default_ms=1_000, hold_max_ms=90_000, day_points_max=900).terms
    assert desk.take(ONE_OF_EACH[2], NOON).terms == rules.terms


def test_an_advice_from_the_future_is_told_apart_without_harm() -> None:
    desk = Desk()
    assert desk.take(earn(NOON + 600_000, offline=True)).time_ok
    for sale_time_ms in (NOON + 600_001, 2**53 - 1):
        assert not desk.take(earn(sale_time_ms, offline=True)).time_ok


def test_the_day_is_the_programmes_day_and_changes_at_its_midnight() -> None:
    desk = Desk(zone="Asia/Tokyo")
    midnight = 20_000 * DAY_MS + 15 * 3_600_000
    for now_ms, day in ((midnight - 1, 20_000), (midnight, 20_001), (midnight - 1, 20_000)):
        assert desk.take(earn(0, offline=False), now_ms).active_day == day


def test_a_replaced_programme_holds_at_once(desk: Desk) -> None:
    desk.take(ONE_OF_EACH[0])
    network = Network(7, 3, "Corner shops", "USD", (Rules(0, earn_rate_bp=700),))
    desk.ledger.programme = Programme(2, {7: network}, BusinessDay(ZoneInfo("UTC")))
    submission = desk.take(ONE_OF_EACH[1])
    assert (submission.terms[0], submission.currency_ok) == (700, False)


def test_a_network_that_has_vanished_is_busy_not_a_crash(desk: Desk) -> None:
    desk.ledger.programme = Programme(2, {}, BusinessDay(ZoneInfo("UTC")))
    desk.send(ONE_OF_EACH[0])
    assert [code for code, _, _ in desk.register.errors] == [ErrorCode.BUSY]


def test_while_draining_nothing_is_begun(desk: Desk) -> None:
    desk.dispatcher.drain(1_500)
    desk.send(ONE_OF_EACH[1])
    assert [(code, retry) for code, _, retry in desk.register.errors] == [(ErrorCode.BUSY, 1_500)]
    assert not desk.ledger.submitted


LIMITED = Rules(0, terminal_day_points_max=1_000)


@pytest.fixture
async def limited() -> Desk:
    desk = Desk(LIMITED, spent=200)
    await desk.room.load(11, 20_000)
    return desk


async def test_the_terminals_room_is_told_and_reserved(limited: Desk) -> None:
    rooms = [limited.take(request).terminal_room for request in (ONE_OF_EACH[1], ONE_OF_EACH[2], ONE_OF_EACH[6])]
    assert rooms == [800, 300, 0]


async def test_what_a_limited_terminal_spends_counts_on_its_day(limited: Desk) -> None:
    for request in ONE_OF_EACH:
        spends = request.op in (Message.REDEEM, Message.HOLD, Message.SALE)
        assert limited.take(request).limited_day == (20_000 if spends else 0)


def test_without_a_limit_no_day_is_counted(desk: Desk) -> None:
    assert desk.take(ONE_OF_EACH[1]).limited_day == 0


def test_a_name_is_asked_for_with_a_balance_where_the_rules_allow_it() -> None:
    for allowed in (False, True):
        desk = Desk(Rules(0, greeting=allowed))
        for request in ONE_OF_EACH:
            assert desk.take(request).greeting == (allowed and request.op == Message.BALANCE)


async def test_what_spends_nothing_has_no_room(limited: Desk) -> None:
    for request in ONE_OF_EACH:
        if request.op not in (Message.REDEEM, Message.HOLD, Message.SALE):
            assert limited.take(request).terminal_room == -1
    assert limited.take(SaleRequest(ID, 0, CARD, RECEIPT, 0)).terminal_room == -1


ROOM_AFTER: list[tuple[Callable[[Pending], None], int]] = [
    (lambda pending: pending.answer(ID, body(Outcome.APPROVED, 500), replayed=False), 300),
    (lambda pending: pending.answer(ID, body(Outcome.APPROVED_PARTIAL, 100), replayed=False), 700),
    (lambda pending: pending.answer(ID, body(Outcome.INSUFFICIENT, 0), replayed=False), 800),
    (lambda pending: pending.answer(ID, body(Outcome.APPROVED, 500), replayed=True), 800),
    (lambda pending: pending.refuse(ID, Refusal.BUSY, 100), 800),
    (lambda pending: pending.refuse(ID, Refusal.EXPIRED, 0), 800),
    (lambda pending: pending.refuse(ID, Refusal.ID_REUSED, 0), 800),
    (lambda pending: pending.refuse(ID, Refusal.UNAVAILABLE, 0), 300),
]


@pytest.mark.parametrize(("end", "room_after"), ROOM_AFTER)
async def test_the_answer_settles_the_room(limited: Desk, end: Callable[[Pending], None], room_after: int) -> None:
    end(limited.send(ONE_OF_EACH[1]))
    assert limited.room.room(11, 20_000, 1_000) == room_after
    await limited.room.stop()


async def test_a_terminal_whose_figure_is_not_known_yet_waits() -> None:
    desk = Desk(LIMITED)
    desk.send(ONE_OF_EACH[1])
    assert [code for code, _, _ in desk.register.errors] == [ErrorCode.BUSY]
    await desk.room.load(11, 20_000)
    desk.send(ONE_OF_EACH[1])
    assert desk.ledger.submitted[-1].terminal_room == 1_000


async def test_without_a_limit_no_room_is_asked_for() -> None:
    assert Desk().take(ONE_OF_EACH[1]).terminal_room == -1


def test_every_refusal_has_its_words(desk: Desk) -> None:
    for refusal in Refusal:
        desk.send(ONE_OF_EACH[0]).refuse(ID, refusal, 7)
    assert [(code, retry) for code, _, retry in desk.register.errors] == [(int(each), 7) for each in Refusal]
    assert all(text for _, text, _ in desk.register.errors)
