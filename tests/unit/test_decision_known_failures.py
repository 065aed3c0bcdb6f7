"""How other systems lost or doubled points, each as a test named after the public thread."""

from ledger.operations import Decision, Outcome
from ledger.operations import Operation as Op
from tests.unit.decision_account import Account


def funded(points: int = 1000) -> Account:
    account = Account()
    account.earn(points)
    return account


def test_the_debit_that_a_driver_sent_twice_is_applied_once_midaz_2485() -> None:
    account = funded()
    request_id = account.redeem(300)
    assert account.decide(Op.REDEEM, id=request_id, points=300).status == Decision.REPLAY
    assert account.available == 700


def test_a_repeated_refund_does_not_reverse_the_first_blnk_374() -> None:
    account = funded()
    redemption = account.redeem(300)
    refund = account.approved(Op.REFUND, target=redemption)
    assert account.decide(Op.REFUND, id=refund, target=redemption).status == Decision.REPLAY
    assert account.available == 1000


def test_a_refund_is_not_repeatable_blnk_152() -> None:
    account = funded()
    redemption = account.redeem(300)
    account.approved(Op.REFUND, target=redemption)
    assert account.decide(Op.REFUND, target=redemption).outcome == Outcome.REFUND_EXCEEDS
    assert account.available == 1000


def test_a_rejected_hold_cannot_be_captured_blnk_182() -> None:
    account = funded()
    declined, stopped = account.new_id(), account.new_id()
    assert account.decide(Op.HOLD, id=declined, points=1001).outcome == Outcome.INSUFFICIENT
    assert account.decide(Op.CAPTURE, target=declined).outcome == Outcome.HOLD_UNKNOWN
    account.approved(Op.REVERSE, target=stopped)
    assert account.decide(Op.CAPTURE, target=stopped).outcome == Outcome.HOLD_CLOSED
    assert account.available == 1000


def test_a_hold_voided_twice_gives_back_once_blnk_41() -> None:
    account = funded()
    hold = account.hold(300)
    account.approved(Op.RELEASE, target=hold)
    assert account.decide(Op.RELEASE, target=hold).outcome == Outcome.HOLD_CLOSED
    account.approved(Op.REVERSE, target=hold)
    assert account.available == 1000


def test_capture_above_the_hold_blnk_62() -> None:
    account = funded()
    hold = account.hold(300)
    assert account.decide(Op.CAPTURE, target=hold, points=301).outcome == Outcome.CAPTURE_EXCEEDS
    assert account.decide(Op.BALANCE).balance[:2] == [700, 300]


def test_late_payment_after_void_blnk_42() -> None:
    account = funded()
    hold = account.hold(300)
    account.approved(Op.REVERSE, target=hold)
    assert account.decide(Op.CAPTURE, target=hold).outcome == Outcome.HOLD_CLOSED
    assert account.available == 1000


def test_a_hold_expires_by_what_the_account_itself_says_blnk_336() -> None:
    account = funded()
    account.hold(300)
    assert account.decide(Op.BALANCE, now_ms=account.now_ms + 600_001).balance[:2] == [1000, 0]
    settled = account.decide(Op.SETTLE, id=False, token=False, now_ms=account.now_ms + 600_001)
    assert [entry[1] for entry in settled.entries] == [Op.EXPIRE_HOLD]


def test_a_captured_hold_is_not_open_blnk_293() -> None:
    account = funded()
    hold = account.hold(300)
    account.approved(Op.CAPTURE, target=hold, points=100)
    assert account.now.holds == []
    assert account.decide(Op.CAPTURE, target=hold, points=1).outcome == Outcome.HOLD_CLOSED
    assert account.decide(Op.BALANCE).balance[:2] == [900, 0]


def test_the_same_payment_twice_formance_stack_1464() -> None:
    account = funded()
    sale = account.approved(Op.SALE, points=300, amount=500)
    assert account.decide(Op.SALE, id=sale, points=300, amount=500).status == Decision.REPLAY
    assert account.available == 900


def test_double_top_up_lago_5870() -> None:
    account = Account()
    purchase = account.earn(300)
    assert account.decide(Op.EARN, id=purchase, amount=300).status == Decision.REPLAY
    assert account.available == 300


def test_buy_refund_and_keep_the_points_odoo_257854() -> None:
    account = Account()
    account.approved(Op.REFUND, target=account.earn(300))
    assert (account.available, account.owed) == (0, 0)


def test_a_refund_is_not_deducted_again_odoo_212922_and_221928() -> None:
    account = funded()
    purchase = account.earn(300, days=30)
    account.approved(Op.REFUND, target=purchase, amount=100)
    account.approved(Op.REFUND, target=purchase)
    assert account.decide(Op.REFUND, target=purchase).outcome == Outcome.REFUND_EXCEEDS
    assert account.available == 1000


def test_an_offline_sale_sent_again_counts_once_oca_pos_185() -> None:
    account = Account()
    advice = account.earn(300)
    account.days_pass(3)
    again = account.decide(Op.EARN, id=advice, amount=300, sale_ms=1)
    assert again.status == Decision.REPLAY
    assert account.available == 300


def test_the_cashier_chooses_how_much_to_spend_odoo_264931() -> None:
    account = funded()
    assert account.decide(Op.SALE, points=123, amount=5000).points == 123


def test_the_reward_itself_earns_nothing_odoo_150833() -> None:
    account = funded()
    assert account.decide(Op.SALE, points=1000, amount=1000).earned == 0


def test_tenths_do_not_add_up_to_fractions_odoo_111670_and_153541() -> None:
    account = Account(earn_rate_bp=1)
    for _ in range(10):
        account.earn(10_001)
    result = account.decide(Op.REDEEM, points=10)
    assert (result.outcome, result.available) == (Outcome.APPROVED, 0)
    assert all(type(number) is int for number in result.balance)


def test_the_same_points_are_not_redeemable_again_erpnext_59050() -> None:
    account = funded()
    account.redeem(1000)
    assert account.decide(Op.REDEEM, points=1).outcome == Outcome.INSUFFICIENT


def test_a_return_after_spending_leaves_a_debt_erpnext_32951() -> None:
    account = Account()
    purchase = account.earn(300)
    account.redeem(300)
    account.approved(Op.REFUND, target=purchase)
    assert (account.available, account.owed) == (0, 300)


def test_two_checkouts_do_not_drain_one_balance_medusa_16347_and_saleor_13640() -> None:
    account = funded()
    account.hold(700)
    assert account.decide(Op.HOLD, points=700).outcome == Outcome.INSUFFICIENT
    assert account.decide(Op.REDEEM, points=301).outcome == Outcome.INSUFFICIENT


def test_a_refund_is_bounded_by_what_was_paid_eventyay_2824() -> None:
    account = funded()
    redemption = account.redeem(300, amount=600)
    assert account.decide(Op.REFUND, target=redemption, amount=601).outcome == Outcome.REFUND_EXCEEDS
    account.approved(Op.REFUND, target=redemption, amount=599)
    assert account.decide(Op.REFUND, target=redemption, amount=2).outcome == Outcome.REFUND_EXCEEDS
    assert account.available == 999


def test_a_refund_fills_the_value_again_sylius_342() -> None:
    account = funded()
    account.approved(Op.REFUND, target=account.redeem(1000))
    assert account.redeem(1000)


def test_a_time_out_does_not_eat_the_points_punchh() -> None:
    account = funded()
    unanswered = account.redeem(1000)
    account.approved(Op.REVERSE, target=unanswered)
    account.approved(Op.REVERSE, target=unanswered)
    assert account.available == 1000


def test_returned_points_keep_their_expiry_siebel() -> None:
    account = Account()
    account.earn(300, days=2)
    redemption = account.redeem(300)
    account.days_pass(1)
    account.approved(Op.REFUND, target=redemption, expiry_day=account.today + 365)
    assert account.lots == [[2, 300, 0]]
