"""Operators and registers mixed, on two accounts that become one again and again: Lua against the model in Python.

What is checked after every step is that of test_decision_model.py; here that merging neither makes nor loses a point.
"""

from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule, run_state_machine_as_test

from ledger.operations import Operation as Op
from ledger.operations import Outcome
from ledger.states import first_state
from tests.property.account_draft import Draft
from tests.property.account_journal import Ask, Id, Terms, Verdict
from tests.property.account_model import AccountModel
from tests.property.operators_model import BY_FORMER_CARDS, Given, Known, OperatorsModel
from tests.property.test_decision_model import (
    CARD,
    CARDS,
    CASES,
    DAY_MS,
    LARGE,
    SETTINGS,
    SMALL,
    UNKNOWN,
    DecisionMachine,
)

OPERATOR: dict[str, Any] = {"partner": 0, "token": False, "currency_ok": True, "time_ok": True}


class OperatorsMachine(DecisionMachine):
    """The account that requests go to, and one more that it shall become part of, or take in."""

    model: OperatorsModel

    def __init__(self) -> None:
        self.known = Known()
        self.accounts = 6
        super().__init__()
        self.other = self.new_model()
        self.other_state = first_state(self.other.account, self.other.first_cards.items())
        self.other_past: list[Ask] = []
        self.other_past_seq = 0

    def new_model(self) -> OperatorsModel:
        """An account with a card for every status; the first one has those that requests name."""
        self.accounts += 1
        letter = bytes((self.accounts + 90,))
        cards = CARDS if self.accounts == 7 else {letter * 15 + token[:1]: s for token, s in CARDS.items()}
        return OperatorsModel(dict(cards), self.accounts, self.known)

    def operator(self, op: Op, data: st.DataObject, **values: Any) -> Verdict:
        permitted = data.draw(st.sampled_from([True] * 19 + [False]), label="permitted")
        return self.decide(self.ask(op, data, **(OPERATOR | {"permitted": permitted} | values)))

    def blocked_account(self) -> None:  # type: ignore[override]
        """Not forged here: operators do it."""

    def ask(self, op: Op, data: st.DataObject, **values: Any) -> Ask:
        """Let registers show a card that leads to the account, whichever that is."""
        if "token" not in values and op in BY_FORMER_CARDS and data.draw(st.integers(0, 9), label="former") == 0:
            values["token"] = False
        if "token" not in values and CARD not in self.model.cards():
            values["token"] = data.draw(st.sampled_from([*sorted(self.model.cards()), UNKNOWN]), label="card")
        return super().ask(op, data, **values)

    def some_target(self, data: st.DataObject, ops: list[Op]) -> Id:
        inherited = [row.id for row in self.model.before if row.id and row.op in ops]
        if inherited and data.draw(st.booleans(), label="of a merged account"):
            return data.draw(st.sampled_from(inherited[-6:]), label="target")
        return super().some_target(data, ops)

    @rule(data=st.data(), op=st.sampled_from([Op.BLOCK_ACCOUNT, Op.UNBLOCK_ACCOUNT, Op.UNBLOCK_ACCOUNT]))
    def account_status(self, data: st.DataObject, op: Op) -> None:
        self.operator(op, data)

    @precondition(lambda self: self.model.status)
    @rule(data=st.data())
    def blocked_account_ends(self, data: st.DataObject) -> None:
        for op in (Op.BALANCE, Op.REDEEM, Op.ACTIVATE):
            self.decide(self.ask(op, data, points=1, amount=10))
        self.operator(Op.UNBLOCK_ACCOUNT, data)

    @rule(data=st.data(), op=st.sampled_from([Op.UNBLOCK, Op.UNBLOCK, Op.ACTIVATE, Op.BLOCK]))
    def card_by_an_operator(self, data: st.DataObject, op: Op) -> None:
        self.operator(op, data, token=data.draw(st.sampled_from([*sorted(self.model.cards()), UNKNOWN])))

    @rule(data=st.data())
    def link(self, data: st.DataObject) -> None:
        cards = sorted(self.model.cards())
        new = data.draw(st.sampled_from(cards)) if data.draw(st.booleans()) else b"L" * 12 + self.new_id()[12:]
        self.operator(Op.LINK, data, new_token=new, new_token_state=data.draw(st.sampled_from([0, 0, 1, 2])))

    @precondition(lambda self: len(self.model.cards()) > 1)
    @rule(data=st.data())
    def unlink(self, data: st.DataObject) -> None:
        card = data.draw(st.sampled_from([*sorted(self.model.cards()), UNKNOWN]), label="card")
        self.operator(Op.UNLINK, data, target=card, new_token_state=data.draw(st.sampled_from([0, 0, 0, 2])))
        if data.draw(st.booleans(), label="and back"):
            self.operator(Op.LINK, data, new_token=card, new_token_state=0)

    @rule(data=st.data())
    def release_by_an_operator(self, data: st.DataObject) -> None:
        room = self.model.balance(self.now_ms // DAY_MS)[0]
        if room and not self.model.holds():
            self.terms = Terms(rate_bp=10_000, holds_max=5)
            self.decide(self.ask(Op.HOLD, data, points=min(room, 9), partner=data.draw(st.sampled_from([1, 2]))))
        still_open = [hold.id for hold in self.model.holds()]
        target = data.draw(st.sampled_from(still_open)) if still_open else self.some_target(data, [Op.HOLD])
        self.operator(Op.RELEASE, data, target=target)

    @rule(data=st.data())
    def adjust_by_an_operator(self, data: st.DataObject) -> None:
        points = data.draw(self.numbers) * data.draw(st.sampled_from([1, -1]))
        self.operator(Op.ADJUST, data, points=points, expiry_day=data.draw(st.sampled_from([0, 20_003])))

    @rule()
    def turn_to_the_other(self) -> None:
        self.model, self.other = self.other, self.model
        self.state, self.other_state = self.other_state, self.state
        self.past, self.other_past = self.other_past, self.past
        self.past_seq, self.other_past_seq = self.other_past_seq, self.past_seq

    @rule(data=st.data())
    def take_in_nothing(self, data: st.DataObject) -> None:
        rows = [row.id for row in self.model.rows if row.id]
        anything = [*self.known.given, *rows, self.new_id()]
        target = data.draw(st.sampled_from(anything[-8:]))
        if target not in self.known.given or self.known.given[target].taken:
            self.operator(Op.MERGE_IN, data, target=target)

    @rule(data=st.data())
    def merge(self, data: st.DataObject) -> None:
        """All or nothing of the account comes to the other one, which goes on."""
        total = self.worth(self.model) + self.worth(self.other)
        issued = [token for token, status in self.model.cards().items() if status == 0]
        self.model.moved_on = data.draw(st.lists(st.sampled_from(issued), unique=True, max_size=2)) if issued else []
        verdict = self.operator(Op.MERGE_OUT, data)
        if verdict.outcome != Outcome.APPROVED:
            return
        row = verdict.rows[-1]
        self.known.given[row.id] = Given(row)
        anything = OPERATOR | {"permitted": True, "amount": 5, "new_token": UNKNOWN, "token": CARD, "target": CARD}
        for op in (Op.EARN, Op.ADJUST, Op.LINK, Op.UNLINK, Op.BLOCK_ACCOUNT, Op.UNBLOCK_ACCOUNT, Op.MERGE_OUT):
            closed = self.decide(self.ask(op, data, **anything))
            assert closed.outcome in {Outcome.ACCOUNT_BLOCKED, Outcome.UNKNOWN_CARD}
        self.turn_to_the_other()
        later = data.draw(st.sampled_from([0, 0, 2 * DAY_MS]), label="time in between")
        self.now_ms += later
        taken = self.operator(Op.MERGE_IN, data, target=row.id, permitted=True)
        if taken.outcome == Outcome.APPROVED:
            self.known.given[row.id].taken = True
            self.model.before = [*self.model.before, *self.other.before, *self.other.rows]
            # What is asked last stands last, and is the account's own.
            self.past = [*self.other_past, *self.past]
            if not later:
                assert self.worth(self.model) == total
            again = self.operator(Op.MERGE_IN, data, target=row.id, permitted=True)
            assert again.outcome == Outcome.ORIGINAL_UNSUITABLE
        else:
            assert taken.outcome in {Outcome.ACCOUNT_BLOCKED, Outcome.ACCOUNT_LIMIT}
        self.other = self.new_model()
        self.other_state = first_state(self.other.account, self.other.first_cards.items())
        self.other_past, self.other_past_seq = [], 0
        self.decide(self.ask(Op.EARN, data, amount=data.draw(self.numbers)))

    def worth(self, model: AccountModel) -> int:
        """Points less what is owed, when time has done its work."""
        settled = Draft(model, Ask(Op.SETTLE, False, self.now_ms, self.now_ms // DAY_MS), self.terms, Verdict(0, []))
        return settled.total("points") - settled.total("owed")


class LargeNumbersOperatorsMachine(OperatorsMachine):
    """The same close to the largest number that is exact."""

    numbers = SMALL | LARGE


@pytest.mark.timeout(0 if CASES > 6000 else 120)
@pytest.mark.parametrize("machine", [OperatorsMachine, LargeNumbersOperatorsMachine])
def test_lua_decides_what_operators_ask_as_the_model_does(machine: type[DecisionMachine]) -> None:
    run_state_machine_as_test(machine, settings=SETTINGS)
