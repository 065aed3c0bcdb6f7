"""The real time, moved ahead."""

from __future__ import annotations

from ledger.clock import Clock


class MovedClock:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.ahead_s = 0

    def now_ms(self) -> int:
        return self._clock.now_ms() + self.ahead_s * 1_000

    def monotonic_s(self) -> float:
        return self._clock.monotonic_s() + self.ahead_s
