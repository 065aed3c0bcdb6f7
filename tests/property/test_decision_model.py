"""The decision in Lua against the model in Python, over every operation, with time moving and retries of any age.

TILLWIRE_PROPERTY_CASES sets the number of decisions (default 6,000; a night's run takes a million).
"""

import os
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ledger.decision import Decider
from ledger.operations import Decision, Outcome
from ledger.operations import Operation as Op
from ledger.states import State, first_state
from tests.property.account_draft import Draft
from tests.property.account_journal import MAX, Ask, Id, Journal, Row, Terms, Verdict, summed
from tests.property.account_model import REVERSIBLE, RING, AccountModel

CASES = int(os.environ.get("TILLWIRE_PROPERTY_CASES", "6000"))
STEPS = 40
SETTINGS = settings(
    max_examples=max(1, CASES // STEPS // 2),
    stateful_step_count=STEPS,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
)
DAY_MS = 86_400_000
CARD, OTHER, ISSUED, BLOCKED, UNKNOWN = (letter * 16 for letter in (b"A", b"B", b"C", b"D", b"Z"))
CARDS = {CARD: 1, OTHER: 1, ISSUED: 0, BLOCKED: 2}

# Most requests have nothing wrong with them; the others have one flaw, or two at most.
FLAWS: list[dict[str, Any]] = [
    *[{"token": token} for token in (OTHER, ISSUED, BLOCKED, UNKNOWN)],
    *[{name: False} for name in ("permitted", "currency_ok", "time_ok")],
    {"partner": 2},
    {"partner": 2, "token": UNKNOWN},
    {"permitted": False, "time_ok": False},
    {"currency_ok": False, "time_ok": False},
]
FLAW = st.sampled_from([{}] * 40 + FLAWS)
LOT_DELAY = st.sampled_from([0, 0, 0, 1, 2])
LOT_LIFE = st.sampled_from([0, 1, 2, 3, 5, 30, -1])
ROOM = st.just(-1) | st.just(-1) | st.just(-1)
SMALL = st.integers(0, 60)
LARGE = st.integers(0, MAX) | st.integers(MAX - 100, MAX)


class DecisionMachine(RuleBasedStateMachine):
    """One account, decided by both; `numbers` is the range of points and money."""

    decider = Decider()
    numbers = SMALL

    def __init__(self) -> None:
        super().__init__()
        self.model = self.new_model()
        self.state = first_state(7, CARDS.items())
        self.terms = Terms()
        self.now_ms = 20_000 * DAY_MS + 36_000_000
        self.ids = 0
        self.past: list[Ask] = []
        self.past_seq = 0

    def new_model(self) -> AccountModel:
        return AccountModel(dict(CARDS))

    # How one request is decided by both, compared, and kept.

    def new_id(self) -> bytes:
        self.ids += 1
        return self.ids.to_bytes(16, "big")

    def ask(self, op: Op, data: st.DataObject, **values: Any) -> Ask:
        today = self.now_ms // DAY_MS
        active = today + data.draw(LOT_DELAY, label="delay")
        life = data.draw(LOT_LIFE, label="life")
        asked = {
            "now_ms": self.now_ms,
            "today": today,
            "active_day": min(active, today - 5) if life < 0 else active,
            "expiry_day": today - 1 if life < 0 else life and active + life,
            "sale_ms": self.now_ms - 5,
        }
        return Ask(op, **{"id": self.new_id(), **asked, "token": CARD, **data.draw(FLAW, label="flaw"), **values})

    def call(self, ask: Ask, context: list[Any] | bool = False) -> tuple[list[Any], bytes]:
        return self.decider.decide(self.state, ask.positional(context), self.terms.positional())

    def decide(self, ask: Ask) -> Verdict:
        result, state = self.call(ask)
        if self.model.needs_context(ask):
            assert result[0] == Decision.NEED_CONTEXT
            context = self.model.context_for(ask)
            stale = [context[0] + 1, *context[1:]]
            assert self.call(ask, stale)[0][0] == Decision.STALE_CONTEXT
            result, state = self.call(ask, context)
        verdict = self.model.decide(ask, self.terms)
        self.compare(ask, verdict, result)
        assert (state is self.state) == (not verdict.rows)
        if verdict.rows and ask.id:
            self.past.append(ask)
            self.past_seq = len(self.model.rows)
        self.model.keep(verdict)
        self.state = state
        return verdict

    def compare(self, ask: Ask, verdict: Verdict, result: list[Any]) -> None:
        declined = verdict.outcome > 1
        doubtful = int(declined and ask.op != Op.BALANCE and self.model.forgot())
        expected = [0, verdict.outcome, verdict.points, verdict.earned, verdict.balance, verdict.detail]
        assert [*result[:6], *result[7:]] == [*expected, self.model.account, doubtful]
        assert len(result[6]) == len(verdict.rows)
        before = len(self.model.rows)
        for i, (entry, row) in enumerate(zip(result[6], verdict.rows, strict=True)):
            self.compare_entry(before + i + 1, entry, row, [*self.model.rows, *verdict.rows[: i + 1]])

    def compare_entry(self, seq: int, entry: list[Any], row: Row, rows: list[Row]) -> None:
        totals = [sum(getattr(each, name) for each in rows) for name in ("points", "held", "owed")]
        signed = [row.points, row.held, row.owed, *totals, row.spent, row.earned, row.refunded]
        head = [seq, row.op, row.id, row.terminal, *signed, row.amount, row.eligible, row.target]
        tail = [row.now_ms, row.sale_ms, row.rate_bp, list(row.tokens), row.memo]
        assert [*entry[:16], *entry[17:]] == [*head, *tail]
        quads = entry[16]
        moves = {(quads[i], quads[i + 1]): (quads[i + 2], quads[i + 3]) for i in range(0, len(quads), 4)}
        assert len(moves) * 4 == len(quads), "a lot is named twice"
        assert {k: v for k, v in moves.items() if v != (0, 0)} == {k: v for k, v in row.moves.items() if v != (0, 0)}
        expired = row.points if row.op == Op.EXPIRE_LOTS else 0
        assert row.points == row.earned - row.spent + row.owed + expired
        self.never_below_zero(rows)

    def never_below_zero(self, rows: list[Row]) -> None:
        """P2: at every prefix, what each lot has spent and holds is no more than what came into it."""
        assert all(free >= 0 and held >= 0 for free, held in summed(rows).values())
        assert sum(row.owed for row in rows) >= 0

    # Time, terms, and what an operator sets.

    @initialize(data=st.data())
    def first_points(self, data: st.DataObject) -> None:
        self.terms = Terms(rate_bp=10_000, holds_max=5)
        for _ in range(3):
            self.decide(self.ask(Op.EARN, data, amount=data.draw(self.numbers)))

    @rule(data=st.data())
    def time_passes(self, data: st.DataObject) -> None:
        """Some days; to the very end of a hold; over midnight; or back, as on a server whose clock is behind."""
        holds, midnight = self.model.holds(), (self.now_ms // DAY_MS + 1) * DAY_MS
        ends = [holds[0].until_ms, holds[0].until_ms + 1] if holds else []
        moments = [midnight, midnight - DAY_MS - 1, self.now_ms - DAY_MS // 3, *(max(self.now_ms, end) for end in ends)]
        later = st.integers(0, 4 * DAY_MS).map(lambda ms: self.now_ms + ms)
        self.now_ms = data.draw(st.sampled_from(moments) | later)

    @rule(data=st.data())
    def other_terms(self, data: st.DataObject) -> None:
        if data.draw(st.booleans(), label="easy"):
            self.terms = Terms(rate_bp=10_000, holds_max=5)
            return
        maxima = st.just(0) | self.numbers
        self.terms = Terms(
            rate_bp=data.draw(st.sampled_from([0, 333, 500, 10_000, 25_000])),
            redeem_min=data.draw(st.sampled_from([0, 0, 1, 5])),
            redeem_max=data.draw(maxima),
            share_bp=data.draw(st.sampled_from([10_000, 10_000, 5_000, 3_333])),
            day_points_max=data.draw(maxima),
            day_count_max=data.draw(st.sampled_from([0, 0, 3])),
            holds_max=data.draw(st.sampled_from([2, 5])),
        )

    @rule(data=st.data(), status=st.sampled_from([1, 2]))
    def blocked_account(self, data: st.DataObject, status: int) -> None:
        for value in (status, 0):
            self.model.status = value
            self.state = replace(State.unpacked(self.state), status=value).packed()
            op = data.draw(st.sampled_from([Op.BALANCE, Op.EARN, Op.SALE, Op.REDEEM, Op.HOLD, Op.ACTIVATE, Op.REPLACE]))
            if value:
                self.decide(self.ask(op, data, points=1, amount=10, new_token=UNKNOWN))

    # Requests.

    @rule(data=st.data())
    def balance(self, data: st.DataObject) -> None:
        self.decide(self.ask(Op.BALANCE, data))

    @rule(data=st.data(), op=st.sampled_from([Op.EARN, Op.SALE, Op.SALE]))
    def pay(self, data: st.DataObject, op: Op) -> None:
        points = data.draw(self.numbers) if op == Op.SALE else 0
        values = {
            "partial": data.draw(st.booleans()),
            "terminal_room": data.draw(ROOM | self.numbers),
            "eligible": data.draw(st.just(-1) | self.numbers),
        }
        self.decide(self.ask(op, data, amount=data.draw(self.numbers), points=points, **values))

    @rule(data=st.data(), op=st.sampled_from([Op.REDEEM, Op.REDEEM, Op.HOLD]))
    def spend(self, data: st.DataObject, op: Op) -> None:
        values = {
            "points": data.draw(self.numbers),
            "amount": data.draw(st.just(0) | self.numbers),
            "partial": data.draw(st.booleans()),
            "terminal_room": data.draw(ROOM | self.numbers),
            "hold_ms": data.draw(st.sampled_from([0, 1, DAY_MS, 5 * DAY_MS])) if op == Op.HOLD else 0,
        }
        self.decide(self.ask(op, data, **values))

    def some_target(self, data: st.DataObject, ops: list[Op]) -> Id:
        targets = [row.id for row in self.model.rows if row.id and row.op in ops]
        anything = [row.id for row in self.model.rows if row.id]
        kind = data.draw(st.sampled_from(["fit"] * 20 + ["any", "unknown", "elsewhere"]), label="kind of target")
        if kind == "fit" and targets:
            return data.draw(st.sampled_from(targets[-6:]), label="target")
        if kind == "any" and anything:
            return data.draw(st.sampled_from(anything), label="target")
        target = self.new_id()
        if kind == "elsewhere":
            self.model.elsewhere[target] = data.draw(
                st.tuples(st.sampled_from([Op.REDEEM, Op.HOLD, Op.BLOCK]), st.sampled_from([1, 2]))
            )
        return target

    @rule(data=st.data(), op=st.sampled_from([Op.HOLD, Op.HOLD, Op.REDEEM, Op.SALE]))
    def spend_at_ease(self, data: st.DataObject, op: Op) -> None:
        """Something that is granted, so that there is something to end, to refund and to reverse."""
        room = self.model.balance(self.now_ms // DAY_MS)[0]
        points = data.draw(st.integers(1, max(1, min(room, 60))))
        self.terms = Terms(rate_bp=data.draw(st.sampled_from([500, 10_000])), holds_max=5)
        self.decide(self.ask(op, data, points=points, amount=points + data.draw(SMALL)))

    @precondition(lambda self: any(row.op == Op.HOLD for row in self.model.rows))
    @rule(data=st.data(), op=st.sampled_from([Op.CAPTURE, Op.CAPTURE, Op.RELEASE]))
    def end_hold(self, data: st.DataObject, op: Op) -> None:
        values = {
            "points": data.draw(st.just(0) | st.integers(0, 20) | self.numbers),
            "amount": data.draw(self.numbers),
        }
        still_open = [hold.id for hold in self.model.holds()]
        target = self.some_target(data, [Op.HOLD])
        if still_open and data.draw(st.sampled_from([True, True, False]), label="an open hold"):
            target = data.draw(st.sampled_from(still_open))
            held = next(hold.held for hold in self.model.holds() if hold.id == target)
            values["points"] = min(MAX, data.draw(st.sampled_from([0, 1, held, held + 1]) | st.integers(0, held)))
        self.decide(self.ask(op, data, target=target, **values))

    @rule(data=st.data())
    def refund(self, data: st.DataObject) -> None:
        target = self.some_target(data, [Op.REDEEM, Op.CAPTURE, Op.EARN, Op.SALE])
        row = self.model.find(target)
        left = (row.amount or row.spent) - sum(each.refunded for each in self.model.tree(target)) if row else 0
        near = st.sampled_from([0, 1, max(left, 0), min(MAX, left + 1)]) | st.integers(0, max(left, 0))
        self.decide(self.ask(Op.REFUND, data, target=target, amount=data.draw(near | near | self.numbers)))

    @precondition(lambda self: any(row.op == Op.REFUND for row in self.model.rows))
    @rule(data=st.data())
    def undo_what_was_refunded(self, data: st.DataObject) -> None:
        """The deep cases: refunds, their reversals, and those of the original, in any order."""
        refunds = [row for row in self.model.rows if row.op == Op.REFUND]
        refund = data.draw(st.sampled_from(refunds[-3:]))
        op = data.draw(st.sampled_from([Op.REVERSE, Op.REVERSE, Op.REFUND]))
        upwards = op == Op.REFUND or data.draw(st.sampled_from([False, False, True]))
        amount = data.draw(st.integers(0, 3)) if op == Op.REFUND else 0
        self.decide(self.ask(op, data, target=refund.target if upwards else refund.id, amount=amount))

    @rule(data=st.data())
    def reverse(self, data: st.DataObject) -> None:
        target = self.some_target(data, [Op.REDEEM, Op.HOLD, Op.CAPTURE, Op.EARN, Op.SALE, Op.REFUND])
        ask = self.ask(Op.REVERSE, data, target=target)
        itself = data.draw(st.sampled_from([False] * 19 + [True]), label="itself")
        self.decide(replace(ask, target=ask.id) if itself else ask)

    @precondition(lambda self: self.past)
    @rule(data=st.data())
    def reverse_at_once(self, data: st.DataObject) -> None:
        """What is reversed before anything else happens leaves the member with what he had."""
        last = self.past[-1]
        rows = list(self.model.rows)
        at = next(i for i, row in enumerate(rows) if row.id == last.id)
        target = rows[at]
        if target.op not in REVERSIBLE or any(row.target != last.id for row in rows[at + 1 :]):
            return
        before = Draft(Journal(rows[: self.past_seq], CARDS), last, self.terms, Verdict(0, [])).balance(last.today)
        expired = any(row.op == Op.EXPIRE_LOTS and row.target for row in rows[self.past_seq :])
        fine = {
            "token": next(iter(self.model.cards())),
            "permitted": True,
            "currency_ok": True,
            "time_ok": True,
            "partner": last.partner,
        }
        fine |= {"now_ms": last.now_ms, "today": last.today}
        verdict = self.decide(self.ask(Op.REVERSE, data, target=last.id, **fine))
        free_before, free_after = (b[0] + b[2] - b[3] for b in (before, verdict.balance))
        regained = sum(held for _, held in target.moves.values()) * -1 if target.op == Op.CAPTURE else 0
        too_big = self.numbers is not SMALL and verdict.outcome == Outcome.ACCOUNT_LIMIT
        assert verdict.outcome == Outcome.APPROVED or too_big
        if expired and not too_big:
            # Points that would expire at once pay a debt first, so that the member may come out better, never worse.
            assert free_after >= free_before + regained
        elif not too_big:
            assert free_after == free_before + regained

    @rule(data=st.data(), op=st.sampled_from([Op.ACTIVATE, Op.BLOCK, Op.REPLACE]))
    def card(self, data: st.DataObject, op: Op) -> None:
        new = {"new_token": self.new_id(), "new_token_state": data.draw(st.sampled_from([0, 1, 2]))}
        if data.draw(st.sampled_from([False] * 4 + [True]), label="a card of the account"):
            new["new_token"] = data.draw(st.sampled_from(sorted(self.model.cards())))
        token = data.draw(st.sampled_from([*sorted(self.model.cards()), UNKNOWN]))
        self.decide(self.ask(op, data, token=token, **(new if op == Op.REPLACE else {})))

    @rule(data=st.data())
    def adjust_or_settle(self, data: st.DataObject) -> None:
        if data.draw(st.booleans(), label="settle"):
            self.decide(Ask(Op.SETTLE, False, self.now_ms, self.now_ms // DAY_MS, token=False))
        else:
            points = data.draw(self.numbers) * data.draw(st.sampled_from([1, -1]))
            self.decide(self.ask(Op.ADJUST, data, token=False, points=points))

    @precondition(lambda self: self.past)
    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        """P3: an id in the ring is a replay; an older one is vetoed by the journal, and its decline is doubtful.

        P7: so is what was reversed before it came, by its tombstone.
        """
        late = [self.ask(Op.EARN, data, amount=50, id=row.id) for row in self.model.rows if row.op == Op.TOMBSTONE]
        old = data.draw(st.sampled_from(self.past[-RING:] + late[-1:]) | st.sampled_from(self.past))
        context = self.model.context_for(old) if old.target or self.model.needs_context(old) else False
        result, state = self.call(old, context)
        if old.id in self.model.ring():
            assert result[0] == Decision.REPLAY
            assert state is self.state
        elif result[1] > 1:
            assert result[8] == 1

    # After every step.

    @invariant()
    def state_follows_from_the_journal(self) -> None:
        model, state = self.model, State.unpacked(self.state)
        assert state.packed() == self.state
        lots = [(*lot, *parts) for lot, parts in model.lots().items()]
        totals = [model.total(name) for name in ("points", "held", "owed")]
        assert [state.account, state.seq, state.status] == [model.account, len(model.rows), model.status]
        assert ([state.balance, state.held, state.owed], state.lots) == (totals, lots)
        assert sum(lot[2] + lot[3] for lot in lots) == totals[0]
        assert sum(lot[3] for lot in lots) == totals[1] == sum(row.held for row in model.holds())
        assert state.tokens == model.cards()
        assert state.ring == model.ring()
        assert state.forgot == model.forgot()
        points, count = model.counted(0)
        assert [state.day, state.day_points, state.day_count] == [model.day(), points, count]

    @invariant()
    def holds_follow_from_the_journal(self) -> None:
        expected = []
        for row in self.model.holds():
            alloc = [[*lot, row.moves[lot][1]] for lot in row.moves]
            expected.append([row.id, row.until_ms, row.amount, alloc, row.day, row.partner])
        assert State.unpacked(self.state).holds == expected


class LargeNumbersMachine(DecisionMachine):
    """The same close to the largest number that is exact."""

    numbers = SMALL | LARGE


@pytest.mark.timeout(0 if CASES > 6000 else 120)
@pytest.mark.parametrize("machine", [DecisionMachine, LargeNumbersMachine])
def test_lua_decides_as_the_model_does(machine: type[DecisionMachine]) -> None:
    run_state_machine_as_test(machine, settings=SETTINGS)
