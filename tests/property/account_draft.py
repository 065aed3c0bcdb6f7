"""A decision of the account model in the making: the journal, settled, with what one request adds to it."""

from collections import Counter
from dataclasses import replace
from typing import Any

from ledger.operations import Operation as Op
from tests.property.account_journal import MAX, Ask, Id, Journal, Lot, Moves, Row, Terms, Verdict, expiry, summed


class Draft(Journal):
    """A journal in the making for one request: settled at once, then changed, then kept or thrown away."""

    def __init__(self, journal: Journal, ask: Ask, terms: Terms, verdict: Verdict) -> None:
        super().__init__(list(journal.rows), journal.first_cards, journal.before)
        self.ask, self.terms, self.verdict = ask, terms, verdict
        for hold in self.holds():
            if hold.until_ms < ask.now_ms:
                self.automatic(Op.EXPIRE_HOLD, hold.id, self.ending(hold, 0), held=-hold.held, counted_for=hold)
        self.expire(False)

    def automatic(self, op: int, target: Id, moves: Moves, counted_for: Row | None = None, **more: Any) -> None:
        now, day = self.ask.now_ms, counted_for.day if counted_for else 0
        counted = -counted_for.counted if counted_for else 0
        row = Row(op, False, 0, 0, now, now, target=target, moves=moves, day=day, counted=counted, **more)
        self.rows.append(row)

    def expire(self, target: Id) -> None:
        lots = self.lots()
        over = {lot: (-free, 0) for lot, (free, _) in lots.items() if free and 0 < lot[1] < self.ask.today}
        if over:
            self.automatic(Op.EXPIRE_LOTS, target, over, points=sum(free for free, _ in over.values()))

    def ending(self, hold: Row, spent: int) -> Moves:
        moves: Moves = {}
        for lot in sorted(hold.moves, key=expiry):
            points = hold.moves[lot][1]
            used = min(points, spent)
            spent -= used
            moves[lot] = (points - used, -points)
        return moves

    def append(self, **values: Any) -> None:
        ask = self.ask
        row = Row(ask.op, ask.id, ask.terminal, ask.partner, ask.now_ms, ask.sale_ms, memo=ask.memo)
        self.rows.append(replace(row, **values))

    def drawn(self, points: int) -> Moves:
        """Spendable points by lot, soonest-expiring first."""
        taken: Moves = {}
        for lot, (free, _) in self.lots().items():
            part = min(points, free if lot[0] <= self.ask.today else 0)
            if part:
                taken[lot] = (part, 0)
                points -= part
        assert points == 0
        return taken

    def returned(self, points: int, net: Moves) -> tuple[int, list[tuple[Lot, int]]]:
        """How points go back: what pays the debt, and the parts by lot."""
        paid = min(points, self.total("owed"))
        left, parts = points - paid, []
        drained = [lot for lot in sorted(net, key=expiry, reverse=True) if sum(net[lot]) < 0]
        for lot in drained:
            part = min(left, -sum(net[lot]))
            parts.append((lot, part))
            left -= part
        if left:
            rest = drained[-1] if drained else max(net, key=expiry, default=(self.ask.active_day, self.ask.expiry_day))
            parts.append((rest, left))
        return paid, [part for part in parts if part[1]]

    def taken_back(self, points: int, net: Moves, free: Counter[Lot]) -> tuple[int, list[tuple[Lot, int]]]:
        """How points are taken: what is missing, and the parts by lot; `free` is what the lots hold by then."""
        parts = []
        wanted = [(lot, sum(net[lot])) for lot in sorted(net, key=expiry) if sum(net[lot]) > 0]
        for lot, most in wanted + [(lot, MAX * 2) for lot in sorted(free, key=expiry)]:
            part = min(points, most, free[lot])
            if part:
                parts.append((lot, part))
                free[lot] -= part
                points -= part
        return points, parts

    def exchange(self, given: int, taken: int, first: Moves) -> tuple[int, Moves]:
        """Points back to their lots and others out of them: the change of the debt, and all moves with `first`."""
        tree = self.tree(self.ask.target)
        net = summed(tree)
        self.revive([row for row in tree if row.op == Op.EXPIRE_LOTS], taken)
        paid, back = self.returned(given, net)
        moves = Counter({lot: parts[0] for lot, parts in first.items()})
        for lot, part in back:
            moves[lot] += part
        free = Counter({lot: parts[0] for lot, parts in self.lots().items()})
        free.update(moves)
        missing, out = self.taken_back(taken, net, free)
        for lot, part in out:
            moves[lot] -= part
        held = {lot: parts[1] for lot, parts in first.items()}
        return missing - paid, {lot: (free_, held.get(lot, 0)) for lot, free_ in moves.items()}

    def revive(self, expired: list[Row], taken: int) -> None:
        moves: Moves = {}
        for lot, (free, _) in summed(expired).items():
            part = min(-free, taken - sum(points for points, _ in moves.values()))
            if part > 0:
                moves[lot] = (part, 0)
        if moves:
            points = sum(part for part, _ in moves.values())
            self.automatic(Op.EXPIRE_LOTS, self.ask.target, moves, points=points)
