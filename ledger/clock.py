"""Time, given to the ledger and the process around it, so that a test or a simulation can give another."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Two clocks: one tells the time of day, the other one measures."""

    def now_ms(self) -> int:
        """Return the time of day in milliseconds since 1970 UTC; it may jump."""

    def monotonic_s(self) -> float:
        """Return seconds since some moment; never jumps. Deadlines of submissions are told by it."""


class SystemClock:
    """The machine's clocks; the second one is the same in all processes of the machine."""

    monotonic_s = staticmethod(time.monotonic)

    def now_ms(self) -> int:
        """Return the time of day in milliseconds since 1970 UTC."""
        return time.time_ns() // 1_000_000
