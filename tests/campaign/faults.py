"""The faults that a round may draw: each strikes, lasts a while, and is mended where it does not mend itself."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
from asyncio import to_thread
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import asyncpg
import redis.asyncio as redis

from ledger.journal.writer import LOCK_CLASS
from tests.campaign import wrong_clock
from tests.campaign.proxy import Direction, Fate, Proxy
from tests.campaign.replica import Replica
from tests.campaign.site import Site

_MINUTE_MS = 60_000


class Fault:
    """One kind of fault. `touches`: what it breaks; two faults of one round break different things.

    `lasts_s`: from the strike to the mending, at random between the two. `clock_error_ms`: how wrong it may make the
    server's time of day.
    """

    touches: ClassVar[str]
    lasts_s: tuple[float, float] = (0.3, 1.5)
    clock_error_ms = 0

    def __init__(self, site: Site, dice: random.Random) -> None:
        self.site, self.dice = site, dice

    async def prepare(self) -> None:
        """Do what must be done while all is well."""

    async def strike(self) -> None:
        """Do the harm."""
        raise NotImplementedError

    async def mend(self) -> None:
        """Undo it, as far as it does not heal by itself."""


class _Paused(Fault):
    """Processes that are stopped for a while and then run on, as if nothing had been."""

    async def strike(self) -> None:
        self._pids = self.pids()
        _signal(self._pids, signal.SIGSTOP)

    async def mend(self) -> None:
        _signal(self._pids, signal.SIGCONT)

    def pids(self) -> Sequence[int]:
        raise NotImplementedError


class KillWorker(Fault):
    touches = "server"

    async def strike(self) -> None:
        _signal([self.dice.choice(self.site.workers())], signal.SIGKILL)


class PauseWorker(_Paused):
    touches = "server"
    lasts_s = (0.3, 4.0)

    def pids(self) -> Sequence[int]:
        return [self.dice.choice(self.site.workers())]


class PauseWorkerForLong(PauseWorker):
    """Longer than an owner may be silent: its partitions are taken over while it still believes that it has them."""

    lasts_s = (12.0, 15.0)


class PauseWorkerAndCutLines(PauseWorker):
    """What a paused worker has not read yet is read when it runs on, long after its registers asked elsewhere."""

    lasts_s = (1.5, 4.0)

    async def strike(self) -> None:
        await super().strike()
        # Long enough that a good part of the registers has a request there.
        await asyncio.sleep(0.4)
        self.site.registers.finish_all()


class KillAdmin(Fault):
    """Registers must notice nothing: neither that it is gone, nor that another one comes."""

    touches = "server"

    async def strike(self) -> None:
        _signal(self.site.admin(), signal.SIGKILL)


class PauseAdmin(_Paused):
    touches = "server"
    lasts_s = (0.3, 4.0)

    def pids(self) -> Sequence[int]:
        return self.site.admin()


class KillServer(Fault):
    touches = "server"

    async def strike(self) -> None:
        await to_thread(self.site.server.kill)

    async def mend(self) -> None:
        self.site.start_server()


class RestartServer(Fault):
    """An orderly drain under load, and a new start."""

    touches = "server"

    async def strike(self) -> None:
        await to_thread(self.site.server.end, (signal.SIGTERM, 20.0))

    async def mend(self) -> None:
        self.site.start_server()


class PauseServer(_Paused):
    touches = "server"
    lasts_s = (0.3, 4.0)

    def pids(self) -> Sequence[int]:
        return [self.site.server.pid, *self.site.workers()]


class PauseServerForLong(PauseServer):
    lasts_s = (12.0, 15.0)


class KillValkey(Fault):
    touches = "valkey"

    async def strike(self) -> None:
        await to_thread(self.site.valkey.kill)

    async def mend(self) -> None:
        await to_thread(self.site.valkey.start)


class PauseValkey(Fault):
    touches = "valkey"
    lasts_s = (0.3, 5.0)

    async def strike(self) -> None:
        self.site.valkey.pause()

    async def mend(self) -> None:
        self.site.valkey.resume()


class FlushValkey(Fault):
    touches = "valkey"

    async def strike(self) -> None:
        async with redis.Redis.from_url(self.site.valkey.url) as client:
            await client.flushall()


class RollValkeyBack(Fault):
    """It dies and comes back with what its disk held some time before."""

    touches = "valkey"

    async def prepare(self) -> None:
        self._files = self.site.valkey.folder / "appendonlydir"
        self._copy = self.site.folder / "older"
        await to_thread(shutil.copytree, self._files, self._copy)

    async def strike(self) -> None:
        await to_thread(self.site.valkey.kill)
        await to_thread(shutil.rmtree, self._files)
        await to_thread(self._copy.rename, self._files)

    async def mend(self) -> None:
        await to_thread(self.site.valkey.start)


class PromoteReplica(Fault):
    """A replica that has not heard the last of its primary takes its place."""

    touches = "valkey"

    async def prepare(self) -> None:
        self._replica = Replica(self.site)
        await self._replica.follow()
        self._replica.lag()

    async def strike(self) -> None:
        await self._replica.promote()

    async def mend(self) -> None:
        self._replica.forget_primary()


class KillPostgres(Fault):
    touches = "postgres"

    async def strike(self) -> None:
        await to_thread(self.site.postgres.kill)

    async def mend(self) -> None:
        await to_thread(self.site.postgres.start)


class StopPostgresImmediately(Fault):
    touches = "postgres"

    async def strike(self) -> None:
        _signal([self.site.postgres.pid], signal.SIGQUIT)

    async def mend(self) -> None:
        await to_thread(self.site.postgres.stop)
        await to_thread(self.site.postgres.start)


class PausePostgres(Fault):
    touches = "postgres"
    lasts_s = (0.3, 7.0)

    async def strike(self) -> None:
        self.site.postgres.pause()

    async def mend(self) -> None:
        self.site.postgres.resume()


class EndSessions(Fault):
    """The sessions of the writers end, and with them their locks."""

    touches = "postgres"

    async def strike(self) -> None:
        async with self.site.database() as connection:
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND classid = $1",
                LOCK_CLASS,
            )


class RefuseConnections(Fault):
    """PostgreSQL lives, ends all sessions and lets nobody in."""

    touches = "postgres"
    lasts_s = (0.5, 4.0)

    async def strike(self) -> None:
        async with _administration(self.site) as connection:
            await connection.execute("ALTER DATABASE tillwire WITH ALLOW_CONNECTIONS false")
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'tillwire'"
            )

    async def mend(self) -> None:
        async with _administration(self.site) as connection:
            await connection.execute("ALTER DATABASE tillwire WITH ALLOW_CONNECTIONS true")


class FillDisk(Fault):
    touches = "postgres"
    lasts_s = (0.5, 4.0)

    async def strike(self) -> None:
        await to_thread(self.site.disk.fill)

    async def mend(self) -> None:
        await to_thread(self.site.disk.free)
        # A server that could not even write down its own recovery has given up; the next start does it.
        await to_thread(self.site.postgres.start)


class SlowFsync(Fault):
    """Every commit waits a tenth of a second before it is written out, which is the longest PostgreSQL can be told."""

    touches = "postgres"
    lasts_s = (1.0, 4.0)

    async def strike(self) -> None:
        await self._set("SET commit_delay = 100000", "SET commit_siblings = 0")

    async def mend(self) -> None:
        await self._set("RESET commit_delay", "RESET commit_siblings")

    async def _set(self, *changes: str) -> None:
        async with self.site.database() as connection:
            for change in changes:
                await connection.execute(f"ALTER SYSTEM {change}")
            await connection.execute("SELECT pg_reload_conf()")


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


class PauseRelay(_Paused):
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


class WrongClock(Fault):
    """The server's time of day jumps, and later jumps back."""

    touches = "clock"
    lasts_s = (0.5, 3.0)
    clock_error_ms = 121 * _MINUTE_MS
    _JUMPS_MS = tuple(sign * ms for sign in (-1, 1) for ms in (5_000, 20 * _MINUTE_MS, 120 * _MINUTE_MS))

    async def strike(self) -> None:
        wrong_clock.set_offset(self.site.clock_file, self.dice.choice(self._JUMPS_MS))

    async def mend(self) -> None:
        wrong_clock.set_offset(self.site.clock_file, 0)


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


Maker = Callable[[Site, random.Random], Fault]

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

FAULTS: dict[str, Maker] = {
    "worker killed": KillWorker,
    "worker paused": PauseWorker,
    "worker paused and lines cut": PauseWorkerAndCutLines,
    "worker paused for long": PauseWorkerForLong,
    "admin killed": KillAdmin,
    "admin paused": PauseAdmin,
    "server killed": KillServer,
    "server restarted": RestartServer,
    "server paused": PauseServer,
    "server paused for long": PauseServerForLong,
    "valkey killed": KillValkey,
    "valkey paused": PauseValkey,
    "valkey flushed": FlushValkey,
    "valkey rolled back": RollValkeyBack,
    "lagging replica promoted": PromoteReplica,
    "postgres killed": KillPostgres,
    "postgres stopped immediately": StopPostgresImmediately,
    "postgres paused": PausePostgres,
    "postgres sessions ended": EndSessions,
    "postgres refuses": RefuseConnections,
    "postgres disk full": FillDisk,
    "postgres fsync slow": SlowFsync,
    "clock jumps": WrongClock,
    "broker killed": KillBroker,
    "broker restarted": RestartBroker,
    "broker paused": PauseBroker,
    "relay killed": KillRelay,
    "relay killed while alone": KillRelayAlone,
    "relay restarted": RestartRelay,
    "relay paused": PauseRelay,
    "relay disk full": FillRelaysDisk,
    **{
        f"{name} {what}": _lines(touched, proxy, fate, direction)
        for name, touched, proxy in _PROXIES
        for what, fate, direction in _FATES
    },
}
"""Every kind of fault by its name in the report."""


@asynccontextmanager
async def _administration(site: Site) -> AsyncIterator[asyncpg.Connection[Any]]:
    connection = await asyncpg.connect(site.postgres.url_of("postgres"))
    try:
        yield connection
    finally:
        await connection.close()


def _signal(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
