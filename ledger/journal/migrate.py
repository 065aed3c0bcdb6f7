"""Forward-only migrations: numbered SQL files, each applied once in a transaction, safe to start in parallel."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from importlib import resources

import asyncpg

from ledger.journal.writer import DOWN, JournalDown

_LOCK_KEY = 7411_0001
_POLL_S = 0.1
# Whoever waits for a table lets everybody who comes later wait behind him: registers, for as long as an export runs.
_LOCK_WAIT_MS = 500
_LOCK_PAUSE_S = 1.0

_TABLE = """
CREATE TABLE IF NOT EXISTS migration (
    number integer PRIMARY KEY,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)"""


class MigrationError(Exception):
    """The database and the migrations of this release do not fit together; the text says how."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file of ledger/sql/migrations."""

    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """Return the SHA-256 of the text, in hex."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def available() -> list[Migration]:
    """Return the migrations of this release in order."""
    folder = resources.files("ledger").joinpath("sql", "migrations")
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".sql")), key=lambda f: f.name)
    return [Migration(int(f.name[:4]), f.name, f.read_text("utf-8")) for f in files]


async def run(postgres_url: str) -> list[str]:
    """Bring the database to this release; return the names of the migrations applied now.

    Raises MigrationError when PostgreSQL cannot be reached, or when an applied migration differs from its file or comes
    from a later release.
    """
    try:
        connection = await asyncpg.connect(postgres_url)
    except (*DOWN, asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError) as error:
        raise MigrationError(f"PostgreSQL cannot be used: {error}") from error
    try:
        # A blocking lock would deadlock with CREATE INDEX CONCURRENTLY in a parallel starter, so the lock is polled.
        while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK_KEY):  # noqa: ASYNC110
            await asyncio.sleep(_POLL_S)
        await connection.execute(_TABLE)
        applied = {r["number"]: r["checksum"] for r in await connection.fetch("SELECT number, checksum FROM migration")}
        for migration in _pending(applied):
            await _apply(connection, migration)
        return [migration.name for migration in _pending(applied)]
    finally:
        await connection.close()


async def lacking(postgres_url: str) -> list[str]:
    """Return the names of the migrations that the database has not had yet. Raises MigrationError and JournalDown."""
    try:
        connection = await asyncpg.connect(postgres_url)
        try:
            known = await connection.fetchval("SELECT to_regclass('migration')")
            rows = await connection.fetch("SELECT number, checksum FROM migration") if known else []
        finally:
            await connection.close()
    except DOWN as error:
        raise JournalDown(str(error)) from error
    return [migration.name for migration in _pending({row["number"]: row["checksum"] for row in rows})]


def _pending(applied: dict[int, str]) -> list[Migration]:
    migrations = available()
    unknown = sorted(applied.keys() - {m.number for m in migrations})
    if unknown:
        raise MigrationError(
            f"the database has migration {unknown[0]}, which this release does not know: upgrade Tillwire"
        )
    for migration in migrations:
        if applied.get(migration.number, migration.checksum) != migration.checksum:
            raise MigrationError(f"{migration.name} was changed after it had been applied to this database")
    return [m for m in migrations if m.number not in applied]


async def _apply(connection: asyncpg.Connection, migration: Migration) -> None:
    """Apply a migration as soon as it can have its tables without making others wait for those who have them."""
    while True:
        try:
            async with connection.transaction():
                await connection.execute(f"SET LOCAL lock_timeout = {_LOCK_WAIT_MS}")
                await connection.execute(migration.sql)
                await connection.execute(
                    "INSERT INTO migration (number, name, checksum) VALUES ($1, $2, $3)",
                    migration.number,
                    migration.name,
                    migration.checksum,
                )
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
            await asyncio.sleep(_LOCK_PAUSE_S)
        else:
            return
