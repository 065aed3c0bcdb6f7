"""How often somebody may ask: a bucket of tokens for each caller, in memory, for a bounded number of callers."""

from __future__ import annotations

import ipaddress
import math
from collections import OrderedDict

from ledger.clock import Clock

_MINUTE_S = 60.0
_IPV6_SITE_BITS = 64


def caller_at(address: str) -> str:
    """Return whom an address stands for: with IPv6 a site has a whole network of them."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is None:
        return str(ipaddress.ip_network((parsed, _IPV6_SITE_BITS), strict=False))
    return address


class Buckets:
    """Lets every caller ask `per_minute_max` times a minute, all at once or spread out.

    Of more than `callers_max` callers the one that was silent the longest is forgotten, and has a full bucket again.
    """

    def __init__(self, clock: Clock, *, per_minute_max: int, callers_max: int) -> None:
        self._clock = clock
        self._capacity = float(per_minute_max)
        self._per_s = per_minute_max / _MINUTE_S
        self._callers_max = callers_max
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, caller: str) -> int:
        """Take a token and return 0, or return in how many whole seconds there will be one."""
        level = self._level(caller)
        wait_s = self._wait_s(level)
        self._put(caller, level if wait_s else level - 1)
        return wait_s

    def look(self, caller: str) -> int:
        """Return what `take` would, and take nothing."""
        return self._wait_s(self._level(caller))

    def _level(self, caller: str) -> float:
        level, at_s = self._levels.get(caller, (self._capacity, 0.0))
        return min(self._capacity, level + (self._clock.monotonic_s() - at_s) * self._per_s)

    def _wait_s(self, level: float) -> int:
        return 0 if level >= 1 else max(1, math.ceil((1 - level) / self._per_s))

    def _put(self, caller: str, level: float) -> None:
        self._levels[caller] = (level, self._clock.monotonic_s())
        self._levels.move_to_end(caller)
        while len(self._levels) > self._callers_max:
            self._levels.popitem(last=False)
