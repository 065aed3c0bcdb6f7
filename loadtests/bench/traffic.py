"""Runs of the lean generator against the server of a benchmark; only what the journal confirms counts."""

from __future__ import annotations

from collections.abc import Callable

from loadtests.bench.stages import Bench, Wrong
from loadtests.generator.confirm import Mismatch, confirm
from loadtests.generator.load import Load, Work
from loadtests.generator.outcome import Outcome
from loadtests.generator.process import run
from loadtests.generator.target import Target
from loadtests.installation import Installation

MANY = 256
"""Registers wherever a stage needs many and names no number."""

_SWEEPING_REGISTERS, _SWEPT_AT_ONCE = 64, 32


class Traffic:
    """Loads on a warm server: all accounts are in Redis and all cards known, as in the middle of a day."""

    def __init__(self) -> None:
        self._swept: tuple[Installation, int] | None = None

    def run(
        self, bench: Bench, load: Load, *, tls: bool = False, observe: Callable[[], dict[str, float]] | None = None
    ) -> Outcome:
        """Run a load and have it confirmed. Raises Wrong when registers and journal do not agree."""
        installation = bench.serve(tls=tls)
        if load.work is not Work.SPEND:
            self.warm(bench, tls=tls)
        return confirmed(installation, load, tls=tls, observe=observe)

    def warm(self, bench: Bench, *, tls: bool = False) -> None:
        """Have a server run to which all accounts are known."""
        installation = bench.serve(tls=tls)
        server = (installation, installation.server_pid)
        if self._swept != server:
            bench.say(f"all accounts asked for once: {warm(installation, tls=tls).answered_per_s:,.0f} a second")
            self._swept = server

    def redeem(self, bench: Bench, registers: int, *, tls: bool = False) -> Outcome:
        """Let so many registers redeem in a closed loop, as long as this benchmark measures a point."""
        return self.run(bench, Load(registers, bench.scale.measuring_s, warm_up_s=bench.scale.warm_up_s), tls=tls)

    def peak_per_s(self, bench: Bench) -> float:
        """Return the durable redeems a second of many registers, measured now unless a stage before has done so."""
        if (known := bench.figures.values.get(f"redeem_{MANY}_per_s")) is not None:
            return known
        return self.redeem(bench, MANY).approved_per_s


def warm(installation: Installation, *, tls: bool = False) -> Outcome:
    """Ask for every account once."""
    load = Load(_SWEEPING_REGISTERS, 0.0, Work.SWEEP, at_once=_SWEPT_AT_ONCE)
    return confirmed(installation, load, tls=tls)


def confirmed(
    installation: Installation,
    load: Load,
    *,
    tls: bool = False,
    observe: Callable[[], dict[str, float]] | None = None,
) -> Outcome:
    """Run a load and compare what the registers heard with the journal. Raises Wrong when they do not agree."""
    target = Target(installation.population, installation.tls_ca if tls else None)
    return confirmed_at(installation, target, load, observe=observe)


def confirmed_at(
    installation: Installation, target: Target, load: Load, *, observe: Callable[[], dict[str, float]] | None = None
) -> Outcome:
    """Do the same at a target of one's own: a relay, say. Raises Wrong."""
    outcome = run(target, load, observe=observe)
    try:
        confirm(installation.postgres_url, outcome)
    except Mismatch as mismatch:
        raise Wrong(str(mismatch)) from None
    return outcome
