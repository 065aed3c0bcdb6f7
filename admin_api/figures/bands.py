"""Where a figure usually lies, and where it leaves that: pure functions over series of numbers.

The usual band of a step is the median of what the figure was at the same time of day on the days before, and around
it so many median absolute deviations. Without three such days it is that of the hours just before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import median
from typing import Literal, TypeAlias

Value: TypeAlias = float | int | None

DAYS_MIN = 3
DAYS_MAX = 7
HOURS_MS = 3 * 3_600_000
#: Fewer values of the hours before say nothing.
HOURS_VALUES_MIN = 12
#: A band of the hours before is computed anew so many times over a series at most.
_BLOCKS = 24
#: Four standard deviations, were the figure spread normally.
_MADS = 4 * 1.4826
_SHARE = 0.15
_LONG_MS = 300_000


@dataclass(frozen=True, slots=True)
class Noise:
    """How much a figure moves of itself: at least `least` either way, and where it `counts` things, as counts do."""

    least: float = 0.0
    counts: bool = False


@dataclass(frozen=True, slots=True)
class Mark:
    """A run of steps outside the band, with its most distant value; times are beginnings of steps in ms."""

    from_ms: int
    until_ms: int
    value: float
    low: float
    high: float
    side: Literal["above", "below"]


@dataclass(frozen=True, slots=True)
class Band:
    """For each step the lowest and highest usual value, or None; `basis` says where that comes from."""

    low: list[float | None]
    high: list[float | None]
    basis: Literal["days", "hours"] | None


def usual(values: Sequence[float], noise: Noise) -> tuple[float, float]:
    """Return the usual band of a figure that had these values, at least one."""
    middle = median(values)
    deviation = median(abs(value - middle) for value in values)
    counted = 4 * sqrt(max(0.0, middle)) if noise.counts else 0.0
    width = max(_MADS * deviation, _SHARE * abs(middle), counted, noise.least)
    return max(0.0, middle - width), middle + width


def band(
    steps: Sequence[int],
    known: Mapping[int, Value],
    step_ms: int,
    noise: Noise,
    days_before: Callable[[int, int], int],
) -> Band:
    """Return the band of steps, given by their beginnings in ms.

    `known` are values by step, of the steps themselves and of the time before; `days_before(at_ms, days)` is the step
    of the same time of day so many days before.
    """
    low: list[float | None] = []
    high: list[float | None] = []
    bases: set[Literal["days", "hours"]] = set()
    block = max(1, -(-len(steps) // _BLOCKS))
    recent: tuple[float, float] | None = None
    for index, at_ms in enumerate(steps):
        if index % block == 0:
            recent = _of_hours(at_ms, known, step_ms, noise)
        days = _of_days(at_ms, known, step_ms, noise, days_before)
        found = days or recent
        if found:
            bases.add("days" if days else "hours")
        low.append(found[0] if found else None)
        high.append(found[1] if found else None)
    return Band(low, high, "days" if "days" in bases else "hours" if bases else None)


def _of_days(
    at_ms: int, known: Mapping[int, Value], step_ms: int, noise: Noise, days_before: Callable[[int, int], int]
) -> tuple[float, float] | None:
    values: list[float] = []
    days = 0
    for day in range(1, DAYS_MAX + 1):
        then = days_before(at_ms, day)
        # Of short steps the neighbours as well, because one says little; between long ones the day goes on.
        near = [known.get(then + shift) for shift in ((-step_ms, 0, step_ms) if step_ms < _LONG_MS else (0,))]
        if any(value is not None for value in near):
            days += 1
            values += [value for value in near if value is not None]
    return usual(values, noise) if days >= DAYS_MIN else None


def _of_hours(at_ms: int, known: Mapping[int, Value], step_ms: int, noise: Noise) -> tuple[float, float] | None:
    before = (known.get(then) for then in range(at_ms - HOURS_MS // step_ms * step_ms, at_ms, step_ms))
    values = [value for value in before if value is not None]
    return usual(values, noise) if len(values) >= HOURS_VALUES_MIN else None


def marks(steps: Sequence[int], values: Sequence[Value], usually: Band, step_ms: int) -> list[Mark]:
    """Return where values leave their band: one mark for each run of steps on the same side."""
    found: list[Mark] = []
    for at_ms, value, low, high in zip(steps, values, usually.low, usually.high, strict=True):
        if value is None or low is None or high is None or low <= value <= high:
            continue
        side: Literal["above", "below"] = "above" if value > high else "below"
        last = found[-1] if found else None
        if last is not None and last.until_ms == at_ms and last.side == side:
            further = value > last.value if side == "above" else value < last.value
            worst = (value, low, high) if further else (last.value, last.low, last.high)
            found[-1] = Mark(last.from_ms, at_ms + step_ms, *worst, side)
        else:
            found.append(Mark(at_ms, at_ms + step_ms, value, low, high, side))
    return found
