"""A clock that tells the time of day and never jumps, for everything that is measured while a register is connected."""

from __future__ import annotations

from ledger.clock import Clock

# A wrong wall clock is followed at a tenth of the speed of time, so that no deadline fires early because of it.
_SLEW = 0.1


class SteadyClock:
    """Milliseconds since 1970 by the monotonic clock; `follow` lets it drift towards the wall clock."""

    __slots__ = ("_clock", "_followed", "_offset")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._followed = clock.monotonic_s()
        self._offset = clock.now_ms() / 1000 - self._followed

    def now_ms(self) -> int:
        """Return the time in milliseconds since 1970; never less than a moment before."""
        return int((self._clock.monotonic_s() + self._offset) * 1000)

    def follow(self) -> None:
        """Move towards the wall clock, as far as is allowed since the last call."""
        now = self._clock.monotonic_s()
        step_max = (now - self._followed) * _SLEW
        self._followed = now
        wrong = self._clock.now_ms() / 1000 - (now + self._offset)
        self._offset += max(-step_max, min(step_max, wrong))
