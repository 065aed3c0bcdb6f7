"""REFUND and REVERSE: points go back where they came from, once."""

import pytest

from ledger.operations import Decision, Outcome
from ledger.operations import Operation as Op
from tests.unit.decision_account import NOON, TODAY, Account


def test_refunded_points_return_to_their_lots_the_latest_to_expire_first() -> None:
    account = Account()
    account.earn(100, days=10)
    account.earn(100, days=20)
    redemption = account.redeem(150, amount=300)
    result = account.decide(Op.REFUND, target=redemption, amount=120)
    assert (result.points, account.lots) == (60, [[10, 10, 0], [20, 100, 0]])
    account.approved(Op.REFUND, target=redemption)
    assert account.lots == [[10, 100, 0], [20, 100, 0]]


@pytest.mark.parametrize("parts", [[1] * 7, [3, 3, 1], [2, 5], [6, 1]])
def test_partial_refunds_sum_to_the_whole_exactly(parts: list[int]) -> None:
    account = Account(earn_rate_bp=12_345)
    account.earn(1000)
    before = account.available
    sale = account.approved(Op.SALE, amount=7, points=3)
    results = [account.decide(Op.REFUND, target=sale, amount=part) for part in parts]
    assert sum(result.points for result in results) == 3
    assert sum(result.earned for result in results) == -4
    assert account.available == before


def test_partial_refunds_with_a_reversed_one_between_still_sum_to_the_whole() -> None:
    account = Account(earn_rate_bp=12_345)
    account.earn(1000)
    before = account.available
    sale = account.approved(Op.SALE, amount=7, points=3)
    account.approved(Op.REFUND, target=sale, amount=2)
    middle = account.approved(Op.REFUND, target=sale, amount=1)
    account.approved(Op.REFUND, target=sale, amount=3)
    account.approved(Op.REVERSE, target=middle)
    account.approved(Op.REFUND, target=sale, amount=1)
    account.approved(Op.REFUND, target=sale)
    assert (account.available, account.owed) == (before, 0)


def test_a_rounding_left_by_a_reversed_refund_never_takes_points_away() -> None:
    account = Account()
    account.earn(100)
    redemption = account.redeem(2, amount=5)
    first = account.approved(Op.REFUND, target=redemption, amount=2)
    assert account.decide(Op.REFUND, target=redemption, amount=1).points == 1
    account.approved(Op.REVERSE, target=first)
    assert account.decide(Op.REFUND, target=redemption, amount=1).points == 0
    assert account.decide(Op.REFUND, target=redemption).points == 1
    assert account.available == 100


def test_a_redemption_without_an_amount_is_refunded_by_points() -> None:
    account = Account()
    account.earn(100)
    redemption = account.redeem(80)
    assert account.decide(Op.REFUND, target=redemption, amount=30).points == 30
    assert account.decide(Op.REFUND, target=redemption).points == 50


def test_a_captured_hold_is_refunded_by_its_capture() -> None:
    account = Account()
    account.earn(100)
    capture = account.approved(Op.CAPTURE, target=account.hold(80, amount=200), points=60)
    assert account.decide(Op.REFUND, target=capture, amount=100).points == 30
    assert account.available == 70


def test_earned_points_already_spent_are_owed_after_a_refund() -> None:
    account = Account()
    purchase = account.earn(100)
    account.redeem(80)
    result = account.decide(Op.REFUND, target=purchase)
    assert (result.earned, result.balance[0], result.balance[3]) == (-100, 0, 80)
    entry = result.entries[0]
    assert entry[4] == entry[11] - entry[10] + entry[6] == -20


def test_what_is_given_back_pays_what_is_owed_first() -> None:
    account = Account()
    account.earn(100)
    redemption = account.redeem(100)
    account.approved(Op.ADJUST, token=False, points=-30)
    result = account.decide(Op.REFUND, target=redemption)
    assert (result.points, result.balance[0], result.balance[3]) == (100, 70, 0)


def test_the_lot_that_the_purchase_filled_is_emptied_first() -> None:
    account = Account()
    account.earn(100, days=10)
    purchase = account.earn(100, days=20)
    account.approved(Op.REFUND, target=purchase, amount=60)
    assert account.lots == [[10, 100, 0], [20, 40, 0]]


def test_points_given_back_to_an_expired_lot_expire_in_the_same_breath() -> None:
    account = Account()
    account.earn(100, days=1)
    redemption = account.redeem(100)
    account.days_pass(2)
    result = account.decide(Op.REFUND, target=redemption)
    assert (result.points, result.available) == (100, 0)
    assert [(entry[1], entry[4]) for entry in result.entries] == [(Op.REFUND, 100), (Op.EXPIRE_LOTS, -100)]


def test_a_reversed_refund_into_an_expired_lot_takes_nothing_from_the_living() -> None:
    account = Account()
    account.earn(100, days=1)
    redemption = account.redeem(100)
    account.days_pass(2)
    account.earn(500)
    refund = account.approved(Op.REFUND, target=redemption)
    result = account.decide(Op.REVERSE, target=refund)
    assert (result.balance[0], result.balance[3]) == (500, 0)
    assert [(entry[1], entry[4]) for entry in result.entries] == [(Op.EXPIRE_LOTS, 100), (Op.REVERSE, -100)]


def test_a_purchase_whose_points_came_too_late_costs_nothing_when_returned() -> None:
    account = Account()
    account.earn(500)
    late = account.approved(Op.EARN, amount=100, active_day=TODAY - 40, expiry_day=TODAY - 10)
    account.approved(Op.REFUND, target=late, amount=40)
    account.approved(Op.REVERSE, target=late)
    assert (account.available, account.owed) == (500, 0)


# Reversal.


@pytest.mark.parametrize("op", [Op.REDEEM, Op.HOLD, Op.SALE, Op.EARN])
def test_a_reversal_leaves_the_account_as_it_was(op: Op) -> None:
    account = Account()
    account.earn(100, days=10)
    account.earn(100, days=20)
    before = account.now
    original = account.approved(op, points=150, amount=300, expiry_day=TODAY + 99)
    account.approved(Op.REVERSE, target=original)
    told = {name: getattr(account.now, name) for name in ("balance", "held", "owed", "lots", "holds", "day_points")}
    assert told == {name: getattr(before, name) for name in told}


def test_a_reversed_capture_gives_the_points_back_and_leaves_the_hold_closed() -> None:
    account = Account()
    account.earn(100)
    hold = account.hold(80)
    capture = account.approved(Op.CAPTURE, target=hold, points=50)
    result = account.decide(Op.REVERSE, target=capture)
    assert (result.points, result.available) == (50, 100)
    assert account.decide(Op.CAPTURE, target=hold).outcome == Outcome.HOLD_CLOSED


def test_a_reversed_hold_undoes_its_capture() -> None:
    account = Account()
    account.earn(100)
    hold = account.hold(80)
    capture = account.approved(Op.CAPTURE, target=hold, points=50)
    account.approved(Op.REFUND, target=capture, amount=20)
    result = account.decide(Op.REVERSE, target=hold)
    assert (result.points, result.available) == (30, 100)
    assert account.decide(Op.REFUND, target=capture, amount=1).outcome == Outcome.ORIGINAL_REVERSED
    assert account.decide(Op.REVERSE, target=capture).available == 100


def test_a_reversed_hold_that_timed_out_unnoticed_gives_nothing_twice() -> None:
    account = Account()
    account.earn(100)
    hold = account.hold(80)
    result = account.decide(Op.REVERSE, target=hold, now_ms=NOON + 600_001)
    assert (result.points, result.balance[:2]) == (0, [100, 0])
    assert [entry[1] for entry in result.entries] == [Op.EXPIRE_HOLD, Op.REVERSE]


def test_a_reversed_refund_spends_again_what_it_gave_back() -> None:
    account = Account()
    account.earn(100)
    redemption = account.redeem(100)
    refund = account.approved(Op.REFUND, target=redemption)
    account.redeem(70)
    result = account.decide(Op.REVERSE, target=refund)
    assert (result.balance[0], result.balance[3]) == (0, 70)
    account.decide(Op.REFUND, target=redemption)
    assert (account.available, account.owed) == (30, 0)


def test_a_reversed_refund_takes_from_each_lot_what_it_gave() -> None:
    account = Account()
    account.earn(100, days=10)
    account.earn(100, days=20)
    refund = account.approved(Op.REFUND, target=account.redeem(150))
    account.earn(100, days=10)
    account.approved(Op.REVERSE, target=refund)
    assert account.lots == [[10, 100, 0], [20, 50, 0]]


def test_a_refund_of_something_reversed_since_is_reversed_without_effect() -> None:
    account = Account()
    account.earn(100)
    redemption = account.redeem(100)
    refund = account.approved(Op.REFUND, target=redemption, amount=40)
    account.approved(Op.REVERSE, target=redemption)
    assert account.available == 100
    account.approved(Op.REVERSE, target=refund)
    assert account.available == 100


def test_a_reversal_that_comes_first_leaves_a_tombstone() -> None:
    account = Account()
    account.earn(100)
    redemption = account.new_id()
    result = account.decide(Op.REVERSE, target=redemption)
    assert (result.outcome, result.points) == (Outcome.APPROVED, 0)
    assert result.entries[0][1:3] == [Op.TOMBSTONE, redemption]
    late = account.decide(Op.REDEEM, id=redemption, points=50)
    assert late.status == Decision.REPLAY
    assert account.decide(Op.REVERSE, target=redemption).outcome == Outcome.APPROVED
    assert account.available == 100


def test_a_tombstone_belongs_to_its_partner() -> None:
    account = Account()
    redemption = account.new_id()
    account.approved(Op.REVERSE, target=redemption)
    assert account.decide(Op.REVERSE, target=redemption, partner=2).outcome == Outcome.NOT_PERMITTED


@pytest.mark.parametrize("op", [Op.REFUND, Op.REVERSE, Op.CAPTURE, Op.RELEASE])
def test_a_decision_on_the_past_needs_a_context_as_new_as_the_state(op: Op) -> None:
    account = Account()
    purchase = account.earn(100)
    context = account.context(purchase)
    account.redeem(10)
    before = account.state
    assert account.decide(op, target=purchase, context=False).status == Decision.NEED_CONTEXT
    assert account.decide(op, target=purchase, context=context).status == Decision.STALE_CONTEXT
    assert account.state is before
