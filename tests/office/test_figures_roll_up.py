"""The flow is the journal: whatever is late, dies, happens at once or is told the wrong time."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import asyncpg
import pytest

from admin_api.figures import roll_up
from admin_api.figures.gathering import KEEP_MINUTES, Gathering
from admin_api.figures.roll_up import CLOSED_AFTER_MINUTES, SETTLED_MS, STEP_MINUTES, RollUp
from ledger.journal.onboarding import onboarding
from ledger.journal.postgres import Postgres
from ledger.journal.writer import JournalDown
from ledger.operations import Operation
from ledger.registry import figures
from ledger.registry.registry import Registry
from server.programme_setup import add_terminal

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
#: The beginning of an hour, in 2008.
T0 = 20_000_040 * MINUTE_MS
OPERATIONS = (Operation.EARN, Operation.REDEEM, Operation.EXPIRE_LOTS)
INSERT = """
    INSERT INTO entry (account_id, seq, op, terminal_id, points, spent, earned, amount, at_ms, link, network_id, held,
        owed, balance_after, held_after, owed_after, refunded, eligible, moves, sale_ms, rate_bp, until_ms, currency,
        reference, seal)
    VALUES (1, $1, $2, $3, $4, 3, 2, 500, $5, 0, 1, 0, 0, 0, 0, 0, 0, 0, '', $5, 0, 0, 'EUR', '', '')"""
IN_JOURNAL = """
    SELECT at_ms / 60000, coalesce(store_id, 0), network_id, op, count(*), count(*) FILTER (WHERE op = ANY ($1)),
        coalesce(sum(amount) FILTER (WHERE op = ANY ($1)), 0), sum(points), sum(spent), sum(earned)
    FROM entry LEFT JOIN terminal USING (terminal_id) GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4"""
OF_NETWORKS = """
    SELECT minute, network_id, op, sum(entries), sum(receipts), sum(amount), sum(points), sum(spent), sum(earned)
    FROM office.flow GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"""


class Site:
    """A migrated database with a journal that tests write themselves, and a clock that they set."""

    def __init__(self, postgres_url: str, db: Any) -> None:
        self.postgres_url, self.db, self.ms = postgres_url, db, T0
        self._postgres = Postgres(postgres_url)
        self._registries: list[Registry] = []
        self._seq = 0

    def now_ms(self) -> int:
        return self.ms

    def monotonic_s(self) -> float:
        return 0.0

    def office(self) -> Any:
        registry = Registry(self._postgres, connections_max=1, timeout_s=30)
        self._registries.append(registry)
        return SimpleNamespace(registry=registry, clock=self)

    def gatherer(self) -> RollUp:
        return RollUp(self.office())

    async def decided(
        self, at_ms: int, op: int = Operation.EARN, terminal_id: int = 1, points: int = 7, *, connection: Any = None
    ) -> None:
        self._seq += 1
        await (connection or self.db).execute(INSERT, self._seq, op, terminal_id, points, at_ms)

    async def some_decided(self, count: int, from_ms: int, to_ms: int, seed: int = 1) -> None:
        chance = random.Random(seed)  # noqa: S311 - the same entries each time
        for _ in range(count):
            await self.decided(
                chance.randrange(from_ms, to_ms),
                chance.choice(OPERATIONS),
                chance.randrange(4),
                chance.randrange(-9, 9),
            )

    async def journal(self) -> list[tuple[int, ...]]:
        return [tuple(row) for row in await self.db.fetch(IN_JOURNAL, figures.RECEIPTS)]

    async def flow(self) -> list[tuple[int, ...]]:
        rows = [tuple(row) for row in await self.db.fetch("SELECT * FROM office.flow ORDER BY 1, 2, 3, 4")]
        of_networks = await self.db.fetch("SELECT * FROM office.network_flow ORDER BY 1, 2, 3")
        summed = await self.db.fetch(OF_NETWORKS)
        assert [tuple(row) for row in of_networks] == [tuple(row) for row in summed]
        return rows

    async def is_the_journal(self) -> None:
        assert await self.flow() == await self.journal()

    async def until_closed(self, gatherer: RollUp) -> None:
        self.ms += (CLOSED_AFTER_MINUTES + 1) * MINUTE_MS
        await gatherer.run()

    async def close(self) -> None:
        for registry in self._registries:
            await registry.close()


@pytest.fixture
async def site(postgres_url: str) -> AsyncIterator[Site]:
    async with onboarding(postgres_url) as to:
        network_id = await to.network(await to.partner("Harvest Foods"), "Harvest Market", "EUR")
        stores = [await to.store(network_id, name) for name in ("Mill Street", "Harbour")]
        for number, store_id in enumerate((*stores, stores[0])):
            await add_terminal(to, store_id, f"till-{number}", range(16, 35))
    db = await asyncpg.connect(postgres_url)
    site = Site(postgres_url, db)
    yield site
    await site.close()
    await db.close()


@pytest.fixture
def nothing_is_computed_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(_transaction: Any, minute: int) -> None:
        pytest.fail(f"minute {minute} was computed anew")

    monkeypatch.setattr(figures, "compute_minute", fail)


@pytest.mark.usefixtures("nothing_is_computed_anew")
async def test_slices_together_are_the_journal_and_each_entry_is_added_once(site: Site) -> None:
    gatherer, chance = site.gatherer(), random.Random(2)  # noqa: S311 - the same slices each time
    await site.some_decided(300, T0 + 1, T0 + 12 * MINUTE_MS)
    while site.ms < T0 + 20 * MINUTE_MS:
        site.ms += chance.choice((1, 900, 10_000, 61_000))
        await gatherer.run()
        settled = site.ms - SETTLED_MS
        known = await site.db.fetchval("SELECT count(*) FROM entry WHERE at_ms < $1", settled)
        assert await site.db.fetchval("SELECT coalesce(sum(entries), 0) FROM office.flow") == known
    await site.is_the_journal()
    assert len(await site.flow()) > 50


@pytest.mark.usefixtures("nothing_is_computed_anew")
async def test_what_was_decided_just_now_waits_for_the_next_slice(site: Site) -> None:
    gatherer = site.gatherer()
    await gatherer.run()
    site.ms += 10_000
    await site.decided(site.ms - SETTLED_MS - 1)
    await site.decided(site.ms - SETTLED_MS)
    await gatherer.run()
    assert [row[4] for row in await site.flow()] == [1]
    site.ms += 1
    await gatherer.run()
    assert [row[4] for row in await site.flow()] == [2]


@pytest.mark.parametrize("committed", [False, True])
async def test_a_gatherer_that_dies_in_a_slice_neither_loses_nor_doubles_it(
    site: Site, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    await site.some_decided(50, T0 - 3 * MINUTE_MS, T0 - SETTLED_MS)
    dying = site.gatherer()
    writing = dying._office.registry.writing

    @asynccontextmanager
    async def deaf() -> AsyncIterator[Any]:
        async with writing() as transaction:
            yield transaction
            if not committed:
                raise JournalDown("lost before the commit")
        raise JournalDown("lost after the commit")

    monkeypatch.setattr(dying._office.registry, "writing", deaf)
    with pytest.raises(JournalDown):
        await dying.run()
    heir = site.gatherer()
    await heir.run()
    await site.is_the_journal()
    await site.until_closed(heir)
    await site.is_the_journal()


async def test_a_gatherer_that_dies_while_it_mends_a_minute_has_changed_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    gatherer = site.gatherer()
    await gatherer.run()
    await site.some_decided(20, T0 - MINUTE_MS, T0 - SETTLED_MS)
    compute_minute = figures.compute_minute

    async def dies(transaction: Any, minute: int) -> None:
        await compute_minute(transaction, minute)
        raise JournalDown("died")

    with monkeypatch.context() as patch:
        patch.setattr(figures, "compute_minute", dies)
        with pytest.raises(JournalDown):
            await site.until_closed(gatherer)
    assert await site.flow() == []
    await gatherer.run()
    await site.is_the_journal()


@pytest.mark.parametrize("first_time", [True, False])
async def test_gatherers_at_the_same_time_add_each_slice_once(
    site: Site, monkeypatch: pytest.MonkeyPatch, first_time: bool
) -> None:
    if not first_time:
        await site.gatherer().run()
        site.ms += 10_000
    await site.some_decided(30, T0 - SETTLED_MS if not first_time else T0 - HOUR_MS, site.ms - SETTLED_MS)
    add_slice = figures.add_slice

    async def slow(transaction: Any, from_ms: int, to_ms: int) -> None:
        await asyncio.sleep(0.05)
        await add_slice(transaction, from_ms, to_ms)

    monkeypatch.setattr(figures, "add_slice", slow)
    await asyncio.gather(*(site.gatherer().run() for _ in range(4)))
    await site.is_the_journal()


async def test_an_entry_that_is_committed_late_is_in_the_flow_once_its_minute_is_closed(site: Site) -> None:
    gatherer = site.gatherer()
    await site.some_decided(20, T0 - MINUTE_MS, T0 - SETTLED_MS)
    writer = await asyncpg.connect(site.postgres_url)
    late = writer.transaction()
    await late.start()
    await site.decided(T0 - 30_000, connection=writer)
    await gatherer.run()
    before = await site.flow()
    await late.commit()
    await writer.close()
    site.ms += CLOSED_AFTER_MINUTES * MINUTE_MS - 1
    await gatherer.run()
    assert await site.flow() == before
    site.ms += 1
    await gatherer.run()
    await site.is_the_journal()


async def test_only_the_minute_that_lacks_something_is_computed_anew(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    gatherer = site.gatherer()
    await site.some_decided(60, T0 - 5 * MINUTE_MS, T0 - SETTLED_MS)
    await gatherer.run()
    await site.decided(T0 - 2 * MINUTE_MS)
    minutes = Counter[int]()
    compute_minute = figures.compute_minute

    async def counted(transaction: Any, minute: int) -> None:
        minutes[minute] += 1
        await compute_minute(transaction, minute)

    monkeypatch.setattr(figures, "compute_minute", counted)
    for _ in range(3):
        await site.until_closed(gatherer)
    assert minutes == {T0 // MINUTE_MS - 2: 1}
    await site.is_the_journal()


@pytest.mark.parametrize("back_ms", [30_000, 4 * MINUTE_MS, 90 * MINUTE_MS])
async def test_what_is_decided_while_the_clock_goes_through_the_same_time_again_is_in_the_flow(
    site: Site, back_ms: int
) -> None:
    gatherer = site.gatherer()
    await site.some_decided(30, T0 - 2 * HOUR_MS, T0 - SETTLED_MS)
    await gatherer.run()
    site.ms -= back_ms
    for _ in range(3):
        await gatherer.run()
        await site.some_decided(20, site.ms, site.ms + 2 * MINUTE_MS, seed=site.ms)
        site.ms += 2 * MINUTE_MS
    await site.until_closed(gatherer)
    await site.is_the_journal()


async def test_a_clock_that_is_set_back_by_days_makes_minutes_of_thinned_hours_again(site: Site) -> None:
    long_ago = T0 - KEEP_MINUTES * MINUTE_MS - 2 * HOUR_MS
    gatherer = site.gatherer()
    await site.some_decided(30, long_ago, long_ago + HOUR_MS)
    await gatherer.run()
    await Gathering(site.office()).thin()
    assert {row[0] for row in await site.flow()} == {long_ago // MINUTE_MS}
    site.ms = long_ago + HOUR_MS // 2
    await gatherer.run()
    await site.some_decided(30, site.ms, long_ago + HOUR_MS, seed=2)
    site.ms = long_ago + HOUR_MS
    await site.until_closed(gatherer)
    await site.is_the_journal()


async def test_after_a_pause_all_of_it_is_added_in_steps(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    await site.some_decided(100, T0 - 40 * STEP_MINUTES * MINUTE_MS, T0 - SETTLED_MS)
    longest = 0
    add_slice = figures.add_slice

    async def measured(transaction: Any, from_ms: int, to_ms: int) -> None:
        nonlocal longest
        longest = max(longest, to_ms - from_ms)
        await add_slice(transaction, from_ms, to_ms)

    monkeypatch.setattr(figures, "add_slice", measured)
    monkeypatch.setattr(roll_up, "STEP_MINUTES_MAX", STEP_MINUTES)
    await site.gatherer().run()
    await site.is_the_journal()
    assert longest == STEP_MINUTES * MINUTE_MS
    assert await site.db.fetchval("SELECT until FROM office.gathered WHERE what = 'flow'") == T0 - SETTLED_MS
    closed = await site.db.fetchval("SELECT until FROM office.gathered WHERE what = 'flow closed'")
    assert closed == T0 // MINUTE_MS - CLOSED_AFTER_MINUTES


async def test_a_time_without_entries_takes_no_steps(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    await site.decided(T0 - 300 * 24 * HOUR_MS)
    slices = 0
    add_slice = figures.add_slice

    async def counted(transaction: Any, from_ms: int, to_ms: int) -> None:
        nonlocal slices
        slices += 1
        await add_slice(transaction, from_ms, to_ms)

    monkeypatch.setattr(figures, "add_slice", counted)
    await site.gatherer().run()
    assert slices == 1
    await site.is_the_journal()


async def test_a_step_that_takes_too_long_is_tried_smaller_and_the_end_is_reached(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    await site.some_decided(40, T0 - 20 * MINUTE_MS, T0 - SETTLED_MS)
    gatherer, add_slice = site.gatherer(), figures.add_slice

    async def slow(transaction: Any, from_ms: int, to_ms: int) -> None:
        if to_ms - from_ms > 2 * MINUTE_MS:
            raise JournalDown("too long")
        await add_slice(transaction, from_ms, to_ms)

    monkeypatch.setattr(figures, "add_slice", slow)
    for _ in range(60):
        try:
            await gatherer.run()
            break
        except JournalDown:
            continue
    await site.is_the_journal()


async def test_only_what_is_closed_is_thinned(site: Site) -> None:
    await site.some_decided(100, T0 - 2 * HOUR_MS, T0 - SETTLED_MS)
    await site.gatherer().run()
    await site.db.execute("UPDATE office.gathered SET until = $1 WHERE what = 'flow closed'", T0 // MINUTE_MS - 60)
    before = await site.flow()
    site.ms += (KEEP_MINUTES + 180) * MINUTE_MS
    await Gathering(site.office()).thin()
    after = await site.flow()
    assert {row[0] for row in after if row[0] < T0 // MINUTE_MS - 60} == {T0 // MINUTE_MS - 120}
    assert [row for row in after if row[0] >= T0 // MINUTE_MS - 60] == [
        row for row in before if row[0] >= T0 // MINUTE_MS - 60
    ]
    assert [sum(column) for column in zip(*(row[4:] for row in after), strict=True)] == [
        sum(column) for column in zip(*(row[4:] for row in before), strict=True)
    ]
