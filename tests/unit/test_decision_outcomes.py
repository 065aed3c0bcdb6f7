"""Every decline code, and the order in which they win over one another."""

from typing import Any

import pytest

from ledger.operations import Operation as Op
from ledger.operations import Outcome as Out
from tests.unit.decision_account import Account, Result

SPENDING = [Op.REDEEM, Op.HOLD, Op.SALE]
CARD_USERS = [Op.BALANCE, Op.REDEEM, Op.HOLD, Op.EARN, Op.SALE]
OWNERS = [Op.CAPTURE, Op.RELEASE, Op.REFUND, Op.REVERSE, Op.BLOCK]
UNKNOWN, ISSUED, BLOCKED, REPLACED = b"U" * 16, b"I" * 16, b"B" * 16, b"R" * 16


def funded(**terms: int) -> Account:
    account = Account(**terms)
    account.change(tokens=account.now.tokens | {ISSUED: 0, BLOCKED: 2, REPLACED: 3})
    account.earn(1000)
    return account


def outcome(account: Account, op: Op, **fields: Any) -> int:
    """The outcome of something that would be approved but for `fields`; a decline must leave no trace."""
    before = account.state
    fine: dict[str, Any] = {"points": 100, "amount": 1000, "new_token": b"N" * 16}
    if op in {Op.CAPTURE, Op.RELEASE}:
        fine["target"] = account.now.holds[0][0] if account.now.holds else account.new_id()
    if op in {Op.REFUND, Op.REVERSE}:
        fine["target"] = account.entries[0][2]
    result: Result = account.decide(op, **(fine | fields))
    if result.outcome > 1:
        assert result.entries == []
        assert account.state == before
        assert (result.points, result.earned, result.detail) == (0, 0, 0)
    return result.outcome


@pytest.mark.parametrize("op", [*CARD_USERS, *OWNERS, Op.ACTIVATE, Op.REPLACE, Op.ADJUST])
def test_101_not_permitted(op: Op) -> None:
    assert outcome(funded(), op, permitted=False) == Out.NOT_PERMITTED


@pytest.mark.parametrize("op", [Op.CAPTURE, Op.RELEASE, Op.REFUND, Op.REVERSE])
def test_101_not_permitted_to_touch_what_another_partner_did(op: Op) -> None:
    account = funded()
    account.hold(100)
    assert outcome(account, op, partner=2) == Out.NOT_PERMITTED


@pytest.mark.parametrize("op", [*CARD_USERS, *OWNERS, Op.ACTIVATE, Op.REPLACE])
def test_103_unknown_card(op: Op) -> None:
    account = funded()
    account.hold(100)
    assert outcome(account, op, token=UNKNOWN) == Out.UNKNOWN_CARD


@pytest.mark.parametrize("op", [*CARD_USERS, Op.REPLACE])
def test_104_card_inactive(op: Op) -> None:
    assert outcome(funded(), op, token=ISSUED) == Out.CARD_INACTIVE


@pytest.mark.parametrize("op", [*CARD_USERS, Op.ACTIVATE])
def test_105_card_blocked(op: Op) -> None:
    assert outcome(funded(), op, token=BLOCKED) == Out.CARD_BLOCKED


@pytest.mark.parametrize("op", [*CARD_USERS, Op.ACTIVATE, Op.REPLACE])
def test_106_card_replaced(op: Op) -> None:
    assert outcome(funded(), op, token=REPLACED) == Out.CARD_REPLACED


@pytest.mark.parametrize("status", [1, 2])
@pytest.mark.parametrize("op", [*CARD_USERS, Op.ACTIVATE, Op.REPLACE])
def test_107_account_blocked(op: Op, status: int) -> None:
    account = funded()
    account.change(status=status)
    assert outcome(account, op, token=ISSUED if op == Op.ACTIVATE else b"A" * 16) == Out.ACCOUNT_BLOCKED


@pytest.mark.parametrize("token", [ISSUED, BLOCKED, REPLACED])
@pytest.mark.parametrize("op", OWNERS)
def test_what_is_under_way_is_finished_with_any_card_of_a_blocked_account(op: Op, token: bytes) -> None:
    account = funded()
    account.hold(100)
    account.change(status=1)
    assert outcome(account, op, token=token) == Out.APPROVED


@pytest.mark.parametrize("op", [*CARD_USERS, *OWNERS])
def test_108_wrong_currency_and_109_bad_sale_time(op: Op) -> None:
    account = funded()
    account.hold(100)
    assert outcome(account, op, currency_ok=False, time_ok=False) == Out.WRONG_CURRENCY
    assert outcome(account, op, time_ok=False) == Out.BAD_SALE_TIME


def test_110_original_unknown() -> None:
    assert outcome(funded(), Op.REFUND, target=b"?" * 16) == Out.ORIGINAL_UNKNOWN


def test_111_original_unsuitable() -> None:
    account = funded()
    hold = account.hold(100)
    release = account.approved(Op.RELEASE, target=hold)
    assert outcome(account, Op.REFUND, target=hold) == Out.ORIGINAL_UNSUITABLE
    assert outcome(account, Op.REVERSE, target=release) == Out.ORIGINAL_UNSUITABLE
    assert outcome(account, Op.CAPTURE, target=account.entries[0][2]) == Out.ORIGINAL_UNSUITABLE
    reversal = account.approved(Op.REVERSE, target=account.redeem(10))
    assert outcome(account, Op.REVERSE, target=reversal) == Out.ORIGINAL_UNSUITABLE
    assert outcome(account, Op.REFUND, target=reversal) == Out.ORIGINAL_UNSUITABLE


def test_111_a_request_cannot_reverse_itself() -> None:
    assert outcome(funded(), Op.REVERSE, id=b"S" * 16, target=b"S" * 16) == Out.ORIGINAL_UNSUITABLE


@pytest.mark.parametrize(
    ("op", "original"), [(Op.REFUND, Op.REDEEM), (Op.REVERSE, Op.REDEEM), (Op.CAPTURE, Op.HOLD), (Op.RELEASE, Op.HOLD)]
)
def test_112_original_of_another_account(op: Op, original: Op) -> None:
    account = funded()
    elsewhere = [1, 2, int(original), 1, 0, -1, 0, 0, 0, 0, 0, [], 0, 0, False, False]
    assert outcome(account, op, target=b"?" * 16, context=elsewhere) == Out.ORIGINAL_OTHER_CARD


def test_113_original_reversed() -> None:
    account = funded()
    redemption = account.redeem(100)
    account.approved(Op.REVERSE, target=redemption)
    assert outcome(account, Op.REFUND, target=redemption, amount=0) == Out.ORIGINAL_REVERSED


def test_114_refund_exceeds() -> None:
    account = funded()
    redemption = account.redeem(100, amount=500)
    assert outcome(account, Op.REFUND, target=redemption, amount=501) == Out.REFUND_EXCEEDS
    account.approved(Op.REFUND, target=redemption, amount=400)
    assert outcome(account, Op.REFUND, target=redemption, amount=101) == Out.REFUND_EXCEEDS
    account.approved(Op.REFUND, target=redemption, amount=0)
    assert outcome(account, Op.REFUND, target=redemption, amount=0) == Out.REFUND_EXCEEDS


@pytest.mark.parametrize("op", [Op.CAPTURE, Op.RELEASE])
def test_115_hold_unknown_116_hold_closed_117_hold_expired(op: Op) -> None:
    account = funded()
    assert outcome(account, op, target=b"?" * 16) == Out.HOLD_UNKNOWN
    captured, released, expired = account.hold(10), account.hold(10), account.hold(10)
    account.approved(Op.CAPTURE, target=captured)
    account.approved(Op.RELEASE, target=released)
    assert outcome(account, op, target=captured) == Out.HOLD_CLOSED
    assert outcome(account, op, target=released) == Out.HOLD_CLOSED
    account.now_ms += 600_001
    assert outcome(account, op, target=expired) == Out.HOLD_EXPIRED
    account.approved(Op.REDEEM, points=1)
    assert account.now.holds == [], "the redemption has settled the hold"
    assert outcome(account, op, target=expired) == Out.HOLD_EXPIRED


def test_118_capture_exceeds() -> None:
    account = funded()
    account.hold(100)
    assert outcome(account, Op.CAPTURE, points=101) == Out.CAPTURE_EXCEEDS


def test_119_card_in_use() -> None:
    account = funded()
    assert outcome(account, Op.REPLACE, new_token=b"N" * 16, new_token_state=2) == Out.CARD_IN_USE
    assert outcome(account, Op.REPLACE, new_token=b"A" * 16) == Out.CARD_IN_USE
    assert outcome(account, Op.REPLACE, new_token=ISSUED, new_token_state=2) == Out.CARD_IN_USE


def test_a_card_that_moved_on_from_here_unused_and_is_free_again_comes_back() -> None:
    account = funded()
    account.approved(Op.REPLACE, new_token=ISSUED, new_token_state=1)
    assert account.now.tokens[ISSUED] == 1


def test_120_already_active() -> None:
    assert outcome(funded(), Op.ACTIVATE) == Out.ALREADY_ACTIVE


def test_121_too_many_holds_does_not_count_those_that_timed_out() -> None:
    account = funded(holds_max=1)
    account.hold(10)
    assert outcome(account, Op.HOLD) == Out.TOO_MANY_HOLDS
    account.now_ms += 600_001
    assert outcome(account, Op.HOLD) == Out.APPROVED


LIMITS = {"redeem_min": 200, "redeem_max": 90, "share_bp": 500, "day_points_max": 20}


@pytest.mark.parametrize("op", SPENDING)
@pytest.mark.parametrize(
    ("lifted", "expected"),
    [
        (0, Out.BELOW_MINIMUM),
        (1, Out.ABOVE_MAXIMUM),
        (2, Out.ABOVE_SHARE),
        (3, Out.ACCOUNT_LIMIT),
        (4, Out.TERMINAL_LIMIT),
        (5, Out.INSUFFICIENT),
        (6, Out.APPROVED),
    ],
)
def test_122_to_127_in_their_order(op: Op, lifted: int, expected: int) -> None:
    names = ["redeem_min", "redeem_max", "share_bp", "day_points_max"]
    account = Account(**{name: LIMITS[name] for name in names[lifted:]})
    account.earn(100 if lifted == 6 else 10)
    room = 15 if lifted < 5 else -1
    assert outcome(account, op, terminal_room=room) == expected


def test_a_lower_code_wins_wherever_several_apply() -> None:
    account = funded(holds_max=0)
    everything: dict[str, Any] = {"points": 10**6, "partner": 1}
    order: list[tuple[dict[str, Any], int]] = [
        ({"permitted": False}, Out.NOT_PERMITTED),
        ({"token": UNKNOWN}, Out.UNKNOWN_CARD),
        ({"token": BLOCKED}, Out.CARD_BLOCKED),
        ({"currency_ok": False}, Out.WRONG_CURRENCY),
        ({"time_ok": False}, Out.BAD_SALE_TIME),
    ]
    for i, (_, expected) in enumerate(order):
        flaws = everything.copy()
        for flaw, _code in reversed(order[i:]):
            flaws |= flaw
        assert outcome(account, Op.HOLD, **flaws) == expected
    assert outcome(account, Op.HOLD, **everything) == Out.TOO_MANY_HOLDS


def test_cards_are_activated_blocked_and_replaced() -> None:
    account = funded()
    assert account.decide(Op.ACTIVATE, token=ISSUED).entries[0][20] == [ISSUED, 1]
    assert account.decide(Op.BLOCK, token=ISSUED).entries[0][20] == [ISSUED, 2]
    assert account.decide(Op.BLOCK, token=ISSUED).outcome == Out.APPROVED
    changes = account.decide(Op.REPLACE, token=ISSUED, new_token=b"N" * 16).entries[0][20]
    assert changes == [ISSUED, 3, b"N" * 16, 1]
    assert account.decide(Op.BLOCK, token=ISSUED).entries[0][20] == [], "a replaced card stays replaced"
    assert outcome(account, Op.BALANCE, token=ISSUED) == Out.CARD_REPLACED
    assert account.decide(Op.REDEEM, token=b"N" * 16, points=10).outcome == Out.APPROVED
