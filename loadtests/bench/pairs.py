"""Two cases measured in turns: what a shared machine has left changes from one minute to the next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Pairs:
    """Medians of a case, of what it is compared with, and of the ratios within the pairs."""

    case: float
    other: float
    ratio: float


def in_turns(pairs: int, case: Callable[[], float], other: Callable[[], float]) -> Pairs:
    """Measure `other` and `case` so many times one after the other. Raises ZeroDivisionError if `other` measures 0."""
    measured = [(other(), case()) for _ in range(pairs)]
    others, cases = zip(*measured, strict=True)
    return Pairs(median(cases), median(others), median(case / other for other, case in measured))
