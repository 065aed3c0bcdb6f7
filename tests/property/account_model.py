"""An independent model of one account, written from the rules of the ledger and not from its Lua.

It keeps nothing but the journal: lots, holds, cards, counters and balances are recomputed from the rows whenever they
are needed. A decision settles a copy of the journal first, collects every reason to decline, and takes the lowest.
"""

from collections import Counter
from typing import Any

from ledger.operations import Operation as Op
from ledger.operations import Outcome as Out
from tests.property.account_draft import Draft
from tests.property.account_journal import MAX, Ask, Id, Journal, Lot, Row, Terms, Verdict, flat, summed

RING = 8
CARD_DECLINE = {0: Out.CARD_INACTIVE, 2: Out.CARD_BLOCKED, 3: Out.CARD_REPLACED}
REFUNDABLE: set[int] = {Op.REDEEM, Op.CAPTURE, Op.EARN, Op.SALE}
REVERSIBLE = REFUNDABLE | {Op.HOLD, Op.REFUND, Op.TOMBSTONE}
NEEDS_ACTIVE_CARD = {Op.BALANCE, Op.REDEEM, Op.HOLD, Op.EARN, Op.SALE}


class AccountModel(Journal):
    """The account: its journal, what an operator set (`status`), and what is known of requests on other accounts."""

    status = 0

    def __init__(self, cards: dict[Any, int], account: int = 7) -> None:
        super().__init__([], cards)
        self.account = account
        self.elsewhere: dict[Any, tuple[int, int]] = {}

    # What the journal answers about a target.

    def context_for(self, ask: Ask) -> list[Any]:
        return self.context(ask.target)

    def context(self, target: Id) -> list[Any]:
        seq, row = len(self.rows), self.find(target)
        if target in self.elsewhere:
            op, partner = self.elsewhere[target]
            return [seq, 2, int(op), partner, 0, -1, 0, 0, 0, 0, 0, [], 0, 0, False, False]
        if not row:
            return [seq, 0, 0, 0, 0, -1, 0, 0, 0, 0, 0, [], 0, 0, False, False]
        tree = self.tree(target)
        nets = [sum(getattr(each, name) for each in tree) for name in ("spent", "earned", "refunded")]
        own = [row.amount, row.eligible, row.spent, row.earned]
        expired = flat(summed([each for each in tree if each.op == Op.EXPIRE_LOTS]))
        last = [flat(summed(tree)), int(self.fate(target)), row.rate_bp, self.counted_day(row), expired or False]
        return [seq, 1, int(row.op), row.partner, *own, *nets, *last]

    def counted_day(self, row: Row) -> int:
        hold = self.find(row.target) if row.op == Op.CAPTURE else None
        return (hold or row).day

    def needs_context(self, ask: Ask) -> bool:
        if not ask.permitted:
            return False
        ends_hold = ask.op in {Op.CAPTURE, Op.RELEASE}
        return ask.op in {Op.REFUND, Op.REVERSE} or (ends_hold and ask.target not in {hold.id for hold in self.holds()})

    def ring(self) -> list[Id]:
        return [row.id for row in self.rows if row.id][-RING:]

    def forgot(self) -> int:
        return int(sum(bool(row.id) for row in self.rows) > RING)

    # The decision.

    def decide(self, ask: Ask, terms: Terms) -> Verdict:
        verdict = Verdict(Out.APPROVED, [])
        draft = Draft(self, ask, terms, verdict)
        reasons = self.gate_reasons(ask)
        rule = getattr(self, f"on_{Op(ask.op).name.lower()}")
        reasons += rule(draft)
        if reasons:
            return Verdict(min(reasons), Draft(self, ask, terms, verdict).balance(ask.today))
        if ask.op != Op.BALANCE:
            if ask.op != Op.SETTLE:
                draft.expire(ask.id)
            verdict.rows = draft.rows[len(self.rows) :]
        verdict.balance = draft.balance(ask.today)
        return verdict

    def keep(self, verdict: Verdict) -> None:
        self.rows += verdict.rows

    def gate_reasons(self, ask: Ask) -> list[Out]:
        if ask.op == Op.SETTLE:
            return []
        reasons = [] if ask.permitted else [Out.NOT_PERMITTED]
        if ask.op == Op.ADJUST:
            return reasons
        cards = self.cards()
        if ask.token not in cards:
            return [*reasons, Out.UNKNOWN_CARD]
        if ask.op in NEEDS_ACTIVE_CARD and cards[ask.token] != 1:
            reasons.append(CARD_DECLINE[cards[ask.token]])
        if ask.op in NEEDS_ACTIVE_CARD | {Op.ACTIVATE, Op.REPLACE} and self.status:
            reasons.append(Out.ACCOUNT_BLOCKED)
        reasons += [] if ask.currency_ok else [Out.WRONG_CURRENCY]
        return reasons + ([] if ask.time_ok else [Out.BAD_SALE_TIME])

    def on_balance(self, _draft: Draft) -> list[Out]:
        return []

    def on_settle(self, _draft: Draft) -> list[Out]:
        return []

    # Spending and earning.

    def granted(self, draft: Draft) -> tuple[int, list[Out]]:
        """Points that may be spent, or the reasons against it."""
        ask, terms = draft.ask, draft.terms
        least = max(terms.redeem_min, 1)
        if ask.points < least:
            return 0, [Out.BELOW_MINIMUM]
        caps: dict[Out, int] = {}
        if terms.redeem_max:
            caps[Out.ABOVE_MAXIMUM] = terms.redeem_max
        if terms.share_bp < 10_000 or ask.amount or ask.op == Op.SALE:
            caps[Out.ABOVE_SHARE] = ask.amount * terms.share_bp // 10_000
        points, count = draft.counted(ask.today)
        if terms.day_points_max:
            caps[Out.ACCOUNT_LIMIT] = max(0, terms.day_points_max - points)
        if terms.day_count_max and count >= terms.day_count_max:
            caps[Out.ACCOUNT_LIMIT] = 0
        if ask.terminal_room >= 0:
            caps[Out.TERMINAL_LIMIT] = ask.terminal_room
        caps[Out.INSUFFICIENT] = draft.balance(ask.today)[0]
        short = [code for code, cap in caps.items() if cap < ask.points]
        if not short:
            return ask.points, []
        smallest = min(caps.values())
        if ask.partial and smallest >= least:
            return smallest, []
        if ask.partial:
            return 0, [min(code for code, cap in caps.items() if cap == smallest)]
        return 0, [min(short)]

    def spent(self, draft: Draft, points: int) -> dict[str, Any]:
        ask, verdict = draft.ask, draft.verdict
        verdict.points = points
        verdict.outcome = Out.APPROVED if points == ask.points else Out.APPROVED_PARTIAL
        day = max(ask.today, self.day())
        return {"amount": ask.amount, "counted": points, "counts": 1, "day": day}

    def on_redeem(self, draft: Draft) -> list[Out]:
        points, reasons = self.granted(draft)
        if not reasons:
            values = self.spent(draft, points)
            moves = {lot: (-part, 0) for lot, (part, _) in draft.drawn(points).items()}
            draft.append(points=-points, spent=points, moves=moves, **values)
        return reasons

    def on_hold(self, draft: Draft) -> list[Out]:
        ask, terms, verdict = draft.ask, draft.terms, draft.verdict
        points, reasons = self.granted(draft)
        if len(draft.holds()) >= terms.holds_max:
            return [Out.TOO_MANY_HOLDS]
        if not reasons:
            values = self.spent(draft, points)
            moves = {lot: (-part, part) for lot, (part, _) in draft.drawn(points).items()}
            verdict.detail = ask.now_ms + min(ask.hold_ms or terms.hold_ms_default, terms.hold_ms_max)
            draft.append(held=points, moves=moves, until_ms=verdict.detail, **values)
        return reasons

    def on_sale(self, draft: Draft) -> list[Out]:
        ask = draft.ask
        points, reasons = self.granted(draft) if ask.points else (0, [])
        if reasons:
            return reasons
        return self.come_in(draft, points)

    def on_earn(self, draft: Draft) -> list[Out]:
        return self.come_in(draft, 0)

    def come_in(self, draft: Draft, points: int) -> list[Out]:
        ask, terms, verdict = draft.ask, draft.terms, draft.verdict
        base = ask.amount - points if ask.eligible < 0 else min(ask.eligible, ask.amount - points)
        earned = base * terms.rate_bp // 10_000
        if draft.total("points") - points + earned > MAX:
            return [Out.ACCOUNT_LIMIT]
        values: dict[str, Any] = {"amount": ask.amount, "eligible": ask.eligible, "rate_bp": terms.rate_bp}
        moves: Counter[Lot] = Counter()
        if points:
            values |= self.spent(draft, points)
            moves.update({lot: -part for lot, (part, _) in draft.drawn(points).items()})
        paid = min(earned, draft.total("owed"))
        moves[(ask.active_day, ask.expiry_day)] += earned - paid
        verdict.earned = earned
        quads = {lot: (part, 0) for lot, part in moves.items()}
        change = earned - points - paid
        draft.append(points=change, owed=-paid, spent=points, earned=earned, moves=quads, **values)
        return []

    def on_adjust(self, draft: Draft) -> list[Out]:
        ask, verdict = draft.ask, draft.verdict
        owed = draft.total("owed")
        if draft.total("points") + ask.points > MAX or owed - ask.points > MAX:
            return [Out.ACCOUNT_LIMIT]
        verdict.earned = ask.points
        if ask.points >= 0:
            paid = min(owed, ask.points)
            moves = {(ask.active_day, ask.expiry_day): (ask.points - paid, 0)}
            draft.append(points=ask.points - paid, owed=-paid, earned=ask.points, moves=moves)
            return []
        free = Counter({lot: parts[0] for lot, parts in draft.lots().items()})
        missing, parts = draft.taken_back(-ask.points, {}, free)
        moves = {lot: (-part, 0) for lot, part in parts}
        draft.append(points=ask.points + missing, owed=missing, earned=ask.points, moves=moves)
        return []

    # The end of holds.

    def hold_reasons(self, draft: Draft) -> list[Out]:
        ask = draft.ask
        row = draft.find(ask.target)
        if ask.target in self.elsewhere:
            op, partner = self.elsewhere[ask.target]
            reasons = [Out.ORIGINAL_OTHER_CARD]
        elif not row:
            return [Out.HOLD_UNKNOWN]
        else:
            op, partner = row.op, row.partner
            closed: dict[int, list[Out]] = {0: [], Op.EXPIRE_HOLD: [Out.HOLD_EXPIRED]}
            reasons = closed.get(draft.fate(ask.target), [Out.HOLD_CLOSED]) if op == Op.HOLD else [Out.HOLD_CLOSED]
        if op not in {Op.HOLD, Op.TOMBSTONE}:
            reasons = [*reasons, Out.ORIGINAL_UNSUITABLE]
        return reasons + ([] if partner == ask.partner else [Out.NOT_PERMITTED])

    def on_capture(self, draft: Draft) -> list[Out]:
        ask, verdict = draft.ask, draft.verdict
        reasons = self.hold_reasons(draft)
        hold = draft.find(ask.target)
        if reasons or not hold:
            return reasons
        points = ask.points or hold.held
        if points > hold.held:
            return [Out.CAPTURE_EXCEEDS]
        self.end(draft, hold, points, amount=ask.amount or hold.amount, spent=points, points=-points)
        verdict.points = points
        return []

    def on_release(self, draft: Draft) -> list[Out]:
        ask, verdict = draft.ask, draft.verdict
        reasons = self.hold_reasons(draft)
        hold = draft.find(ask.target)
        if reasons or not hold:
            return reasons
        self.end(draft, hold, 0, amount=ask.amount)
        verdict.points = hold.held
        return []

    def end(self, draft: Draft, hold: Row, used: int, **values: Any) -> None:
        moves = draft.ending(hold, used)
        counted = {"day": hold.day, "counted": used - hold.held}
        draft.append(target=draft.ask.target, held=-hold.held, moves=moves, **counted, **values)

    # Undoing.

    def target_reasons(self, draft: Draft, suitable: set[int]) -> list[Out]:
        ask = draft.ask
        row = draft.find(ask.target)
        if ask.target in self.elsewhere:
            op, partner = self.elsewhere[ask.target]
            reasons = [Out.ORIGINAL_OTHER_CARD]
        elif row:
            op, partner, reasons = row.op, row.partner, []
        else:
            return []
        reasons = reasons if op in suitable else [*reasons, Out.ORIGINAL_UNSUITABLE]
        return reasons + ([] if partner == ask.partner else [Out.NOT_PERMITTED])

    def on_refund(self, draft: Draft) -> list[Out]:
        ask, verdict = draft.ask, draft.verdict
        reasons = self.target_reasons(draft, REFUNDABLE)
        row = draft.find(ask.target)
        if reasons or not row:
            return reasons or [Out.ORIGINAL_UNKNOWN]
        if draft.fate(ask.target) == Op.REVERSE:
            return [Out.ORIGINAL_REVERSED]
        tree = draft.tree(ask.target)
        before = sum(each.refunded for each in tree)
        whole = row.amount or row.spent
        amount = ask.amount or whole - before
        if not 0 < amount <= whole - before:
            return [Out.REFUND_EXCEEDS]
        share = before + amount
        given = max(0, row.spent * share // whole - (row.spent - sum(each.spent for each in tree)))
        taken = max(0, sum(each.earned for each in tree) - row.earned * (whole - share) // whole)
        if self.too_big(draft, given, taken):
            return [Out.ACCOUNT_LIMIT]
        owed, moves = draft.exchange(given, taken, {})
        numbers = {"points": given - taken + owed, "spent": -given, "earned": -taken, "owed": owed}
        draft.append(target=ask.target, refunded=amount, amount=amount, moves=moves, **numbers)
        verdict.points, verdict.earned = given, -taken
        return []

    def too_big(self, draft: Draft, given: int, taken: int) -> bool:
        revived = taken if any(row.op == Op.EXPIRE_LOTS for row in draft.tree(draft.ask.target)) else 0
        return draft.total("points") + given + revived > MAX or draft.total("owed") + taken > MAX

    def on_reverse(self, draft: Draft) -> list[Out]:
        ask, verdict = draft.ask, draft.verdict
        reasons = self.target_reasons(draft, REVERSIBLE)
        row = draft.find(ask.target)
        if ask.target == ask.id:
            reasons = [*reasons, Out.ORIGINAL_UNSUITABLE]
        if reasons:
            return reasons
        if not row:
            draft.append(op=Op.TOMBSTONE, id=ask.target, sale_ms=ask.now_ms, memo=False)
        if not row or row.op == Op.TOMBSTONE or draft.fate(ask.target) == Op.REVERSE:
            draft.append(target=ask.target)
            return []
        tree = draft.tree(ask.target)
        spent, earned, refunded = (
            sum(getattr(each, name) for each in tree) for name in ("spent", "earned", "refunded")
        )
        held = sum(each.held for each in tree) if row.op == Op.HOLD else 0
        given, taken = max(spent, 0) + max(-earned, 0), max(-spent, 0) + max(earned, 0)
        if self.too_big(draft, given, taken):
            return [Out.ACCOUNT_LIMIT]
        owed, moves = draft.exchange(given, taken, draft.ending(row, 0) if held else {})
        numbers = {"points": given - taken + owed, "spent": -spent, "earned": -earned, "owed": owed, "held": -held}
        counted = {"day": self.counted_day(row), "counted": -max(spent, 0) - held}
        draft.append(target=ask.target, refunded=-refunded, moves=moves, **numbers, **counted)
        verdict.points, verdict.earned = max(spent, 0) + held, -earned
        return []

    # Cards.

    def on_activate(self, draft: Draft) -> list[Out]:
        ask = draft.ask
        status = self.cards().get(ask.token)
        reasons = {1: [Out.ALREADY_ACTIVE], 2: [Out.CARD_BLOCKED], 3: [Out.CARD_REPLACED]}.get(status or 0, [])
        draft.append(tokens=(ask.token, 1))
        return reasons

    def on_block(self, draft: Draft) -> list[Out]:
        draft.append(tokens=() if self.cards().get(draft.ask.token) == 3 else (draft.ask.token, 2))
        return []

    def on_replace(self, draft: Draft) -> list[Out]:
        ask = draft.ask
        cards = self.cards()
        reasons = {0: [Out.CARD_INACTIVE], 3: [Out.CARD_REPLACED]}.get(cards.get(ask.token, 1), [])
        if ask.new_token_state == 2 or cards.get(ask.new_token):
            reasons = [*reasons, Out.CARD_IN_USE]
        draft.append(tokens=(ask.token, 3, ask.new_token, 1))
        return reasons
