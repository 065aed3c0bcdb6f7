"""The goals, all of them ratios within one run or sizes: what a figure must be, and whether it is."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from loadtests.bench.figures import Figures

_COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "<": operator.lt,
}


class Verdict(StrEnum):
    """What became of a goal."""

    MET = "met"
    MISSED = "missed"
    NOT_MEASURED = "not measured"


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound on one number: the sum of the figures `above`, divided by the figure `below` (None: by nothing).

    `PEAK` stands for the best of the closed loops.
    """

    name: str
    text: str
    comparison: str
    bound: float
    above: tuple[str, ...]
    below: str | None = None

    def judge(self, figures: Figures) -> Judged:
        """Compute the number from the figures; it is None as long as one of them is missing."""
        parts = [_value(figures, name) for name in self.above]
        divisor = 1.0 if self.below is None else _value(figures, self.below)
        if not divisor or any(part is None for part in parts):
            return Judged(self, None)
        return Judged(self, sum(part for part in parts if part is not None) / divisor)


@dataclass(frozen=True, slots=True)
class Judged:
    """A goal and the number that one run brought."""

    goal: Goal
    value: float | None

    @property
    def verdict(self) -> Verdict:
        """Return whether the goal was met."""
        if self.value is None:
            return Verdict.NOT_MEASURED
        return Verdict.MET if _COMPARISONS[self.goal.comparison](self.value, self.goal.bound) else Verdict.MISSED

    @property
    def distance(self) -> float | None:
        """Return by which part of the bound the number lies above it (below it: negative)."""
        return None if self.value is None else self.value / self.goal.bound - 1

    @property
    def distance_text(self) -> str:
        """Return the distance in words, '' when nothing was measured."""
        if self.distance is None:
            return ""
        return f"{abs(self.distance):.0%} {'above' if self.distance >= 0 else 'below'} the bound"


PEAK = "peak_per_s"
_CPU = ("server_us_per_redeem", "valkey_us_per_redeem", "postgresql_us_per_redeem")

GOALS = (
    Goal(
        "redeem_256_to_pgbench_best",
        "durable redeems a second at 256 registers : pgbench's best",
        ">=", 3.0, ("redeem_256_per_s",), "pgbench_best_per_s",
    ),
    Goal(
        "redeem_256_to_ceiling_script",
        "durable redeems a second at 256 registers : the Redis script alone",
        ">=", 0.5, ("redeem_256_per_s",), "ceiling_script_per_s",
    ),
    Goal(
        "cpu_per_redeem_to_pgbench_postgresql",
        "processor time per durable redeem (server, Valkey, PostgreSQL) : PostgreSQL's per transaction of pgbench",
        "<=", 0.4, _CPU, "pgbench_postgresql_us_per_transaction",
    ),
    Goal(
        "p99_256_to_batch_cycle",
        "p99 at 256 registers, closed loop : mean time of a batch cycle",
        "<=", 3.0, ("redeem_256_p99_ms",), "batch_cycle_mean_ms",
    ),
    Goal(
        "p999_256_to_p99_256",
        "p99.9 at 256 registers, closed loop : p99",
        "<=", 4.0, ("redeem_256_p999_ms",), "redeem_256_p99_ms",
    ),
    Goal(
        "open_50_p99_to_pgbench_half_peak_p99",
        "p99 at half the peak, open loop : pgbench's at half its peak",
        "<", 1.0, ("open_50_p99_ms",), "pgbench_half_peak_p99_ms",
    ),
    Goal(
        "tls_to_plain",
        "durable redeems a second at 256 registers, TLS : without",
        ">=", 0.9, ("tls_to_plain_in_turns",),
    ),
    Goal(
        "growth_to_small",
        "durable redeems a second with 1,000,000 accounts and 10,000,000 entries : with 100,000 accounts",
        ">=", 0.9, ("growth_to_small_in_turns",),
    ),
    Goal(
        "goodput_overload_to_peak",
        "durable redeems a second at three times the peak offered : the peak",
        ">=", 0.9, ("goodput_overload_3x_per_s",), PEAK,
    ),
    Goal(
        "redis_bytes_per_account",
        "bytes of Redis memory per account with 6 lots and 8 remembered requests",
        "<=", 400.0, ("redis_bytes_per_account",),
    ),
)  # fmt: skip


def judge(figures: Figures) -> list[Judged]:
    """Judge all goals by the figures of one run."""
    return [goal.judge(figures) for goal in GOALS]


def _value(figures: Figures, name: str) -> float | None:
    return figures.peak_per_s() if name == PEAK else figures.values.get(name)
