"""Faults of a shop with a relay: its broker, the relay, and the relay's disk."""

from __future__ import annotations

import asyncio
import signal
from asyncio import to_thread
from collections.abc import Sequence

from tests.campaign.fault import Fault, Paused


class KillBroker(Fault):
    """Long enough, mostly, that the relay knows that it is alone."""

    touches = "broker"
    lasts_s = (1.0, 7.0)

    async def strike(self) -> None:
        await to_thread(self.site.shop.broker.kill)

    async def mend(self) -> None:
        await to_thread(self.site.shop.broker.start)


class RestartBroker(KillBroker):
    lasts_s = (0.0, 0.2)

    async def strike(self) -> None:
        await to_thread(self.site.shop.broker.stop)


class PauseBroker(Fault):
    touches = "broker"
    lasts_s = (0.5, 9.0)

    async def strike(self) -> None:
        self.site.shop.broker.pause()

    async def mend(self) -> None:
        self.site.shop.broker.resume()


class KillRelay(Fault):
    touches = "relay"
    lasts_s = (0.1, 2.0)

    async def strike(self) -> None:
        await to_thread(self.site.shop.kill_relay)

    async def mend(self) -> None:
        self.site.shop.start_relay()


class KillRelayAlone(Fault):
    """It dies in the middle of what it answers without headquarters, and comes back before headquarters does."""

    touches = "broker"
    lasts_s = (1.0, 3.0)

    async def strike(self) -> None:
        await to_thread(self.site.shop.broker.kill)
        await asyncio.sleep(self.dice.uniform(2.0, 5.0))
        await to_thread(self.site.shop.kill_relay)
        await asyncio.sleep(self.dice.uniform(0.0, 1.0))
        self.site.shop.start_relay()

    async def mend(self) -> None:
        await to_thread(self.site.shop.broker.start)


class RestartRelay(KillRelay):
    async def strike(self) -> None:
        await to_thread(self.site.shop.relay.end, (signal.SIGTERM, 20.0))


class PauseRelay(Paused):
    touches = "relay"
    lasts_s = (0.5, 6.0)

    def pids(self) -> Sequence[int]:
        return [self.site.shop.relay.pid]


class FillRelaysDisk(Fault):
    """The relay cannot write while it is alone: then it must approve nothing."""

    touches = "broker"
    lasts_s = (1.0, 4.0)

    async def strike(self) -> None:
        await to_thread(self.site.shop.broker.kill)
        await asyncio.sleep(self.dice.uniform(1.0, 4.0))
        self.site.shop.start_relay()
        await to_thread(self.site.shop.disk.fill)

    async def mend(self) -> None:
        await to_thread(self.site.shop.disk.free)
        self.site.shop.start_relay()
        await to_thread(self.site.shop.broker.start)
