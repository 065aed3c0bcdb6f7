"""The steps of a period, and the spans of time that must be read to know what is usual in it: pure functions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from admin_api.figures.bands import DAYS_MAX, HOURS_MS
from admin_api.figures.gathering import KEEP_MINUTES, KEEP_SAMPLES_MS
from admin_api.problem import bad_request
from ledger.programme import Programme
from ledger.registry.figures import Spans

#: Steps of a series, in ms.
STEPS_MS = tuple(1_000 * s for s in (60, 120, 300, 600, 900, 1_800, 3_600, 10_800, 21_600, 86_400))
#: Samples of the process may be shown in these as well.
FINE_STEPS_MS = (5_000, 15_000, 30_000)
STEPS_MAX = 125
PERIOD_MS_MAX = 400 * 86_400_000
#: Workers add what they answered every 5 s and the journal is rolled up every 10: a step is complete so much later.
COMPLETE_AFTER_MS = 15_000
DAY_MS = 86_400_000
HOUR_MS = 3_600_000
MINUTE_MS = 60_000


@dataclass(frozen=True, slots=True)
class Asked:
    """A period in ms since 1970, whose figures, and how fine; a step of 0 is chosen here."""

    from_ms: int
    to_ms: int
    step_ms: int = 0
    network_id: int | None = None
    store_id: int | None = None


@dataclass(frozen=True, slots=True)
class Grid:
    """The steps of series: their length, how far they are moved to begin with the day, first and end."""

    step_ms: int
    offset_ms: int
    from_ms: int
    to_ms: int

    @property
    def steps(self) -> range:
        """The beginnings of all steps."""
        return range(self.from_ms, self.to_ms, self.step_ms)

    def floor(self, at_ms: int) -> int:
        """Return the beginning of the step in which a moment lies."""
        return (at_ms + self.offset_ms) // self.step_ms * self.step_ms - self.offset_ms


def grid_for(programme: Programme, asked: Asked, now_ms: int, *, fine: bool) -> Grid:
    """Return the steps for a period; `fine` are those of samples. Raises a Problem (400)."""
    period_ms = asked.to_ms - asked.from_ms
    if not 0 < period_ms <= PERIOD_MS_MAX:
        raise bad_request("to_ms must lie after from_ms, at most 400 days")
    steps = (*FINE_STEPS_MS, *STEPS_MS) if fine and not asked.step_ms else STEPS_MS
    if asked.step_ms and asked.step_ms not in STEPS_MS:
        raise bad_request(f"step_ms must be one of {', '.join(map(str, STEPS_MS))}")
    # What is older was thinned.
    thinned = asked.from_ms < now_ms - (KEEP_SAMPLES_MS if fine else KEEP_MINUTES * MINUTE_MS)
    least = (300_000 if fine else HOUR_MS) if thinned else 0
    fitting = (s for s in steps if s >= max(least, asked.step_ms) and period_ms <= s * STEPS_MAX)
    step_ms = next(fitting, STEPS_MS[-1])
    grid = Grid(step_ms, programme.days.utc_offset_ms(asked.to_ms), 0, 0)
    until_ms = min(asked.to_ms, now_ms - (0 if fine else COMPLETE_AFTER_MS))
    return Grid(
        step_ms, grid.offset_ms, grid.floor(asked.from_ms), max(grid.floor(until_ms), grid.floor(asked.from_ms))
    )


def days_before(programme: Programme, at_ms: int, days: int) -> int:
    """Return the moment of the same local time so many days before."""
    zone = programme.days.zone
    local = datetime.fromtimestamp(at_ms / 1_000, UTC).astimezone(zone)
    return int((local - timedelta(days=days)).timestamp() * 1_000)


def spans_to_read(grid: Grid, programme: Programme, unit_ms: int, *, keep_ms: int) -> Spans:
    """Return what must be read: the period with the hours before it, and the same hours of the days before.

    Minutes before `keep_ms` were thinned and say nothing of steps shorter than an hour.
    """
    begin, end = grid.from_ms - HOURS_MS, grid.to_ms
    if end - grid.from_ms > DAY_MS - HOURS_MS:
        spans = [(begin - DAYS_MAX * DAY_MS, end)]
    else:
        near = grid.step_ms + HOUR_MS
        spans = [(begin, end)] + [
            (days_before(programme, grid.from_ms, day) - near, days_before(programme, grid.to_ms, day) + near)
            for day in range(1, DAYS_MAX + 1)
        ]
        spans = _apart(spans)
    if grid.step_ms < HOUR_MS:
        spans = [(max(lo, keep_ms), hi) for lo, hi in spans if hi > keep_ms]
    return [grid.floor(lo) // unit_ms for lo, _ in spans], [-(-hi // unit_ms) for _, hi in spans]


def _apart(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join spans that overlap, so that nothing counts twice."""
    joined: list[tuple[int, int]] = []
    for lo, hi in sorted(spans):
        if joined and lo <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(hi, joined[-1][1]))
        else:
            joined.append((lo, hi))
    return joined
