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

#: What a server of the release before has left, in a few rows.
LIVED = """
INSERT INTO partner (name) VALUES ('p');
INSERT INTO network (partner_id, name, currency) VALUES (1, 'n', 'EUR');
INSERT INTO rules (network_id, valid_from_ms, earn_rate_bp) VALUES (1, 0, 500);
INSERT INTO store (network_id, name) VALUES (1, 's');
INSERT INTO terminal (code, store_id, permitted, salt, iterations, stored_key, server_key)
VALUES ('t', 1, '{16}', '\\x00', 4096, repeat('a', 32)::bytea, repeat('b', 32)::bytea);
INSERT INTO account (state) SELECT '\\x00' FROM generate_series(1, 2);
INSERT INTO card (token, account_id, kind, masked, status)
SELECT decode(md5(i::text), 'hex'), i, 1, 'ean13:x', 1 FROM generate_series(1, 2) i;
INSERT INTO personal.member (account_id, greeting) VALUES (1, '\\x00');
INSERT INTO entry SELECT 1, 1, 1, 16, decode(md5('r'), 'hex'), 1, 1, 1, 0, 0, 1, 0, 0, 0, 1, 0, 100, 100,
    NULL, '\\x90', 1, 0, 500, 0, NULL, 'EUR', 'r', '\\x00', '\\x00', repeat('s', 16)::bytea;
"""
OF_THE_RELEASE_BEFORE = (
    "SELECT t.terminal_id, n.name FROM terminal t JOIN store s USING (store_id) JOIN network n USING (network_id)",
    "SELECT greeting FROM personal.member WHERE account_id = 1",
    "INSERT INTO card VALUES (decode(md5('c'), 'hex'), 2, 1, '', 1) RETURNING token",
    "UPDATE card SET account_id = 1 WHERE token = decode(md5('c'), 'hex') RETURNING status",
    "DELETE FROM card WHERE token = decode(md5('c'), 'hex') RETURNING token",
    "INSERT INTO store (network_id, name) VALUES (1, 's2') RETURNING store_id",
)


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


async def test_a_database_of_the_release_before_is_taken_over_with_what_is_in_it(
    empty_postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = migrate.available()
    with monkeypatch.context() as patched:
        patched.setattr(migrate, "available", lambda: known[:2])
        await migrate.run(empty_postgres_url)
    connection = await asyncpg.connect(empty_postgres_url)
    await connection.execute(LIVED)
    # As a worker of that release holds them, while the migration runs and afterwards.
    statements = [await connection.prepare(text) for text in OF_THE_RELEASE_BEFORE]
    # The driver leaves a connection that prepared something in the middle of a transaction.
    await connection.execute("SELECT 1")
    await migrate.run(empty_postgres_url)
    for statement in statements:
        assert len(await statement.fetch()) == 1
    version = await connection.fetchrow("SELECT * FROM rules_version")
    assert (version["network_id"], version["made_by"], '"earn_rate_bp": 500' in version["rules"]) == (1, "system", True)
    assert await connection.fetchval("SELECT count(*) FROM card WHERE made_ms > 0 AND batch_id IS NULL") == 2
    assert await connection.fetchval(
        "SELECT bool_and(p.active AND n.active) FROM partner p JOIN network n USING (partner_id)"
    )
    assert await connection.fetchval("SELECT version FROM personal.member WHERE erased_ms IS NULL") == 1
    await connection.close()


async def test_a_migration_that_waits_for_a_table_lets_others_pass(
    empty_postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = migrate.available()
    with monkeypatch.context() as patched:
        patched.setattr(migrate, "available", lambda: known[:2])
        await migrate.run(empty_postgres_url)
    monkeypatch.setattr(migrate, "_LOCK_PAUSE_S", 0.05)
    long_one, register = await asyncpg.connect(empty_postgres_url), await asyncpg.connect(empty_postgres_url)
    async with long_one.transaction():
        await long_one.fetch("SELECT * FROM partner")
        migrating = asyncio.create_task(migrate.run(empty_postgres_url))
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        while not await register.fetchval(waiting):
            await asyncio.sleep(0.01)
        async with asyncio.timeout(30):
            assert await register.fetch("SELECT * FROM partner") == []
        assert not migrating.done()
    assert await migrating == [migration.name for migration in known[2:]]
    await long_one.close()
    await register.close()


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
