"""Bytes that the engines have written to files, as the kernel counts them for their processes."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import asyncpg
import redis

from loadtests.processor_time import descendants

_WRITTEN = re.compile(r"^write_bytes: (\d+)$", re.MULTILINE)
_PARENT = re.compile(r"^PPid:\t(\d+)$", re.MULTILINE)


class Disk:
    """What PostgreSQL and Redis on this machine write; they are found through what they say themselves."""

    def __init__(self, postgres_url: str, redis_url: str) -> None:
        with redis.Redis.from_url(redis_url) as client:
            told: Any = client.info("server")
        self._pids = (asyncio.run(_postmaster(postgres_url)), int(told["process_id"]))

    def written_bytes(self) -> int:
        """Return how much their processes have written so far; those that have ended count with their parents."""
        return sum(_written(pid) for root in self._pids for pid in (root, *descendants(root)))


async def _postmaster(url: str) -> int:
    """Return the process under which all of PostgreSQL's live: the parent of ours."""
    connection: Any = await asyncpg.connect(url)
    try:
        return _parent(await connection.fetchval("SELECT pg_backend_pid()"))
    finally:
        await connection.close()


def _parent(pid: int) -> int:
    found = _PARENT.search(Path(f"/proc/{pid}/status").read_text())
    if found is None:
        raise RuntimeError("PostgreSQL does not run on this machine")
    return int(found[1])


def _written(pid: int) -> int:
    try:
        found = _WRITTEN.search(Path(f"/proc/{pid}/io").read_text())
    except OSError:
        return 0
    return int(found[1]) if found else 0
