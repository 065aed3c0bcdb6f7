"""What a relay answered itself, held against the journal after its backlog is drained.

A relay's own approval tells no balance, and mostly the journal has other bytes for it: headquarters' answer, which the
register never saw. It is known by the balance, and by the register that heard it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from ledger.operations import Operation as Op
from tests.judge.account_rows import Entry
from tests.judge.events import ANSWERED, Event
from tests.judge.timeline import Journal
from tests.judge.verdict import Report

OFFLINE = 128
_REVERSED = 100
_REVERSIBLE = frozenset({Op.REDEEM, Op.HOLD, Op.CAPTURE, Op.EARN, Op.SALE, Op.REFUND})
#: What a relay may approve without headquarters, and what the journal calls it.
_OWN = {
    "EARN": Op.EARN, "SALE": Op.SALE, "REVERSE": Op.REVERSE, "RELEASE": Op.RELEASE, "REDEEM": Op.CAPTURE,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Stores:
    """Which registers stand behind a relay, and the rows of office.conflict by request id.

    `fickle` are the cards that others block or replace meanwhile: a sale on them may become a conflict.
    """

    registers: Collection[str] = frozenset()
    conflicts: Mapping[bytes, Entry] = field(default_factory=dict)
    fickle: Collection[int] = frozenset()


class Relayed:
    """Knows which answers were the relays' own, and judges them."""

    def __init__(self, events: Sequence[Event], journal: Journal, stores: Stores, report: Report) -> None:
        self._journal, self._stores, self._report = journal, stores, report
        self._own: dict[bytes, list[Event]] = defaultdict(list)
        self._reversed = {e.target for e in events if e.op == "REVERSE" and e.approved}
        self._declined: list[Event] = []
        for event in events:
            if self.own(event):
                self._own[event.request_id].append(event)
            elif self.local(event) and event.outcome == _REVERSED:
                self._declined.append(event)

    def own(self, event: Event) -> bool:
        """Return whether an answer was a relay's own approval, or could have been one.

        Headquarters tells no balance for a reversal of nothing, in the very bytes of a relay: so that proves nothing.
        """
        return self.local(event) and event.approved and event.op in _OWN

    def local(self, event: Event) -> bool:
        """Return whether an answer may be of a relay, which says nothing of what headquarters had at the time."""
        return event.register in self._stores.registers and event.balance is None and not event.question

    def told(self, request_id: bytes) -> bool:
        """Return whether a relay approved the request itself."""
        return request_id in self._own

    def check(self) -> None:
        """Judge every request that a relay approved, and every conflict."""
        for request_id, answers in self._own.items():
            self._check_copies(answers)
            self._check_effect(request_id, answers[0])
        for event in self._declined:
            if event.request_id not in self._reversed and event.request_id not in self._journal.by_id:
                self._report("flipped", f"{_name(event)} was told that it was reversed, which it was not")
        for request_id in self._stores.conflicts.keys() - self._own.keys():
            self._report("flipped", f"{request_id.hex()[:12]} is a conflict, but no register was told an approval")

    def _check_copies(self, answers: list[Event]) -> None:
        fresh = [event for event in answers if not event.replayed]
        if len(fresh) > 1:
            self._report("doubled", f"{_name(fresh[1])} was approved afresh by a relay {len(fresh)} times")
        if len({event.body for event in answers}) > 1:
            self._report("flipped", f"{_name(answers[-1])} was answered by a relay in two ways")

    def _check_effect(self, request_id: bytes, event: Event) -> None:
        entry, conflict = self._journal.by_id.get(request_id), self._stores.conflicts.get(request_id)
        if conflict is not None:
            self._check_conflict(event, entry, conflict)
        elif entry is None:
            self._report("lost", f"{_name(event)} was approved by a relay, but has no entry and is no conflict")
        elif entry["op"] == Op.TOMBSTONE:
            if request_id not in self._reversed:
                self._report("lost", f"{_name(event)} was approved by a relay, but never took effect")
        elif entry["op"] not in {_OWN[event.op], Op[event.op]}:
            self._report("flipped", f"{_name(event)} was journaled as {Op(entry['op']).name}")
        elif event.op == "REDEEM" and entry["spent"] != event.points:
            self._report("flipped", f"{_name(event)} was told {event.points} points, {entry['spent']} is the effect")

    def _check_conflict(self, event: Event, entry: Entry | None, conflict: Entry) -> None:
        if entry is not None and entry["op"] != Op.TOMBSTONE:
            self._report("flipped", f"{_name(event)} is a conflict, but has an effect")
        elif event.card not in self._stores.fickle and not self._explained(event, conflict["outcome"]):
            self._report("flipped", f"{_name(event)} is a conflict ({conflict['outcome']}) that nothing explains")

    def _explained(self, event: Event, outcome: int) -> bool:
        """Return whether headquarters had to decline: the request was taken back, or there was nothing to undo."""
        if outcome == _REVERSED:
            return event.request_id in self._reversed
        target = self._journal.by_id.get(event.target) if event.target is not None else None
        if event.op == "RELEASE":
            ended = event.target is not None and bool(self._journal.targeting.get(event.target))
            return target is None or target["op"] != Op.HOLD or ended
        return event.op == "REVERSE" and target is not None and target["op"] not in _REVERSIBLE


def heard_by_relay(event: Event) -> bool:
    """Return whether an answer says no more than that headquarters cannot be asked now."""
    return event.event == ANSWERED and event.outcome == OFFLINE


def _name(event: Event) -> str:
    return f"{event.op} {event.request_id.hex()[:12]} on card {event.card} ({event.register}, {event.at_ms} ms)"
