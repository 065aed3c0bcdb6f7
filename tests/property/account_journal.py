"""The journal of the account model: rows, and everything that follows from them, recomputed whenever it is needed."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from ledger.operations import Operation as Op

MAX = 2**53 - 1
NEVER = 10**9
#: What an entry says of a card that leads to the account no more.
GONE = 4
Id = Any  # 16 bytes, or False where there is none
Lot = tuple[int, int]
Moves = dict[Lot, tuple[int, int]]


@dataclass(frozen=True)
class Terms:
    rate_bp: int = 500
    redeem_min: int = 0
    redeem_max: int = 0
    share_bp: int = 10_000
    day_points_max: int = 0
    day_count_max: int = 0
    hold_ms_default: int = 600_000
    hold_ms_max: int = 3 * 86_400_000
    holds_max: int = 3

    def positional(self) -> list[Any]:
        return list(self.__dict__.values())


@dataclass(frozen=True)
class Ask:
    op: int
    id: Id
    now_ms: int
    today: int
    token: Id = b"A" * 16
    terminal: int = 11
    partner: int = 1
    permitted: bool = True
    currency_ok: bool = True
    time_ok: bool = True
    points: int = 0
    amount: int = 0
    eligible: int = -1
    partial: bool = False
    target: Id = False
    hold_ms: int = 0
    terminal_room: int = -1
    active_day: int = 0
    expiry_day: int = 0
    new_token: Id = False
    new_token_state: int = 0
    memo: bytes = b"memo"
    sale_ms: int = 0

    def positional(self, context: list[Any] | bool = False) -> list[Any]:
        who = [int(self.op), self.id, self.token, self.terminal, self.partner, self.now_ms, self.today]
        allowed = [self.permitted, self.currency_ok, self.time_ok]
        what = [self.points, self.amount, self.eligible, self.partial, self.target, self.hold_ms, self.terminal_room]
        lot = [self.active_day, self.expiry_day]
        return who + allowed + what + lot + [self.new_token, self.new_token_state, context, self.memo, self.sale_ms]


@dataclass(frozen=True)
class Row:
    """One entry; `counted` points belong to the counters of `day`, `until_ms` is a hold's."""

    op: int
    id: Id
    terminal: int
    partner: int
    now_ms: int
    sale_ms: int
    points: int = 0
    held: int = 0
    owed: int = 0
    spent: int = 0
    earned: int = 0
    refunded: int = 0
    amount: int = 0
    eligible: int = -1
    target: Id = False
    moves: Moves = field(default_factory=dict)
    rate_bp: int = 0
    tokens: tuple[Any, ...] = ()
    memo: Id = False
    day: int = 0
    counted: int = 0
    counts: int = 0
    until_ms: int = 0


@dataclass
class Verdict:
    outcome: int
    balance: list[int]
    points: int = 0
    earned: int = 0
    detail: int = 0
    rows: list[Row] = field(default_factory=list)


def expiry(lot: Lot) -> tuple[int, int]:
    return (lot[1] or NEVER, lot[0])


def summed(rows: list[Row]) -> Moves:
    free: Counter[Lot] = Counter()
    held: Counter[Lot] = Counter()
    for row in rows:
        for lot, (d_free, d_held) in row.moves.items():
            free[lot] += d_free
            held[lot] += d_held
    return {lot: (free[lot], held[lot]) for lot in sorted(free, key=expiry)}


def flat(moves: Moves) -> list[int]:
    return [number for lot, parts in moves.items() for number in (*lot, *parts)]


class Journal:
    """Rows of an account and everything that follows from them; `before` are those of accounts merged into it."""

    def __init__(self, rows: list[Row], cards: dict[Any, int], before: list[Row] | None = None) -> None:
        self.rows = rows
        self.first_cards = cards
        self.before = before or []

    def lots(self) -> Moves:
        return {lot: parts for lot, parts in summed(self.rows).items() if parts != (0, 0)}

    def total(self, name: str) -> int:
        return sum(getattr(row, name) for row in self.rows)

    def cards(self) -> dict[Any, int]:
        cards = dict(self.first_cards)
        for row in self.rows:
            if row.op == Op.MERGE_OUT:
                cards = {}
                continue
            for token, status in zip(row.tokens[::2], row.tokens[1::2], strict=True):
                if row.op == Op.MERGE_IN or (row.op in {Op.LINK, Op.REPLACE} and status == 1):
                    # It comes behind the others, also if it was here once.
                    cards.pop(token, None)
                cards[token] = status
                if status == GONE:
                    del cards[token]
        return cards

    def find(self, request_id: Id) -> Row | None:
        return next((row for row in (*self.before, *self.rows) if request_id and row.id == request_id), None)

    def holds(self) -> list[Row]:
        ended = {row.target for row in self.rows}
        return [row for row in self.rows if row.op == Op.HOLD and row.id not in ended]

    def day(self) -> int:
        return max((row.day for row in self.rows if row.counts), default=0)

    def counted(self, today: int) -> tuple[int, int]:
        day = max(today, self.day())
        rows = [row for row in self.rows if row.day == day]
        points = 0
        for row in rows:
            # The counter stops at the largest number, and what does not stand after all is taken from there.
            points = min(max(points + row.counted, 0), MAX)
        return points, sum(row.counts for row in rows)

    def tree(self, request_id: Id) -> list[Row]:
        known, rows = {request_id}, []
        for row in (*self.before, *self.rows):
            if row.id == request_id or (row.target and row.target in known):
                rows.append(row)
                known |= {row.id} - {False}
        return rows

    def fate(self, request_id: Id) -> int:
        upwards, everything = self.find(request_id), [*self.before, *self.rows]
        while upwards:
            if any(row.op == Op.REVERSE and row.target == upwards.id for row in everything):
                return Op.REVERSE
            upwards = self.find(upwards.target)
        ends = [row.op for row in everything if row.target == request_id]
        return next((op for op in ends if op in {Op.CAPTURE, Op.RELEASE, Op.EXPIRE_HOLD}), 0)

    def balance(self, today: int) -> list[int]:
        free = {lot: parts[0] for lot, parts in self.lots().items()}
        usable = {lot: points for lot, points in free.items() if lot[0] <= today and points}
        last_day = min((lot[1] for lot in usable if lot[1]), default=0)
        expiring = sum(points for lot, points in usable.items() if lot[1] == last_day and last_day)
        pending = sum(points for lot, points in free.items() if lot[0] > today)
        return [sum(usable.values()), self.total("held"), pending, self.total("owed"), expiring, last_day]
