"""A clock that tells the time of day and never jumps, for everything that is measured while a register is connected."""

from __future__ import annotations

import time
from collections.abc import Callable

# A wrong wall clock is followed at a tenth of the speed of time, so that no deadline fires early because of it.
_SLEW = 0.1


class SteadyClock:
    """Milliseconds since 1970 by the monotonic clock; `follow` lets it drift towards the wall clock."""

    __slots__ = ("_followed", "_monotonic", "_offset", "_wall")

    def __init__(self, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Take the two clocks, both in seconds."""
        self._wall = wall
        self._monotonic = monotonic
        self._followed = monotonic()
        self._offset = wall() - self._followed

    def now_ms(self) -> int:
        """Return the time in milliseconds since 1970; never less than a moment before."""
        return int((self._monotonic() + self._offset) * 1000)

    def follow(self) -> None:
        """Move towards the wall clock, as far as is allowed since the last call."""
        now = self._monotonic()
        step_max = (now - self._followed) * _SLEW
        self._followed = now
        wrong = self._wall() - (now + self._offset)
        self._offset += max(-step_max, min(step_max, wrong))
