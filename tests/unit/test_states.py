"""The packed state: the same in Python and Lua, as short as it may be, and a known id is known exactly."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.decision import source
from ledger.lua_runtime import new_runtime
from ledger.operations import Decision
from ledger.operations import Operation as Op
from ledger.states import RING_MAX, State, first_state
from tests.unit.decision_account import CARD, TODAY, Account

MAX = 2**53 - 1
REPACKED = new_runtime().execute(
    (source(with_shell=False) + "return function(packed, at) return state.pack(state.unpack(packed, at)) end").encode()
)

DAYS = st.integers(0, 2**24 - 1)
POINTS = st.integers(0, MAX) | st.sampled_from([0, 255, 256, 2**32 - 1, 2**32])
ID = st.binary(min_size=16, max_size=16)


@st.composite
def states(draw: st.DrawFn) -> State:
    amounts = draw(st.sampled_from([st.integers(0, 255), st.integers(0, 2**32 - 1), POINTS]))
    lots = draw(st.lists(st.tuples(DAYS, DAYS, amounts, amounts), max_size=9))
    held, free = sum(lot[3] for lot in lots), sum(lot[2] for lot in lots)
    holds = st.tuples(ID, POINTS, POINTS, st.just([[TODAY, TODAY + 1, 5]]), DAYS, POINTS).map(list)
    return State(
        draw(st.integers(1, 2**48 - 1)), draw(st.integers(0, 2**40 - 1)), draw(st.integers(0, 2)), held + free, held,
        draw(amounts), lots, draw(st.lists(holds, max_size=3)),
        draw(st.dictionaries(ID, st.integers(0, 3), max_size=3)), draw(st.lists(ID, max_size=RING_MAX)),
        draw(st.integers(0, 1)), draw(DAYS), draw(amounts), draw(st.integers(0, 2**32 - 1)),
    )  # fmt: skip


@given(state=states().filter(lambda state: state.balance <= MAX), before=st.binary(max_size=11))
def test_python_and_lua_pack_the_same(state: State, before: bytes) -> None:
    packed = state.packed()
    assert State.unpacked(packed) == state
    assert REPACKED(before + packed, len(before) + 1) == packed


def test_an_account_with_six_lots_and_eight_requests_is_short() -> None:
    lots = [(TODAY, TODAY + 30 * month, 2_000_000, 0) for month in range(6)]
    ring = [bytes((number,)) * 16 for number in range(RING_MAX)]
    state = State(
        1_000_000, 1000, balance=12_000_000, lots=lots, tokens={CARD: 1}, ring=ring, day=TODAY, day_points=500
    )
    assert len(state.packed()) <= 256


@pytest.mark.parametrize("number", [-1, 2**56])
def test_a_number_without_room_is_an_error(number: int) -> None:
    with pytest.raises(OverflowError):
        State(1, owed=number).packed()


WHOLE = State(7, lots=[(1, 2, 3, 0)], tokens={CARD: 1}, ring=[b"i" * 16]).packed()


@pytest.mark.parametrize("packed", [b"", b"\3" + WHOLE[1:], WHOLE[:-1], WHOLE + b"\1", WHOLE + b"\xc1", WHOLE[:30]])
def test_what_is_no_state_is_refused(packed: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whatever is wrong with it
        State.unpacked(packed)


def test_an_id_that_lies_across_two_of_the_ring_is_unknown() -> None:
    account = Account()
    for letters in (b"ab", b"cd"):
        account.earn(100, id=letters[:1] * 8 + letters[1:] * 8)
    across = b"b" * 8 + b"c" * 8
    assert across in b"".join(account.now.ring)
    assert account.decide(Op.REDEEM, id=across, points=10).status == Decision.DECIDED
    assert account.decide(Op.REDEEM, id=across, points=10).status == Decision.REPLAY


def test_an_id_across_two_does_not_hide_the_one_behind_it() -> None:
    account = Account()
    for request_id in (b"a" * 8 + b"b" * 8, b"b" * 8 + b"a" * 8, b"b" * 16):
        account.earn(100, id=request_id)
    assert account.decide(Op.EARN, id=b"b" * 16, amount=1).status == Decision.REPLAY


def test_a_token_that_lies_across_two_cards_is_unknown() -> None:
    account = Account()
    account.state = first_state(7, [(b"x" * 16, 1), (b"y" * 16, 1)])
    across = b"x" * 7 + b"\1" + b"y" * 8
    assert across in account.state
    assert account.decide(Op.BALANCE, token=across).outcome != 0


def test_a_replay_is_recognised_by_all_of_its_id() -> None:
    account = Account()
    account.earn(100, id=b"a" * 15 + b"b")
    assert account.decide(Op.EARN, id=b"a" * 15 + b"c", amount=1).status == Decision.DECIDED
    assert account.decide(Op.EARN, id=b"a" * 15 + b"b", amount=1).status == Decision.REPLAY
    assert account.now.ring == [b"a" * 15 + b"b", b"a" * 15 + b"c"]
