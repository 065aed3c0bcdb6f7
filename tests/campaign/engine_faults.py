"""Faults of the engines: Valkey dies or forgets, PostgreSQL dies, refuses, is slow or has no room."""

from __future__ import annotations

import shutil
import signal
from asyncio import to_thread
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import redis.asyncio as redis

from ledger.journal.writer import LOCK_CLASS
from tests.campaign.fault import Fault, signal_all
from tests.campaign.replica import Replica
from tests.campaign.site import Site


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
        signal_all([self.site.postgres.pid], signal.SIGQUIT)

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


@asynccontextmanager
async def _administration(site: Site) -> AsyncIterator[asyncpg.Connection[Any]]:
    connection = await asyncpg.connect(site.postgres.url_of("postgres"))
    try:
        yield connection
    finally:
        await connection.close()
