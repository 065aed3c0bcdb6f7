"""Faults of the lines between registers, server, engines and relay, and their names in the report."""

from __future__ import annotations

import random
from collections.abc import Callable

from tests.campaign.fault import Fault, Maker
from tests.campaign.proxy import Direction, Fate, Proxy
from tests.campaign.site import Site


class BadLines(Fault):
    """Lines through one of the proxies are cut or frozen in the middle of a frame, or bring nothing back."""

    lasts_s = (0.3, 4.0)

    def __init__(self, site: Site, dice: random.Random, proxy: Proxy, fate: Fate, direction: Direction) -> None:
        super().__init__(site, dice)
        self._proxy, self._fate, self._direction = proxy, fate, direction

    async def strike(self) -> None:
        share = self.dice.choice((0.3, 0.7, 1.0))
        self._proxy.harm(self._fate, self._direction, share)
        if self._fate is Fate.CUT:
            # Cut once, not for ever: a new line is a good one.
            self._proxy.everywhere.clear()

    async def mend(self) -> None:
        self._proxy.mend()


def _lines(touched: str, proxy: Callable[[Site], Proxy], fate: Fate, direction: Direction) -> Maker:
    kind = type("BadLines", (BadLines,), {"touches": touched})
    return lambda site, dice: kind(site, dice, proxy(site), fate, direction)


_PROXIES: tuple[tuple[str, str, Callable[[Site], Proxy]], ...] = (
    ("register lines", "registers", lambda site: site.registers),
    ("valkey lines", "valkey", lambda site: site.to_redis),
    ("postgres lines", "postgres", lambda site: site.to_postgres),
    ("relay line", "broker", lambda site: site.shop.line),
)
_FATES = (
    ("cut going up", Fate.CUT, Direction.UP),
    ("cut coming back", Fate.CUT, Direction.DOWN),
    ("frozen going up", Fate.FREEZE, Direction.UP),
    ("frozen coming back", Fate.FREEZE, Direction.DOWN),
    ("bring nothing back", Fate.DROP, Direction.DOWN),
)

LINE_FAULTS: dict[str, Maker] = {
    f"{name} {what}": _lines(touched, proxy, fate, direction)
    for name, touched, proxy in _PROXIES
    for what, fate, direction in _FATES
}
"""What can happen to each of the lines, by its name in the report."""
