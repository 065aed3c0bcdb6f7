"""Headquarters' time, as the store's own computer can tell it whatever its wall clock says."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ledger.clock import Clock

#: How far headquarters' clock may seem to have moved until it is noted at once, and otherwise after how long.
_MOVED_MS = 1_000
_KEPT_FOR_MS = 60_000


class KeptClock(NamedTuple):
    """What is remembered over a restart: how far headquarters was ahead of the wall clock, and its time then (ms)."""

    ahead_ms: int
    server_ms: int


class LineClock:
    """`ledger.clock.Clock` by headquarters' time; durations are measured by the monotonic clock alone.

    Until headquarters is heard, its time is the wall clock and what was remembered of the difference. A wall clock that
    shows less than headquarters' last time was set back meanwhile: then headquarters' time is not known, only that it
    is later than then.
    """

    def __init__(self, clock: Clock, kept: KeptClock | None, keep: Callable[[KeptClock], None]) -> None:
        """Take this computer's clocks, what was remembered, and whom to tell what to remember."""
        self._clock = clock
        self._keep = keep
        self._ahead_ms: int | None = None
        self._kept_ms = 0
        self._least_ahead_ms: int | None = None
        self.monotonic_s = clock.monotonic_s
        if kept is not None:
            self._least_ahead_ms = kept.server_ms - self.monotonic_ms()
        if kept is not None and clock.now_ms() + kept.ahead_ms >= kept.server_ms:
            self._ahead_ms = clock.now_ms() + kept.ahead_ms - self.monotonic_ms()

    def monotonic_ms(self) -> int:
        """Return milliseconds of the clock that does not jump."""
        return int(self.monotonic_s() * 1_000)

    def heard(self, server_ms: int) -> None:
        """Take headquarters' time, which it is now, or was a moment ago."""
        ahead_ms = server_ms - self.monotonic_ms()
        moved = self._ahead_ms is None or abs(ahead_ms - self._ahead_ms) > _MOVED_MS
        self._ahead_ms = ahead_ms
        if moved or server_ms - self._kept_ms >= _KEPT_FOR_MS:
            self._kept_ms = server_ms
            self._keep(KeptClock(server_ms - self._clock.now_ms(), server_ms))

    def server_now_ms(self) -> int | None:
        """Return headquarters' time in ms since 1970 UTC, None while it is not known."""
        return None if self._ahead_ms is None else self.monotonic_ms() + self._ahead_ms

    def now_ms(self) -> int:
        """Return headquarters' time; while that is not known the wall clock's, unless that is certainly too early.

        A computer without a battery begins at 1970, and points earned then would have expired long ago.
        """
        known = self.server_now_ms()
        if known is not None:
            return known
        wall_ms, ahead_ms = self._clock.now_ms(), self._least_ahead_ms
        return wall_ms if ahead_ms is None else max(wall_ms, self.monotonic_ms() + ahead_ms)
