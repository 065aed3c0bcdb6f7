"""The stages in which every register sends its next request when it has the answer to the one before."""

from __future__ import annotations

from functools import partial

from loadtests.bench.figures import Point
from loadtests.bench.pairs import in_turns
from loadtests.bench.stages import Bench
from loadtests.bench.traffic import MANY, Traffic
from loadtests.generator.load import Load, Work
from loadtests.generator.outcome import Outcome

_REGISTERS = (1, 64, MANY, 1_000)
_CYCLE_S, _BATCHES, _REQUESTS = (
    f'tillwire_ledger_events_total{{event="{event}"}}'
    for event in ("batch_cycle_seconds", "decided_batches", "decided_requests")
)


class ClosedLoopStage:
    """Redeems of one point, cards drawn from all accounts."""

    name = "closed_loop"

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic

    def run(self, bench: Bench) -> None:
        """Put `redeem_*`, the curve `registers`, and of the run with many registers `batch_*`."""
        for registers in _REGISTERS:
            load = Load(registers, bench.scale.measuring_s, warm_up_s=bench.scale.warm_up_s)
            outcome = self._traffic.run(bench, load, observe=bench.installation.metrics)
            name = f"redeem_{registers}"
            bench.figures.put(f"{name}_per_s", outcome.approved_per_s)
            bench.figures.add("registers", _latencies(bench, name, registers, outcome))
            if registers == MANY:
                _put_batches(bench, outcome.observed)


class MixStage:
    """Balances, sales, holds with their captures, and reversals."""

    name = "mix"

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic

    def run(self, bench: Bench) -> None:
        """Put `mix_256_*`."""
        load = Load(MANY, bench.scale.measuring_s, Work.MIX, warm_up_s=bench.scale.warm_up_s)
        outcome = self._traffic.run(bench, load)
        bench.figures.put(f"mix_{MANY}_per_s", outcome.answered_per_s)
        _latencies(bench, f"mix_{MANY}", MANY, outcome)


class HotCardStage:
    """All registers redeem points of the same card."""

    name = "hot_card"

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic

    def run(self, bench: Bench) -> None:
        """Put `hot_card_256_per_s`."""
        load = Load(MANY, bench.scale.measuring_s, Work.HOT, warm_up_s=bench.scale.warm_up_s)
        bench.figures.put(f"hot_card_{MANY}_per_s", self._traffic.run(bench, load).approved_per_s)


class TlsStage:
    """The redeems of the closed loop over TLS, in turns with those without."""

    name = "tls"

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic

    def run(self, bench: Bench) -> None:
        """Put `tls_256_per_s` and `tls_to_plain_in_turns`."""
        measured = in_turns(bench.scale.repeats, partial(self._per_s, bench, tls=True), partial(self._per_s, bench))
        bench.figures.put(f"tls_{MANY}_per_s", measured.case)
        bench.figures.put("tls_to_plain_in_turns", measured.ratio)
        bench.say(f"{measured.case:,.0f} a second, {measured.other:,.0f} without")

    def _per_s(self, bench: Bench, *, tls: bool = False) -> float:
        return self._traffic.redeem(bench, MANY, tls=tls).approved_per_s


def _latencies(bench: Bench, name: str, registers: int, outcome: Outcome) -> Point:
    """Put the percentiles of a run; return it as a point of a curve."""
    p50, p99, p999 = outcome.percentiles_ms(0.5, 0.99, 0.999)
    for part, value in (("p50", p50), ("p99", p99), ("p999", p999)):
        bench.figures.put(f"{name}_{part}_ms", value)
    errors = "".join(f", {count} {code}" for code, count in outcome.errors.items())
    bench.say(
        f"{registers} registers: {outcome.answered_per_s:,.0f} a second, p50 {p50:.1f} ms, p99 {p99:.1f} ms{errors}"
    )
    return Point(registers, outcome.answered_per_s, p50, p99, p999)


def _put_batches(bench: Bench, metrics: dict[str, float]) -> None:
    """Put what the server itself counted while the run was measured, give or take its reports' second."""
    if batches := metrics.get(_BATCHES):
        bench.figures.put("batch_requests_mean", metrics[_REQUESTS] / batches)
        if _CYCLE_S in metrics:
            bench.figures.put("batch_cycle_mean_ms", metrics[_CYCLE_S] / batches * 1000)
