"""Migrations and the number of partitions: safe to start in parallel, and never backwards."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import asyncpg
import pytest

from ledger.journal import migrate
from ledger.journal.migrate import Migration, MigrationError
from ledger.journal.partitioning import WorkersRunning, ensure_partitions
from ledger.journal.postgres import Postgres
from ledger.operations import Operation, Outcome
from tests.rigs.ledger_rig import LIMITS, Rig


async def test_parallel_starters_migrate_once(empty_postgres_url: str) -> None:
    applied = await asyncio.gather(*(migrate.run(empty_postgres_url) for _ in range(5)))
    names = [migration.name for migration in migrate.available()]
    assert sorted(map(len, applied)) == [0, 0, 0, 0, len(names)]
    assert await migrate.run(empty_postgres_url) == []


async def test_a_migration_changed_after_it_was_applied_is_refused(
    empty_postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await migrate.run(empty_postgres_url)
    changed = [replace(each, sql=each.sql + "\n-- changed") for each in migrate.available()]
    monkeypatch.setattr(migrate, "available", lambda: changed)
    with pytest.raises(MigrationError, match="was changed after"):
        await migrate.run(empty_postgres_url)


async def test_a_database_of_a_later_release_is_refused(empty_postgres_url: str) -> None:
    await migrate.run(empty_postgres_url)
    connection = await asyncpg.connect(empty_postgres_url)
    await connection.execute("INSERT INTO migration (number, name, checksum) VALUES (9000, '9000_later.sql', 'x')")
    await connection.close()
    with pytest.raises(MigrationError, match="migration 9000"):
        await migrate.run(empty_postgres_url)


async def test_a_migration_that_fails_leaves_nothing_behind(
    empty_postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = migrate.available()
    broken = Migration(8000, "8000_broken.sql", "CREATE TABLE half (x int); SELECT 1 / 0;")
    with monkeypatch.context() as patched:
        patched.setattr(migrate, "available", lambda: [*known, broken])
        with pytest.raises(asyncpg.DivisionByZeroError):
            await migrate.run(empty_postgres_url)
    connection = await asyncpg.connect(empty_postgres_url)
    assert await connection.fetchval("SELECT to_regclass('half')") is None
    await connection.close()
    assert await migrate.run(empty_postgres_url) == []


async def test_where_there_is_no_database_a_sentence_says_so(new_database: Callable[[], str]) -> None:
    with pytest.raises(MigrationError, match="cannot be used"):
        await migrate.run(new_database() + "_not")


# ---- partitions


async def generations(rig: Rig) -> list[int]:
    async with rig.database() as connection:
        rows = await connection.fetch("SELECT generation FROM partition ORDER BY partition_id")
    return [row["generation"] for row in rows]


async def test_changing_the_number_of_partitions_keeps_every_point(postgres_url: str, valkey_url: str) -> None:
    """Each account lives elsewhere afterwards; what Redis remembers there from an earlier time must not come back."""
    rig = Rig(postgres_url, valkey_url)
    await rig.prepare(cards=6)
    async with rig.ledger() as ledger:
        for card in range(6):
            await rig.give(ledger, card, 1000)
    left = 1000
    for count in (3, 1, 2, 3, 1):
        assert await ensure_partitions(Postgres(postgres_url), count)
        async with rig.ledger(replace(LIMITS, partitions=count)) as ledger:
            assert {await rig.available(ledger, card) for card in range(6)} == {left}
            spent = [await rig.do(ledger, Operation.REDEEM, card, points=100) for card in range(6)]
            assert {reply.outcome for reply in spent} == {Outcome.APPROVED}
            left -= 100
    assert (await rig.verify()).entries == 36


async def test_a_change_of_partitions_leaves_no_generation_as_it_was(postgres_url: str, valkey_url: str) -> None:
    rig = Rig(postgres_url, valkey_url)
    await rig.prepare(cards=1)
    before = await generations(rig)
    for count in (4, 2, 4, 1):
        assert await ensure_partitions(Postgres(postgres_url), count)
        assert not await ensure_partitions(Postgres(postgres_url), count)
        after = await generations(rig)
        assert all(new != old for old, new in zip(before, after, strict=False))
        assert len(after) == 4
        before = after


async def test_the_number_of_partitions_stays_while_a_worker_runs(postgres_url: str, valkey_url: str) -> None:
    rig = Rig(postgres_url, valkey_url)
    await rig.prepare(cards=1)
    async with rig.ledger():
        before = await generations(rig)
        with pytest.raises(WorkersRunning, match="stop them"):
            await ensure_partitions(Postgres(postgres_url), 2)
        assert await generations(rig) == before
        assert not await ensure_partitions(Postgres(postgres_url), 1)
    assert await ensure_partitions(Postgres(postgres_url), 2)


async def test_parallel_starters_agree_on_the_number_of_partitions(postgres_url: str) -> None:
    changed = await asyncio.gather(*(ensure_partitions(Postgres(postgres_url), 4) for _ in range(5)))
    assert sorted(changed) == [False] * 4 + [True]
