import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from admin_api.figures.gathering import Gathering
from ledger.journal.postgres import Postgres
from ledger.journal.writer import JournalDown
from ledger.operations import Operation, Outcome
from server.observation.metrics import Metrics
from server.observation.tallies import Tallies
from tests.rigs.office_rig import OfficeRig

MINUTE_MS = 60_000
EARLY = 20_000_000  # a minute, in 2008


class Clock:
    def __init__(self, now_ms: int) -> None:
        self.ms = now_ms

    def now_ms(self) -> int:
        return self.ms

    def monotonic_s(self) -> float:
        return self.ms / 1000


@asynccontextmanager
async def database(rig: OfficeRig) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(rig.postgres_url)
    try:
        yield connection
    finally:
        await connection.close()


async def tallied(rig: OfficeRig) -> dict[tuple[int, ...], int]:
    async with database(rig) as db:
        rows = await db.fetch("SELECT minute, store_id, op, outcome, count FROM office.tally")
    return {tuple(row)[:4]: row["count"] for row in rows}


async def adjust(rig: OfficeRig, points: int) -> None:
    await rig.office.desk.adjust(os.urandom(16), rig.cards[0].account, points, 0, "test")


def gathering(rig: OfficeRig, clock: Clock) -> Gathering:
    office = rig.office
    return Gathering(
        type(office)(
            office.registry, office.desk, office.keys, office.limits, clock, office.installation, office.proofs
        )
    )


def answered(metrics: Metrics, store_id: int, outcome: Outcome) -> None:
    metrics.answered(store_id, Operation.SALE, outcome, 0.001, replayed=False)


async def test_what_a_worker_answers_is_added_by_minute_and_store(rig: OfficeRig) -> None:
    metrics, clock = Metrics(), Clock(EARLY * MINUTE_MS + 5_000)
    tallies = Tallies(metrics, Postgres(rig.postgres_url), clock)
    answered(metrics, 1, Outcome.APPROVED)
    tallies.take()
    await tallies.send()
    answered(metrics, 1, Outcome.APPROVED)
    answered(metrics, 2, Outcome.INSUFFICIENT)
    # Taken in the first moment of the next minute, it belongs to the minute that has just ended.
    clock.ms = (EARLY + 1) * MINUTE_MS
    await tallies.finish()
    assert await tallied(rig) == {
        (EARLY, 1, Operation.SALE, Outcome.APPROVED): 2,
        (EARLY, 2, Operation.SALE, Outcome.INSUFFICIENT): 1,
    }


async def test_a_commit_whose_confirmation_was_lost_counts_once(
    rig: OfficeRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics, clock = Metrics(), Clock(EARLY * MINUTE_MS + 5_000)
    tallies = Tallies(metrics, Postgres(rig.postgres_url), clock)
    writing = tallies._registry.writing

    @asynccontextmanager
    async def deaf(*, committed: bool) -> AsyncIterator[Any]:
        async with writing() as transaction:
            yield transaction
            if not committed:
                raise JournalDown("lost before the commit")
        raise JournalDown("lost after the commit")

    for committed in (False, True):
        answered(metrics, 1, Outcome.APPROVED)
        tallies.take()
        with monkeypatch.context() as patch:
            patch.setattr(tallies._registry, "writing", lambda committed=committed: deaf(committed=committed))
            with pytest.raises(JournalDown):
                await tallies.send()
        await tallies.send()
    await tallies.finish()
    assert await tallied(rig) == {(EARLY, 1, Operation.SALE, Outcome.APPROVED): 2}


async def test_counts_wait_for_a_postgres_that_is_away_and_are_bounded(
    rig: OfficeRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.observation.tallies.ROWS_MAX", 3)
    metrics, clock = Metrics(), Clock(EARLY * MINUTE_MS + 5_000)
    tallies = Tallies(metrics, Postgres("postgresql://nobody@127.0.0.1:1/none"), clock)
    for store_id in range(5):
        answered(metrics, store_id, Outcome.APPROVED)
    await tallies.finish()
    assert (sum(tallies._counts.values()) + len(tallies._sent), tallies.dropped_rows) == (3, 2)


async def test_a_network_has_the_sum_of_its_stores(rig: OfficeRig) -> None:
    async with database(rig) as db:
        await db.execute("INSERT INTO store (network_id, name) VALUES (1, 'Second')")
        metrics, clock = Metrics(), Clock(EARLY * MINUTE_MS + 5_000)
        tallies = Tallies(metrics, Postgres(rig.postgres_url), clock)
        for store_id in (1, 2, 2):
            answered(metrics, store_id, Outcome.APPROVED)
        await tallies.finish()
        assert await db.fetch("SELECT network_id, outcome, count FROM office.network_tally") == [(1, 0, 3)]


async def test_thinning_keeps_every_sum_and_may_be_done_again(rig: OfficeRig) -> None:
    hour = EARLY - EARLY % 60
    async with database(rig) as db:
        await db.execute("INSERT INTO office.tally SELECT $1 + i, 1, 17, 0, 1 FROM generate_series(0, 119) AS i", hour)
        await db.execute(
            "INSERT INTO office.flow SELECT $1 + i, 1, 1, 17, 1, 1, 5, 4, 3, 2 FROM generate_series(0, 119) AS i", hour
        )
        await db.execute("INSERT INTO office.gathered VALUES ('flow closed', $1)", hour + 60)
        await db.execute(
            "INSERT INTO office.sample SELECT i * 60000, $1::jsonb FROM generate_series(1, 10) AS i",
            '{"answers_per_s": 4.0, "p99_ms": 7.5}',
        )
        work = gathering(rig, Clock((hour + 9 * 1_440) * MINUTE_MS))
        for _ in range(2):
            await work.thin()
            assert await db.fetch("SELECT minute, count FROM office.tally ORDER BY 1") == [
                (hour, 60), (hour + 60, 60),
            ]  # fmt: skip
            # Minutes that are not closed are left alone.
            assert await db.fetchrow("SELECT count(*), sum(amount) FROM office.flow") == (61, 600)
            await db.execute("DELETE FROM office.gathered WHERE what LIKE 'thin%'")
        assert await db.fetchval("SELECT count(*) FROM office.sample") == 3
        assert await db.fetchval("SELECT figures->>'p99_ms' FROM office.sample LIMIT 1") == "7.5"


async def test_the_sum_of_all_accounts_is_kept(rig: OfficeRig) -> None:
    await adjust(rig, 1_000)
    work = gathering(rig, Clock(rig.clock.now_ms()))
    await asyncio.gather(work.stand(), work.stand())
    async with database(rig) as db:
        row = await db.fetchrow("SELECT * FROM office.standing")
    assert (row["balance"], row["accounts"], row["cards_issued"], row["cards_active"]) == (1_000, 5, 5, 5)


async def test_a_sample_says_what_happened_between_two_looks(rig: OfficeRig, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(rig.clock.now_ms())
    work = gathering(rig, clock)
    texts = iter((b"tillwire_answers_total 10.0\n", b"tillwire_answers_total 60.0\n"))
    monkeypatch.setattr(rig.installation, "metrics", lambda: next(texts))
    await work.sample()
    clock.ms += 5_000
    await work.sample()
    async with database(rig) as db:
        assert await db.fetchval("SELECT figures->>'answers_per_s' FROM office.sample") == "10.0"
