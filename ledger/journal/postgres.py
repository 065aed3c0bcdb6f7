"""How the ledger reaches PostgreSQL: single connections and a pool, made from one URL."""

from __future__ import annotations

from collections.abc import Mapping

import asyncpg


class Postgres:
    """A database by its URL. Both methods raise what asyncpg raises (see `ledger.journal.writer.DOWN`)."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def connect(self, *, timeout_s: float, settings: Mapping[str, str]) -> asyncpg.Connection:
        """Return a connection of its own, with these settings of the session."""
        return await asyncpg.connect(self._url, timeout=timeout_s, server_settings=dict(settings))

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
            server_settings={"application_name": application_name, **(settings or {})},
            reset=_leave_as_it_is,
        )


async def _leave_as_it_is(_connection: asyncpg.Connection) -> None:
    """Spare a round trip after every read: nobody who borrows a connection sets, locks or listens to anything."""
