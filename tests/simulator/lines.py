"""What registers were told of single copies, held against what came later: a check beside the judge's own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ledger.operations import Operation
from tests.judge.events import ANSWERED, REFUSED, SENT, Event
from tests.simulator.tap import MOVABLE

#: BUSY and EXPIRED: this copy was not executed (SPEC.md, error codes).
_NOT_EXECUTED = frozenset({3, 4})
_UNKNOWN = 0


class Lines:
    """Takes every event as it happens; `report` is called with what is wrong."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        self._under_way: Counter[bytes] = Counter()
        self._doubtful: set[bytes] = set()
        self._on_line: Counter[tuple[int, bytes]] = Counter()
        self._asked_behind: dict[tuple[int, bytes], bytes] = {}
        self._told_unknown: set[tuple[int, bytes]] = set()
        self._not_executed_ms: dict[bytes, int] = {}
        self._overtaken: list[str] = []

    def take(self, event: Event) -> None:
        """Look at an event."""
        here = (event.line, event.request_id)
        if event.event == SENT:
            if self._under_way[event.request_id]:
                # From here on nobody can say which copy had the effect.
                self._doubtful.add(event.request_id)
            self._under_way[event.request_id] += 1
            self._on_line[here] += 1
            self._asked_behind.pop(here, None)
            # What takes effect from here on may be this copy, which came behind the question.
            self._told_unknown.discard(here)
            # A decline of a card that may have moved is decided twice, too.
            asks = event.op == "STATUS" and event.card < MOVABLE
            if asks and event.target is not None and self._on_line[event.line, event.target] == 1:
                self._asked_behind[here] = event.target
        elif event.event in {ANSWERED, REFUSED}:
            self._under_way[event.request_id] -= 1
            self._on_line[here] -= 1
            if event.event == REFUSED:
                # The next copy of it comes behind the question.
                self._asked_behind = {k: v for k, v in self._asked_behind.items() if v != event.request_id}
            if event.event == ANSWERED:
                self._answered(event)
            elif event.outcome not in _NOT_EXECUTED:
                self._doubtful.add(event.request_id)
            elif event.request_id not in self._doubtful:
                self._not_executed_ms[event.request_id] = event.at_ms

    def check_order(self) -> None:
        """Look for a STATUS that overtook its request; what was decided twice may be overtaken (SPEC.md, STATUS)."""
        for overtaken in self._overtaken:
            self._report(overtaken)

    def check_refusals(self, entries: Iterable[Mapping[str, Any]]) -> None:
        """Look for what was decided before it was said that it was not; the server's clock must have been right."""
        for entry in entries:
            said_ms = self._not_executed_ms.get(entry["request_id"], 0)
            if entry["op"] != Operation.TOMBSTONE and entry["at_ms"] < said_ms:
                request = entry["request_id"].hex()[:12]
                self._report(f"{request} was decided at {entry['at_ms']}, and at {said_ms} said not to be executed")

    def _answered(self, event: Event) -> None:
        here = (event.line, event.request_id)
        name = f"{event.op} {event.request_id.hex()[:12]} of {event.register}"
        if here in self._told_unknown:
            self._told_unknown.discard(here)
            if event.approved and not event.replayed and not event.question:
                self._overtaken.append(
                    f"{name} took effect, though a STATUS behind it on the same line had told that it is unknown"
                )
        # A decline is decided anew: the next copies are another story.
        self._doubtful.add(event.request_id)
        target = self._asked_behind.pop(here, None)
        if target is not None and event.status == _UNKNOWN and self._on_line[event.line, target] == 1:
            self._told_unknown.add((event.line, target))
