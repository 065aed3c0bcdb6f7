"""What became of the rows of a file, and whether the totals agree to the last point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from server.moving.reading import Cell

#: Of a long list of bad rows a report shows the first ones; the file of rejected rows has them all.
SHOWN_MAX = 20


@dataclass(frozen=True, slots=True)
class Reject:
    """A row that was not taken: where it stands, which column is at fault, why, and what it was."""

    line: int
    column: str
    reason: str
    conflict: bool
    cells: Sequence[Cell] = field(repr=False)


@dataclass(slots=True)
class Tally:
    """Rows by what became of them, and the minor points in them; `unread` counts rows whose points cannot be read."""

    imported: int = 0
    already: int = 0
    points_imported: int = 0
    points_already: int = 0
    points_rejected: int = 0
    unread: int = 0
    rejects: list[Reject] = field(default_factory=list)


@dataclass(slots=True)
class Counted:
    """What PostgreSQL has of the rows that were taken: `expected` by this count, `found` by its own."""

    expected: int = 0
    found: int = 0
    points_expected: int = 0
    points_found: int = 0

    def add(self, other: Counted) -> None:
        """Add another count."""
        self.expected += other.expected
        self.found += other.found
        self.points_expected += other.points_expected
        self.points_found += other.points_found

    @property
    def agrees(self) -> bool:
        """Whether the two counts are the same."""
        return (self.expected, self.points_expected) == (self.found, self.points_found)


@dataclass(slots=True)
class Report:
    """One import; points are minor units. `reject_file` is None as long as nothing was rejected."""

    kind: str
    file: str
    description: str
    columns: list[tuple[str, str]]
    dry_run: bool
    rows: int = 0
    imported: int = 0
    already: int = 0
    rejected: int = 0
    conflicts: int = 0
    points_in_file: int = 0
    points_imported: int = 0
    points_already: int = 0
    points_rejected: int = 0
    rows_with_unreadable_points: int = 0
    counted: Counted = field(default_factory=Counted)
    first_rejects: list[dict[str, Any]] = field(default_factory=list)
    reasons: dict[str, int] = field(default_factory=dict)
    reject_file: str | None = None
    elapsed_s: float = 0.0

    def add(self, tally: Tally) -> None:
        """Add what became of a part."""
        self.imported += tally.imported
        self.already += tally.already
        self.rejected += len(tally.rejects)
        self.points_imported += tally.points_imported
        self.points_already += tally.points_already
        self.points_rejected += tally.points_rejected
        self.rows_with_unreadable_points += tally.unread
        for reject in tally.rejects:
            self.conflicts += reject.conflict
            reason = f"{reject.column}: {reject.reason}" if reject.column else reject.reason
            # Numbers are what makes reasons of one kind differ.
            known = reason if reason in self.reasons or len(self.reasons) < SHOWN_MAX else "other reasons"
            self.reasons[known] = self.reasons.get(known, 0) + 1
            self.first_rejects.append({
                "line": reject.line, "column": reject.column, "reason": reject.reason, "conflict": reject.conflict,
            })  # fmt: skip
        self.first_rejects.sort(key=lambda shown: int(shown["line"]))
        del self.first_rejects[SHOWN_MAX:]

    @property
    def agrees(self) -> bool:
        """Whether every row and every point is accounted for, here and in PostgreSQL."""
        rows = self.imported + self.already + self.rejected
        points = self.points_imported + self.points_already + self.points_rejected
        counted = self.dry_run or self.counted.agrees
        return (rows, points) == (self.rows, self.points_in_file) and counted

    def as_json(self) -> dict[str, Any]:
        """Return all of it, with the verdict."""
        return {**asdict(self), "agrees": self.agrees}
