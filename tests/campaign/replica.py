"""A second Valkey that follows the first, falls behind, and takes its place."""

from __future__ import annotations

import asyncio
from typing import Any

import redis.asyncio as redis

from tests.campaign.proxy import LOOPBACK, Direction, Fate
from tests.campaign.site import Site

_SYNC_TIMEOUT_S = 30.0
_POLL_S = 0.05


class Replica:
    """The site's spare Valkey in its part as replica."""

    def __init__(self, site: Site) -> None:
        self._site = site

    async def follow(self) -> None:
        """Start it and wait until it has all that the primary has."""
        site = self._site
        await asyncio.to_thread(site.spare.start)
        site.to_primary.target_port = site.valkey.port
        password = (site.valkey.folder / "password").read_text().strip()
        await self._tell("CONFIG", "SET", "masterauth", password)
        await self._tell("REPLICAOF", LOOPBACK, str(site.to_primary.port))
        async with asyncio.timeout(_SYNC_TIMEOUT_S):
            while (await self._tell("INFO", "replication"))["master_link_status"] != "up":
                await asyncio.sleep(_POLL_S)

    def lag(self) -> None:
        """Let it hear nothing more."""
        self._site.to_primary.harm(Fate.FREEZE, Direction.DOWN, 1)

    async def promote(self) -> None:
        """Kill the primary and put the replica where the workers find it."""
        site = self._site
        await asyncio.to_thread(site.valkey.kill)
        await self._tell("REPLICAOF", "NO", "ONE")
        site.valkey, site.spare = site.spare, site.valkey
        site.to_redis.target_port = site.valkey.port
        site.to_redis.cut_all()

    def forget_primary(self) -> None:
        """End what is left of the line between the two."""
        self._site.to_primary.mend()
        self._site.to_primary.cut_all()

    async def _tell(self, *words: str) -> Any:
        async with redis.Redis.from_url(self._site.spare.url) as client:
            return await client.execute_command(*words)
