"""One kind of fault: it strikes, lasts a while, and is mended where it does not mend itself."""

from __future__ import annotations

import contextlib
import os
import random
import signal
from collections.abc import Callable, Sequence
from typing import ClassVar

from tests.campaign.site import Site


class Fault:
    """One kind of fault. `touches`: what it breaks; two faults of one round break different things.

    `lasts_s`: from the strike to the mending, at random between the two. `clock_error_ms`: how wrong it may make the
    server's time of day.
    """

    touches: ClassVar[str]
    lasts_s: tuple[float, float] = (0.3, 1.5)
    clock_error_ms = 0

    def __init__(self, site: Site, dice: random.Random) -> None:
        self.site, self.dice = site, dice

    async def prepare(self) -> None:
        """Do what must be done while all is well."""

    async def strike(self) -> None:
        """Do the harm."""
        raise NotImplementedError

    async def mend(self) -> None:
        """Undo it, as far as it does not heal by itself."""


Maker = Callable[[Site, random.Random], Fault]


class Paused(Fault):
    """Processes that are stopped for a while and then run on, as if nothing had been."""

    async def strike(self) -> None:
        self._pids = self.pids()
        signal_all(self._pids, signal.SIGSTOP)

    async def mend(self) -> None:
        signal_all(self._pids, signal.SIGCONT)

    def pids(self) -> Sequence[int]:
        raise NotImplementedError


def signal_all(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
