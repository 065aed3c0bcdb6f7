"""How many partitions the accounts have; it can change while no worker runs, because Redis can be rebuilt at will."""

from __future__ import annotations

import asyncio

import asyncpg

from ledger.journal.postgres import Postgres, transaction
from ledger.journal.writer import DOWN, LOCK_CLASS, JournalDown

_TIMEOUT_S = 30.0


class WorkersRunning(Exception):  # noqa: N818 - it says what is the matter
    """The number of partitions cannot change while workers own some of them."""


class NotMigrated(Exception):  # noqa: N818 - it says what is the matter
    """The database has none of the tables."""


async def ensure_partitions(postgres: Postgres, count: int, *, timeout_s: float = _TIMEOUT_S) -> bool:
    """Bring the number of partitions to `count`; return whether it was changed.

    A change voids what Redis remembers, because accounts move between partitions. Raises WorkersRunning when that is
    needed while a worker holds a partition, NotMigrated and JournalDown.
    """
    try:
        # One bound for all of it: a PostgreSQL that hangs in the middle must not hold a starting worker for ever.
        async with asyncio.timeout(timeout_s):
            connection = await postgres.connect(
                timeout_s=timeout_s, settings={"application_name": "tillwire-partitions"}
            )
            try:
                return await _change(connection, count)
            finally:
                await connection.close()
    except asyncpg.UndefinedTableError as error:
        raise NotMigrated("the database has no tables: run `tillwire migrate`") from error
    except DOWN as error:
        raise JournalDown(str(error)) from error


async def _change(connection: asyncpg.Connection, count: int) -> bool:
    async with transaction(connection):
        before = await connection.fetchval("SELECT partitions FROM programme FOR UPDATE")
        if before == count:
            return False
        for partition in range(before):
            if not await connection.fetchval("SELECT pg_try_advisory_xact_lock($1, $2)", LOCK_CLASS, partition):
                raise WorkersRunning(f"workers are running with {before} partitions; stop them to have {count}")
        await connection.execute("UPDATE programme SET partitions = $1", count)
        # Rows of partitions no longer used stay, and void what Redis may remember of them.
        await connection.execute(
            "UPDATE partition SET generation = another_generation(generation), owner = '', wanted_by = ''"
        )
        await connection.execute(
            "INSERT INTO partition (partition_id) SELECT generate_series(0, $1::integer - 1) ON CONFLICT DO NOTHING",
            count,
        )
        return True
