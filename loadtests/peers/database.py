"""A database of a peer's own in the server that Tillwire uses: the same durability, and no table in common."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg

_SCHEMA = Path(__file__).with_name("schema.sql")
#: What every account has at first (schema.sql).
FIRST_BALANCE = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Booked:
    """What the database says was done: entries, their points, and what is missing from the accounts' first balances."""

    entries: int
    points: int
    missing_from_balances: int


@dataclass(frozen=True, slots=True)
class PeerDatabase:
    """A database with the peers' schema and so many accounts, numbered from 1."""

    url: str
    accounts: int

    async def booked(self) -> Booked:
        """Count what was done."""
        connection: Any = await asyncpg.connect(self.url)
        try:
            entries = await connection.fetchrow(
                "SELECT count(*) AS n, coalesce(sum(points), 0)::bigint AS p FROM entry"
            )
            balances = await connection.fetchval("SELECT sum($1 - balance)::bigint FROM account", FIRST_BALANCE)
        finally:
            await connection.close()
        return Booked(entries["n"], entries["p"], balances)


@asynccontextmanager
async def peer_database(
    server_url: str, name: str, accounts: int, further_sql: str = ""
) -> AsyncIterator[PeerDatabase]:
    """Create the database beside the one of the URL, with `further_sql` behind the schema; drop it afterwards."""
    parts = urlsplit(server_url)
    url = urlunsplit(parts._replace(path=f"/{name}"))
    await _execute(server_url, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
    await _execute(server_url, f'CREATE DATABASE "{name}"')
    try:
        await _execute(url, _SCHEMA.read_text("utf-8").replace(":accounts", str(accounts)) + further_sql)
        await _execute(url, "VACUUM (ANALYZE)")
        # What is measured is not the writing of what was created just now.
        await _execute(url, "CHECKPOINT")
        yield PeerDatabase(url, accounts)
    finally:
        await _execute(server_url, f'DROP DATABASE "{name}" WITH (FORCE)')


async def _execute(url: str, sql: str) -> None:
    connection: Any = await asyncpg.connect(url)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()
