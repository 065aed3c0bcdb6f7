"""What a stage of the benchmark is, and what it works with."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from loadtests.bench.figures import Figures
from loadtests.installation import Installation


@dataclass(frozen=True, slots=True)
class Scale:
    """How much and how long is measured: seconds for each point, its warm-up not counted.

    What is compared in turns, or could be spoiled by one stall of the disk, is measured `repeats` times. `decisions`
    are those of the ceilings; nothing grows when `grown_accounts` is 0.
    """

    name: str
    accounts: int
    terminals: int
    warm_up_s: float
    measuring_s: float
    repeats: int
    idle_connections: int
    decisions: int
    grown_accounts: int
    grown_entries: int
    first_touches_s: float


FULL = Scale("full", 100_000, 3_000, 2.0, 8.0, 3, 10_000, 200_000, 1_000_000, 10_000_000, 30.0)
QUICK = Scale("quick", 100_000, 3_000, 0.4, 1.5, 1, 10_000, 40_000, 0, 0, 0.0)


RELAYS, RELAY_TERMINALS = 1, 64
"""Stores with a relay, and the registers of each."""


class Wrong(Exception):  # noqa: N818 - it is a finding, not an error in this code
    """A figure is wrong: what was answered and what the journal says differ."""


class Skipped(Exception):  # noqa: N818 - it is no error
    """A stage cannot be measured on this machine; the text says why. No failure."""


class Bench:
    """What stages share. The engines of `installation` run; what else a stage needs it asks for here."""

    def __init__(self, installation: Installation, scale: Scale, folder: Path, say: Callable[[str], None]) -> None:
        self.installation = installation
        self.scale = scale
        #: For whatever a stage writes; gone when the run ends.
        self.folder = folder
        #: Prints one line of progress.
        self.say = say
        self.figures = Figures()
        self._populated = False
        self._serving: tuple[bool, dict[str, str]] | None = None

    @property
    def quick(self) -> bool:
        """Return whether this run is the short one."""
        return self.scale.name != FULL.name

    def populate(self) -> Installation:
        """Create the accounts of this run, once; return the installation."""
        if not self._populated:
            self.say(f"opening {self.scale.accounts:,} accounts with 6 lots each")
            self.installation.populate(
                self.scale.accounts, self.scale.terminals, relays=RELAYS, relay_terminals=RELAY_TERMINALS
            )
            self._populated = True
        return self.installation

    def serve(self, *, tls: bool = False, **settings: str) -> Installation:
        """Have the server running with these settings (and no others) on the accounts; return the installation."""
        self.populate()
        if self._serving != (tls, settings):
            self.stop_serving()
            self.installation.start_server(tls=tls, **settings)
            self._serving = (tls, settings)
        return self.installation

    def stop_serving(self) -> None:
        """Stop the server if it runs, so that only the engines are left."""
        if self._serving is not None:
            self._serving = None
            self.installation.stop_server()


class Stage(Protocol):
    """One part of the benchmark; it puts its figures into `bench.figures`.

    Raises Wrong when what was answered and what the journal says differ, Skipped when this machine lacks what it
    measures, and whatever it likes when it cannot work.
    """

    name: str

    def run(self, bench: Bench) -> None:
        """Measure."""


@dataclass(slots=True)
class Done:
    """What became of a stage; `error` is '' when nothing went wrong, `skipped` says why it was not measured here."""

    name: str
    seconds: float
    error: str = ""
    skipped: str = ""


@dataclass
class Run:
    """Stages, one after the other; one that fails stops none of the others."""

    bench: Bench
    done: list[Done] = field(default_factory=list)

    def run(self, stages: Iterable[Stage]) -> None:
        """Run the stages."""
        for stage in stages:
            self.bench.say(f"stage {stage.name}")
            began = time.perf_counter()
            done = Done(stage.name, 0.0)
            self.done.append(done)
            try:
                stage.run(self.bench)
            except Skipped as reason:
                done.skipped = str(reason)
                self.bench.say(f"stage {stage.name} skipped: {reason}")
            except Exception as error:  # noqa: BLE001 - whatever it is, the other stages have figures to bring
                done.error = f"{type(error).__name__}: {error}"
                self.bench.say(f"stage {stage.name} FAILED: {done.error}")
                # What it left behind is nobody's to build on.
                self.bench.stop_serving()
            done.seconds = round(time.perf_counter() - began, 2)
            self.bench.say(f"stage {stage.name} took {done.seconds:.1f} s")
