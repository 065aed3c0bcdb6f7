"""When a partition that lost Redis may go back to it: not before Redis has answered steadily for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from ledger.clock import Clock
from ledger.hot_store import HotStoreDown
from ledger.limits import Limits


class RedisWatch:
    """What one partition knows of Redis. A frozen one costs its time-out once, a flapping one ever less often."""

    def __init__(self, probe: Callable[[], Awaitable[None]], clock: Clock, limits: Limits) -> None:
        """Take a call that raises HotStoreDown unless Redis could be decided in."""
        self.away = False
        self._probe = probe
        self._clock = clock
        self._limits = limits
        self._back_at: float | None = None
        self._steady_s = limits.redis_steady_s

    def lost(self) -> None:
        """Take note that Redis did not answer; one that was back for a short time only has to be steady for longer."""
        limits = self._limits
        if self._back_at is None or self._clock.monotonic_s() - self._back_at > limits.redis_steady_max_s:
            self._steady_s = limits.redis_steady_s
        else:
            self._steady_s = min(2 * self._steady_s, limits.redis_steady_max_s)
        self.away = True

    async def until_back(self) -> None:
        """Ask again and again; return when Redis has answered for long enough."""
        steady_since: float | None = None
        while True:
            await asyncio.sleep(self._limits.redis_probe_interval_s)
            try:
                await self._probe()
            except HotStoreDown:
                steady_since = None
                continue
            now = self._clock.monotonic_s()
            steady_since = now if steady_since is None else steady_since
            if now - steady_since >= self._steady_s:
                self.away, self._back_at = False, now
                return
