"""Plays scenarios one after another, cheaply, and adds up what they reached."""

from __future__ import annotations

import contextlib
import gc
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from tests.simulator.scenario import Outcome, Scenario, Trace

_SCENARIOS_PER_COLLECTION = 50


@dataclass
class Tally:
    """What some scenarios came to."""

    scenarios: int = 0
    virtual_s: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    breaches: list[Outcome] = field(default_factory=list)

    def take(self, outcome: Outcome) -> None:
        """Add one scenario."""
        self.scenarios += 1
        self.virtual_s += outcome.virtual_s
        self.counts.update(outcome.counts)
        self.counts.update(f"fault {name}" for name in outcome.faults)
        if not outcome.clean:
            self.breaches.append(outcome)

    def add(self, other: Tally) -> None:
        """Add what another process has played."""
        self.scenarios += other.scenarios
        self.virtual_s += other.virtual_s
        self.counts.update(other.counts)
        self.breaches += other.breaches


def play(seed: int, trace: Trace | None = None) -> Outcome:
    """Play one scenario."""
    with _apart():
        return Scenario(seed, trace).run()


def play_all(seeds: Iterable[int], deadline: float = float("inf"), *, stop: bool = False) -> Tally:
    """Play scenarios until a moment of `time.monotonic()`, or until the first breach if `stop`."""
    tally = Tally()
    with _apart():
        for seed in seeds:
            if time.monotonic() > deadline or (stop and tally.breaches):
                break
            tally.take(Scenario(seed).run())
            if tally.scenarios % _SCENARIOS_PER_COLLECTION == 0:
                # All that has become garbage is young: nothing was collected while the scenarios were played.
                gc.collect(0)
    return tally


def warm_up() -> None:
    """Have everything ready that scenarios share, before processes are forked that play some."""
    play(0)
    gc.collect()
    gc.freeze()


@contextlib.contextmanager
def _apart() -> Iterator[None]:
    """Be in an empty folder, in which sockets have short names that are always the same, and collect no garbage.

    What a collection finds first depends on what was played before, and a scenario must not.
    """
    with tempfile.TemporaryDirectory(prefix="tillwire-simulator-") as folder, contextlib.chdir(folder):
        collecting = gc.isenabled()
        gc.disable()
        try:
            yield
        finally:
            if collecting:
                gc.enable()
