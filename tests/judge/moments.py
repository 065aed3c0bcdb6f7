"""What an account looked like after each of its entries: its balance and the fate of its requests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ledger.operations import Operation as Op
from tests.judge.account_rows import Entry, Lots, moves_of
from tests.judge.timeline import Journal

UNKNOWN, STANDS, REVERSED, HELD, CAPTURED, RELEASED, EXPIRED, REFUNDED = range(8)
_ENDS = {Op.CAPTURE: CAPTURED, Op.RELEASE: RELEASED, Op.EXPIRE_HOLD: EXPIRED}
_DAY_MS = 86_400_000


@dataclass(frozen=True)
class Window:
    """A stretch of the server's clock, in ms since 1970, as far as it can be known."""

    from_ms: int
    until_ms: int

    def days(self) -> range:
        """Return the days since 1970 that it may have been in some time zone."""
        return range(self.from_ms // _DAY_MS - 1, self.until_ms // _DAY_MS + 2)


class Moments:
    """The states of one account, entry by entry. State 0 is before the first."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._states: list[tuple[Lots, dict[bytes, Entry], int]] = [({}, {}, 0)]
        lots: Lots = {}
        holds: dict[bytes, Entry] = {}
        for entry in entries:
            lots, holds = dict(lots), dict(holds)
            for lot, free_change, held_change in moves_of(entry):
                free, held = lots.get(lot, (0, 0))
                lots[lot] = free + free_change, held + held_change
                if lots[lot] == (0, 0):
                    del lots[lot]
            if entry["op"] == Op.HOLD:
                holds[entry["request_id"]] = entry
            elif entry["op"] in _ENDS or entry["op"] == Op.REVERSE:
                holds.pop(entry["target"], None)
            self._states.append((lots, holds, entry["owed_after"]))

    def balances(self, seq: int, window: Window) -> Iterator[tuple[int, ...]]:
        """Return what BALANCE may say after entry `seq`: available, held, pending, owed.

        What has run out by the clock counts as free or gone before an entry says so; holds run out in their order.
        """
        lots, holds, owed = self._states[min(seq, len(self._states) - 1)]
        by_end = sorted(holds.values(), key=lambda hold: hold["until_ms"])
        surely = sum(hold["until_ms"] < window.from_ms for hold in by_end)
        possibly = sum(hold["until_ms"] < window.until_ms for hold in by_end)
        for due in range(surely, possibly + 1):
            free = {lot: points for lot, (points, _) in lots.items()}
            for hold in by_end[:due]:
                for lot, _, held_change in moves_of(hold):
                    free[lot] = free.get(lot, 0) + held_change
            held = sum(hold["held"] for hold in by_end[due:])
            for today in window.days():
                living = {lot: points for lot, points in free.items() if not 0 < lot[1] < today}
                pending = sum(points for lot, points in living.items() if lot[0] > today)
                yield sum(living.values()) - pending, held, pending, owed


def standings(journal: Journal, request_id: bytes, seq: int, window: Window) -> set[int]:
    """Return what STATUS may say about a request after entry `seq` of its account."""
    entry = journal.by_id.get(request_id)
    if entry is None or entry["seq"] > seq:
        return {UNKNOWN}
    if entry["op"] == Op.TOMBSTONE or _reversed(journal, entry, seq):
        return {REVERSED}
    below = [e for e in journal.targeting.get(request_id, []) if e["seq"] <= seq]
    if entry["op"] == Op.HOLD:
        ended = [_ENDS[e["op"]] for e in below if e["op"] in _ENDS]
        if ended:
            return {ended[0]}
        open_hold = {HELD} if entry["until_ms"] >= window.from_ms else set()
        return open_hold | ({EXPIRED} if entry["until_ms"] < window.until_ms else set())
    return {REFUNDED} if _refunded(journal, request_id, seq) > 0 else {STANDS}


def _reversed(journal: Journal, entry: Entry, seq: int) -> bool:
    # A reversal cannot be reversed itself.
    above = entry if entry["op"] != Op.REVERSE else None
    while above is not None:
        below = journal.targeting.get(above["request_id"], [])
        if any(e["op"] == Op.REVERSE and e["seq"] <= seq for e in below):
            return True
        above = journal.by_id.get(above["target"]) if above["target"] is not None else None
    return False


def _refunded(journal: Journal, request_id: bytes, seq: int) -> int:
    below = [e for e in journal.targeting.get(request_id, []) if e["seq"] <= seq]
    return sum(
        e["refunded"] + (0 if e["request_id"] is None else _refunded(journal, e["request_id"], seq)) for e in below
    )
