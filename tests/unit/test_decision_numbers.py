"""Integers stay exact up to 2^53 - 1, and the state stays whole and bounded."""

from typing import Any

import lupa.lua51
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ledger.decision import source
from ledger.lua_runtime import new_runtime
from ledger.operations import Operation as Op
from ledger.operations import Outcome
from tests.unit.decision_account import TODAY, Account

MAX = 2**53 - 1
MUL_DIV = new_runtime().execute((source(with_shell=False) + "return arithmetic.mul_div").encode())
INTEGERS = st.integers(0, MAX) | st.integers(MAX - 1000, MAX) | st.integers(0, 10**5)


@settings(max_examples=2000, deadline=None, print_blob=True)
@given(a=INTEGERS, b=INTEGERS, c=INTEGERS.filter(bool))
@example(a=MAX, b=MAX, c=MAX)
@example(a=MAX, b=MAX - 1, c=MAX)
@example(a=MAX, b=1, c=2)
@example(a=2**27, b=2**26, c=3)
def test_a_product_is_divided_exactly_whatever_its_size(a: int, b: int, c: int) -> None:
    expected = a * b // c
    result = MUL_DIV(a, b, c)
    assert result == expected if expected <= MAX else result > MAX


def test_the_largest_balance_is_exact() -> None:
    account = Account()
    account.earn(MAX - 1)
    account.earn(1)
    assert account.available == MAX
    account.redeem(1)
    assert account.decide(Op.REDEEM, points=MAX - 1).available == 0


def test_a_balance_never_passes_what_is_exact() -> None:
    account = Account()
    account.earn(MAX - 5)
    assert account.decide(Op.EARN, amount=6).outcome == Outcome.ACCOUNT_LIMIT
    assert account.decide(Op.SALE, amount=6).outcome == Outcome.ACCOUNT_LIMIT
    assert account.decide(Op.ADJUST, token=False, points=6).outcome == Outcome.ACCOUNT_LIMIT
    assert account.decide(Op.SALE, amount=8, points=1).outcome == Outcome.ACCOUNT_LIMIT
    assert account.decide(Op.SALE, amount=7, points=1).available == MAX


def test_a_rate_above_one_cannot_overflow_unseen() -> None:
    assert Account(earn_rate_bp=25_000).decide(Op.EARN, amount=MAX).outcome == Outcome.ACCOUNT_LIMIT


def test_refunds_of_the_largest_receipt_sum_exactly() -> None:
    account = Account(earn_rate_bp=9_999)
    account.earn(MAX // 2)
    before = account.available
    sale = account.approved(Op.SALE, amount=MAX // 2, points=MAX // 3)
    for part in (MAX // 7, 1, MAX // 11, 0):
        account.approved(Op.REFUND, target=sale, amount=part)
    assert (account.available, account.owed) == (before, 0)


def test_large_times_and_amounts_come_out_as_integers() -> None:
    account = Account()
    result = account.decide(Op.EARN, amount=10**15 + 1, sale_ms=10**15 + 3)
    entry = result.entries[0]
    assert (entry[7], entry[13], entry[18]) == (10**15 + 1, 10**15 + 1, 10**15 + 3)
    assert all(type(value) is int for value in (entry[7], entry[13], entry[18]))


def test_bytes_pass_through_unchanged() -> None:
    account = Account()
    memo, request_id = bytes(range(256)), bytes(range(240, 256))
    entry = account.decide(Op.EARN, id=request_id, amount=1, memo=memo).entries[0]
    assert (entry[2], entry[21]) == (request_id, memo)
    assert account.now.ring == [request_id]


def test_an_unknown_operation_is_a_bug_of_the_caller() -> None:
    with pytest.raises(lupa.lua51.LuaError, match="unknown operation 99"):
        Account().decide(99)  # type: ignore[arg-type]


# The limit on lots.


def full(**fields: Any) -> Account:
    account = Account()
    for day in range(512):
        account.earn(10, active_day=TODAY, expiry_day=TODAY + 10 + 2 * day, **fields)
    assert len(account.now.lots) == 512
    return account


def test_beyond_the_limit_new_points_join_the_lot_that_expires_next_later() -> None:
    account = full()
    account.earn(5, expiry_day=TODAY + 21)
    assert len(account.now.lots) == 512
    assert (TODAY, TODAY + 22, 15, 0) in account.now.lots
    assert account.entries[-1][16] == [TODAY, TODAY + 22, 5, 0]


def test_beyond_the_limit_two_neighbours_join_when_nothing_expires_later() -> None:
    account = full()
    entries = account.decide(Op.EARN, amount=5, expiry_day=TODAY + 5000).entries
    assert len(account.now.lots) == 512
    assert [entry[1] for entry in entries] == [Op.EXPIRE_LOTS, Op.EARN]
    assert entries[0][4] == 0
    assert entries[0][16] == [TODAY, TODAY + 10, -10, 0, TODAY, TODAY + 12, 10, 0]
    assert account.now.lots[-1] == (TODAY, TODAY + 5000, 5, 0)
    assert account.available == account.now.balance == 5125


def test_held_points_keep_their_lot_beyond_the_limit() -> None:
    account = full()
    hold = account.hold(25)
    account.earn(5, expiry_day=TODAY + 5000)
    account.approved(Op.RELEASE, target=hold)
    assert account.available == 5125
    assert account.now.lots[0] == (TODAY, TODAY + 10, 10, 0)
