"""Keeps a flood of bad connections from becoming a flood of log lines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from structlog.typing import FilteringBoundLogger


class LogBudget:
    """Lets so many lines through per second and says how many it kept back."""

    __slots__ = ("_clock", "_left", "_lines_per_second", "_log", "_suppressed", "_window")

    def __init__(self, log: FilteringBoundLogger, clock: Callable[[], float], lines_per_second: int = 20) -> None:
        """Take the log and a monotonic clock in seconds."""
        self._log = log
        self._clock = clock
        self._lines_per_second = lines_per_second
        self._window = int(clock())
        self._left = lines_per_second
        self._suppressed = 0

    def warning(self, event: str, **facts: Any) -> None:
        """Log a warning if the second's budget allows it."""
        window = int(self._clock())
        if window != self._window:
            if self._suppressed:
                self._log.warning("log lines suppressed", count=self._suppressed)
            self._window = window
            self._left = self._lines_per_second
            self._suppressed = 0
        if self._left:
            self._left -= 1
            self._log.warning(event, **facts)
        else:
            self._suppressed += 1
