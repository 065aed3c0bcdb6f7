"""The stages in which requests come at times of their own, whatever the server does."""

from __future__ import annotations

from loadtests.bench.figures import Point
from loadtests.bench.stages import Bench
from loadtests.bench.traffic import MANY, Traffic
from loadtests.generator.load import Load

_PERCENTS = (25, 50, 75)
_OVERLOAD = 3
#: Until the server has taken in all that it takes in: before, it looks better than it is.
_FILLING_S = 1.0
#: What registers have by default: an approval that comes later is no good.
_DEADLINE_MS = 5_000


class OpenLoopStage:
    """Redeems at parts of the peak; latency counts from the moment at which each was due."""

    name = "open_loop"

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic

    def run(self, bench: Bench) -> None:
        """Put `open_*` and the curve `offered`: of each rate the run with the median p99."""
        peak_per_s = self._traffic.peak_per_s(bench)
        scale, figures = bench.scale, bench.figures
        for percent in _PERCENTS:
            rate_per_s = peak_per_s * percent / 100
            load = Load(MANY, scale.measuring_s, rate_per_s=rate_per_s, warm_up_s=scale.warm_up_s)
            outcomes = [self._traffic.run(bench, load) for _ in range(scale.repeats)]
            outcome = sorted(outcomes, key=lambda one: one.percentiles_ms(0.99))[scale.repeats // 2]
            p50, p99, p999 = outcome.percentiles_ms(0.5, 0.99, 0.999)
            figures.put(f"open_{percent}_per_s", rate_per_s)
            figures.put(f"open_{percent}_p50_ms", p50)
            figures.put(f"open_{percent}_p99_ms", p99)
            figures.put(f"open_{percent}_p999_ms", p999)
            figures.add("offered", Point(rate_per_s, outcome.approved_per_s, p50, p99, p999))
            bench.say(f"{rate_per_s:,.0f} offered: {outcome.approved_per_s:,.0f} a second, p99 {p99:.1f} ms")


class OverloadStage:
    """Three times the peak: what is refused at once costs little, and the rest comes in time."""

    name = "overload"

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic

    def run(self, bench: Bench) -> None:
        """Put `goodput_overload_3x_per_s`: approvals within 5 s of the moment at which they were due."""
        rate_per_s = self._traffic.peak_per_s(bench) * _OVERLOAD
        scale = bench.scale
        load = Load(
            MANY, scale.measuring_s, rate_per_s=rate_per_s, warm_up_s=scale.warm_up_s + _FILLING_S,
            deadline_ms=_DEADLINE_MS,
        )  # fmt: skip
        outcome = self._traffic.run(bench, load)
        goodput_per_s = outcome.goodput_per_s(_DEADLINE_MS)
        bench.figures.put(f"goodput_overload_{_OVERLOAD}x_per_s", goodput_per_s)
        refused = ", ".join(f"{count:,} {code}" for code, count in outcome.errors.items()) or "nothing refused"
        bench.say(
            f"{rate_per_s:,.0f} offered: {goodput_per_s:,.0f} a second in time, {refused}, "
            f"{outcome.given_up:,} not even sent"
        )
