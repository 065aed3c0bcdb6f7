"""How the ledger reaches PostgreSQL: single connections and a pool, made from one URL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

#: A connection keeps its statements, of which there are fewer than this, whatever their age: to close one, asyncpg asks
#: PostgreSQL, and waits without a limit.
_STATEMENTS: Mapping[str, int] = {"statement_cache_size": 1000, "max_cached_statement_lifetime": 0}


class Postgres:
    """A database by its URL. Both methods raise what asyncpg raises (see `ledger.journal.writer.DOWN`)."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def connect(self, *, timeout_s: float, settings: Mapping[str, str]) -> asyncpg.Connection:
        """Return a connection of its own with these settings; `timeout_s` bounds connecting and each command."""
        return await asyncpg.connect(
            self._url,
            timeout=timeout_s,
            command_timeout=timeout_s,
            **_STATEMENTS,
            server_settings=dict(settings),
        )

    async def pool(
        self,
        *,
        connections_max: int,
        timeout_s: float,
        application_name: str,
        settings: Mapping[str, str] | None = None,
    ) -> asyncpg.Pool:
        """Return a pool that connects when it is used; `timeout_s` bounds each connecting and each command."""
        return await asyncpg.create_pool(
            self._url,
            min_size=0,
            max_size=connections_max,
            timeout=timeout_s,
            command_timeout=timeout_s,
            **_STATEMENTS,
            server_settings={"application_name": application_name, **(settings or {})},
            reset=_leave_as_it_is,
        )


@asynccontextmanager
async def transaction(connection: asyncpg.Connection, **options: Any) -> AsyncIterator[None]:
    """Commit when the block ends well, else roll back; whoever is cancelled drops the connection without a word.

    asyncpg sends a ROLLBACK only when PostgreSQL has answered what was given up, which it may never do. The options are
    those of its `Connection.transaction`.
    """
    begun = connection.transaction(**options)
    try:
        await begun.start()
        try:
            yield
        except Exception:
            await begun.rollback()
            raise
        await begun.commit()
    except (asyncio.CancelledError, GeneratorExit):
        connection.terminate()
        raise


async def _leave_as_it_is(_connection: asyncpg.Connection) -> None:
    """Spare a round trip after every read: nobody who borrows a connection sets, locks or listens to anything."""
