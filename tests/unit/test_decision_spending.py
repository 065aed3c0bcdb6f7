"""REDEEM, HOLD, CAPTURE, RELEASE, EARN and SALE: the rules of spending and earning, one by one."""

import pytest

from ledger.operations import Decision, Outcome
from ledger.operations import Operation as Op
from tests.unit.decision_account import DAY_MS, NOON, TODAY, Account


def test_the_points_that_expire_soonest_are_spent_first() -> None:
    account = Account()
    account.earn(100, days=0)
    account.earn(100, days=30)
    account.earn(100, days=10)
    account.redeem(150)
    assert account.lots == [[30, 50, 0], [0, 100, 0]]


def test_points_of_the_same_days_make_one_lot() -> None:
    account = Account()
    account.earn(100, days=10)
    account.earn(50, days=10)
    assert account.lots == [[10, 150, 0]]


def test_the_last_day_of_a_lot_counts_and_the_next_does_not() -> None:
    account = Account()
    account.earn(100, days=10)
    account.days_pass(10)
    assert account.available == 100
    account.days_pass(1)
    assert account.available == 0
    assert account.entries[-1][1] == Op.EARN, "a balance leaves no entry"


def test_pending_points_cannot_be_spent_before_their_day() -> None:
    account = Account()
    account.earn(100, active_day=TODAY + 1)
    result = account.decide(Op.REDEEM, points=1)
    assert (result.outcome, result.balance[:3]) == (Outcome.INSUFFICIENT, [0, 0, 100])
    account.days_pass(1)
    account.redeem(100)


def test_the_balance_names_what_expires_next() -> None:
    account = Account()
    account.earn(30, days=10)
    account.earn(50, days=20)
    account.earn(70, days=0)
    assert account.decide(Op.BALANCE).balance == [150, 0, 0, 0, 30, TODAY + 10]
    account.redeem(30)
    assert account.decide(Op.BALANCE).balance[4:] == [50, TODAY + 20]
    account.redeem(50)
    assert account.decide(Op.BALANCE).balance[4:] == [0, 0]


def test_a_hold_keeps_its_points_until_it_is_captured_and_frees_the_rest() -> None:
    account = Account()
    account.earn(100, days=10)
    account.earn(100, days=20)
    hold = account.hold(150)
    assert account.decide(Op.BALANCE).balance[:2] == [50, 150]
    result = account.decide(Op.CAPTURE, target=hold, points=120)
    assert (result.points, result.balance[:2]) == (120, [80, 0])
    assert account.lots == [[20, 80, 0]]


def test_a_capture_of_no_points_takes_all_that_is_held() -> None:
    account = Account()
    account.earn(100)
    assert account.decide(Op.CAPTURE, target=account.hold(60)).points == 60


def test_a_released_hold_gives_all_back() -> None:
    account = Account()
    account.earn(100)
    result = account.decide(Op.RELEASE, target=account.hold(60))
    assert (result.points, result.balance[:2]) == (60, [100, 0])


def test_a_hold_lasts_to_its_very_last_millisecond() -> None:
    account = Account(hold_ms_default=1000)
    account.earn(100)
    hold = account.hold(60)
    late = account.decide(Op.CAPTURE, target=hold, now_ms=NOON + 1001)
    assert late.outcome == Outcome.HOLD_EXPIRED
    assert account.decide(Op.CAPTURE, target=hold, now_ms=NOON + 1000).outcome == Outcome.APPROVED


def test_the_length_of_a_hold_is_bounded() -> None:
    account = Account(hold_ms_max=5000)
    account.earn(100)
    assert account.decide(Op.HOLD, points=1, hold_ms=9000).detail == NOON + 5000
    assert account.decide(Op.HOLD, points=1, hold_ms=3000).detail == NOON + 3000


def test_held_points_outlive_their_lot_until_the_hold_ends() -> None:
    account = Account()
    account.earn(100, days=1)
    hold = account.hold(60, hold_ms=5 * DAY_MS)
    account.days_pass(3)
    assert account.decide(Op.BALANCE).balance[:2] == [0, 60]
    result = account.decide(Op.CAPTURE, target=hold, points=50)
    assert [entry[1] for entry in result.entries] == [Op.EXPIRE_LOTS, Op.CAPTURE, Op.EXPIRE_LOTS]
    assert [entry[4] for entry in result.entries] == [-40, -50, -10]
    assert account.now.balance == 0


def test_what_time_has_done_is_written_with_the_next_approval() -> None:
    account = Account()
    account.earn(100, days=1)
    account.earn(100, days=0)
    hold = account.hold(30)
    account.days_pass(2)
    result = account.decide(Op.REDEEM, points=10)
    assert [entry[:3] for entry in result.entries[:2]] == [[4, Op.EXPIRE_HOLD, False], [5, Op.EXPIRE_LOTS, False]]
    assert result.entries[0][15] == hold
    assert result.entries[2][:2] == [6, Op.REDEEM]
    assert account.lots == [[0, 90, 0]]


def test_settle_writes_what_time_has_done_and_nothing_else() -> None:
    account = Account()
    account.earn(100, days=1)
    assert account.decide(Op.SETTLE, id=False, token=False).entries == []
    account.days_pass(2)
    assert [entry[1] for entry in account.decide(Op.SETTLE, id=False, token=False).entries] == [Op.EXPIRE_LOTS]


@pytest.mark.parametrize(("amount", "rate", "earned"), [(999, 500, 49), (1, 9_999, 0), (200, 0, 0), (333, 25_000, 832)])
def test_earned_points_are_rounded_down(amount: int, rate: int, earned: int) -> None:
    assert Account(earn_rate_bp=rate).decide(Op.EARN, amount=amount).earned == earned


def test_only_the_eligible_amount_earns() -> None:
    assert Account().decide(Op.EARN, amount=1000, eligible=300).earned == 300
    assert Account().decide(Op.EARN, amount=1000, eligible=0).earned == 0
    assert Account().decide(Op.EARN, amount=1000, eligible=2000).earned == 1000


def test_what_points_paid_for_earns_nothing() -> None:
    account = Account(earn_rate_bp=1000)
    account.earn(50_000)
    result = account.decide(Op.SALE, amount=1000, points=400)
    assert (result.points, result.earned) == (400, 60)
    assert account.decide(Op.SALE, amount=1000, points=400, eligible=500).earned == 50


def test_a_sale_does_not_spend_what_it_earns() -> None:
    account = Account()
    account.earn(100)
    assert account.decide(Op.SALE, amount=1000, points=101).outcome == Outcome.INSUFFICIENT
    assert account.decide(Op.SALE, amount=1000, points=100).outcome == Outcome.APPROVED


def test_a_sale_without_points_skips_the_rules_of_spending() -> None:
    account = Account(redeem_min=500, day_count_max=1)
    result = account.decide(Op.SALE, amount=300)
    assert (result.outcome, result.points, result.earned) == (Outcome.APPROVED, 0, 300)
    assert account.now.day_count == 0


def test_a_late_sale_earns_points_that_may_have_expired_already() -> None:
    account = Account()
    result = account.decide(Op.EARN, amount=100, active_day=TODAY - 40, expiry_day=TODAY - 10)
    assert (result.earned, result.available) == (100, 0)
    assert [(entry[1], entry[4]) for entry in result.entries] == [(Op.EARN, 100), (Op.EXPIRE_LOTS, -100)]


# Partial approval.


def test_part_is_granted_only_when_the_till_allows_it() -> None:
    account = Account()
    account.earn(70)
    assert account.decide(Op.REDEEM, points=100).outcome == Outcome.INSUFFICIENT
    result = account.decide(Op.REDEEM, points=100, partial=True)
    assert (result.outcome, result.points, result.available) == (Outcome.APPROVED_PARTIAL, 70, 0)


def test_a_part_below_the_minimum_is_declined_by_the_smallest_cap() -> None:
    account = Account(redeem_min=50, redeem_max=60)
    account.earn(40)
    assert account.decide(Op.REDEEM, points=100, partial=True).outcome == Outcome.INSUFFICIENT
    result = account.decide(Op.REDEEM, points=100, partial=True, terminal_room=40)
    assert result.outcome == Outcome.TERMINAL_LIMIT, "of equal caps the first in precedence counts"


def test_never_more_points_than_the_receipt_is_worth() -> None:
    account = Account()
    account.earn(500)
    assert account.decide(Op.REDEEM, points=101, amount=100).outcome == Outcome.ABOVE_SHARE
    assert account.decide(Op.REDEEM, points=101, amount=100, partial=True).points == 100


def test_a_share_needs_an_amount_to_be_a_share_of() -> None:
    account = Account(share_bp=5000)
    account.earn(500)
    assert account.decide(Op.REDEEM, points=1).outcome == Outcome.ABOVE_SHARE
    assert account.decide(Op.REDEEM, points=51, amount=101).outcome == Outcome.ABOVE_SHARE
    account.redeem(50, amount=101)


# Limits of the day.


def test_the_day_limits_points_and_number_of_redemptions() -> None:
    account = Account(day_points_max=100, day_count_max=3)
    account.earn(500)
    account.redeem(60)
    assert account.decide(Op.REDEEM, points=41).outcome == Outcome.ACCOUNT_LIMIT
    account.hold(20)
    account.redeem(20)
    assert account.decide(Op.REDEEM, points=1).outcome == Outcome.ACCOUNT_LIMIT
    account.days_pass(1)
    account.redeem(100)


def test_what_a_hold_did_not_take_counts_no_longer() -> None:
    account = Account(day_points_max=100)
    account.earn(500)
    account.decide(Op.CAPTURE, target=account.hold(100), points=30)
    account.redeem(70)
    assert account.decide(Op.REDEEM, points=1).outcome == Outcome.ACCOUNT_LIMIT


def test_a_hold_that_timed_out_today_counts_no_longer() -> None:
    account = Account(day_points_max=100)
    account.earn(500)
    account.hold(100)
    account.now_ms += 600_001
    account.redeem(100)
    assert account.now.day_points == 100


def test_a_reversed_redemption_of_today_counts_no_longer() -> None:
    account = Account(day_points_max=100)
    account.earn(500)
    account.approved(Op.REVERSE, target=account.redeem(100))
    account.redeem(100)


def test_a_clock_that_steps_back_opens_no_new_day() -> None:
    account = Account(day_points_max=100)
    account.earn(500)
    account.redeem(100)
    assert account.decide(Op.REDEEM, points=1, today=TODAY - 1).outcome == Outcome.ACCOUNT_LIMIT


def test_a_server_whose_clock_is_behind_does_not_reset_the_day() -> None:
    account = Account(day_points_max=100)
    account.earn(500, active_day=TODAY - 1)
    account.redeem(60)
    account.redeem(10, today=TODAY - 1)
    assert account.decide(Op.REDEEM, points=31).outcome == Outcome.ACCOUNT_LIMIT
    account.redeem(30)


def test_a_reversed_redemption_of_yesterday_gives_today_no_more_room() -> None:
    account = Account(day_points_max=100)
    account.earn(500)
    yesterday = account.redeem(100)
    account.days_pass(1)
    account.redeem(100)
    account.approved(Op.REVERSE, target=yesterday)
    assert account.decide(Op.REDEEM, points=1).outcome == Outcome.ACCOUNT_LIMIT


# Operators.


def test_an_operator_gives_and_takes_points() -> None:
    account = Account()
    account.approved(Op.ADJUST, token=False, points=100)
    assert account.available == 100
    result = account.decide(Op.ADJUST, token=False, points=-130)
    assert (result.earned, result.balance[0], result.balance[3]) == (-130, 0, 30)


def test_what_comes_in_pays_what_is_owed_first() -> None:
    account = Account()
    account.approved(Op.ADJUST, token=False, points=-30)
    result = account.decide(Op.EARN, amount=100)
    assert (result.earned, result.available, account.owed) == (100, 70, 0)
    assert result.entries[0][4:7] == [70, 0, -30]


# The request ring.


def test_a_known_id_is_a_replay_and_changes_nothing() -> None:
    account = Account()
    account.earn(100)
    redemption = account.redeem(40)
    before = account.state
    again = account.decide(Op.REDEEM, id=redemption, points=40)
    assert (again.status, again.entries) == (Decision.REPLAY, [])
    assert account.state is before


def test_a_decline_is_not_remembered_and_is_decided_anew() -> None:
    account = Account()
    request_id = account.new_id()
    assert account.decide(Op.REDEEM, id=request_id, points=10).outcome == Outcome.INSUFFICIENT
    account.earn(10)
    assert account.decide(Op.REDEEM, id=request_id, points=10).outcome == Outcome.APPROVED


def test_a_decline_is_doubtful_once_ids_have_been_forgotten() -> None:
    account = Account()
    first = account.earn(1)
    for _ in range(7):
        account.earn(1)
    assert account.decide(Op.REDEEM, points=100).doubtful == 0
    assert account.decide(Op.EARN, id=first, amount=1).status == Decision.REPLAY
    account.earn(1)
    assert account.decide(Op.EARN, id=first, amount=1).status == Decision.DECIDED
    assert account.decide(Op.REDEEM, points=100).doubtful == 1
    assert account.decide(Op.BALANCE, permitted=False).doubtful == 0
