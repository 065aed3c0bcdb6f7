"""PostgreSQL killed, stopped or frozen: nothing approved is lost, nothing hangs, and it comes back by itself."""

import asyncio
from dataclasses import replace

import asyncpg

from ledger.journal.postgres import Postgres
from ledger.operations import Operation, Outcome
from ledger.submission import Refusal
from tests.faults.conftest import Site
from tests.rigs.ledger_rig import FAULT_LIMITS
from tests.rigs.registers import Registers


async def test_postgresql_killed_under_load_loses_and_doubles_nothing(site: Site) -> None:
    registers = Registers(site.rig, 10, seed=4)
    async with site.rig.ledger() as ledger:
        for _ in range(2):
            load = asyncio.create_task(registers.work(ledger, 60))
            await asyncio.sleep(0.1)
            assert not load.done()
            site.postgres.kill()
            await asyncio.to_thread(site.postgres.start)
            await load
        await registers.check()


async def test_both_engines_killed_under_load_with_retries_of_the_same_ids(site: Site) -> None:
    registers = Registers(site.rig, 10, seed=5)
    async with site.rig.ledger() as ledger:
        for first, second in ((site.postgres, site.valkey), (site.valkey, site.postgres)):
            load = asyncio.create_task(registers.work(ledger, 60))
            await asyncio.sleep(0.1)
            assert not load.done()
            first.kill()
            second.kill()
            await asyncio.to_thread(first.start)
            await asyncio.to_thread(second.start)
            await load
        await registers.check()


async def test_postgresql_away_is_told_at_once_and_comes_back_by_itself_odoo_270532(site: Site) -> None:
    rig = site.rig
    async with rig.ledger() as ledger:
        earn = await rig.give(ledger, 1, 1000)
        site.postgres.stop()
        asked = [earn, *(rig.submission(Operation.REDEEM, card, points=1) for card in (1, 1, 2, 3, 99))]
        replies = await asyncio.gather(*(rig.ask(ledger, submission) for submission in asked))
        assert {reply.refusal for reply in replies} == {Refusal.UNAVAILABLE}
        assert not ledger.health()["ready"]
        await asyncio.to_thread(site.postgres.start)
        assert (await rig.insist(ledger, asked[1])).outcome == Outcome.APPROVED
        assert (await rig.insist(ledger, asked[2])).outcome == Outcome.APPROVED
        assert await rig.available(ledger, 1) == 998
        assert ledger.health()["ready"]


async def test_a_database_that_lets_nobody_in_is_waited_for(site: Site) -> None:
    rig = site.rig
    async with rig.ledger() as ledger:
        await rig.give(ledger, 1, 1000)
        administration = await asyncpg.connect(site.postgres.url_of("postgres"))
        try:
            await administration.execute("ALTER DATABASE tillwire WITH ALLOW_CONNECTIONS false")
            await administration.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'tillwire'"
            )
            redeem = rig.submission(Operation.REDEEM, 1, points=1)
            assert (await rig.ask(ledger, redeem)).refusal is Refusal.UNAVAILABLE
            await asyncio.sleep(5 * FAULT_LIMITS.acquire_interval_s)
            failed = asyncio.ensure_future(ledger.failed())
            await asyncio.sleep(0)
            assert not failed.done()
        finally:
            await administration.execute("ALTER DATABASE tillwire WITH ALLOW_CONNECTIONS true")
            await administration.close()
        assert (await rig.insist(ledger, redeem)).outcome == Outcome.APPROVED
        failed.cancel()


async def test_a_frozen_postgresql_is_given_up_in_time(site: Site) -> None:
    rig = site.rig
    limits = replace(FAULT_LIMITS, postgres_timeout_s=0.5, recovery_patience_s=0.5)
    async with rig.ledger(limits) as ledger:
        await rig.give(ledger, 1, 1000)
        redeem = rig.submission(Operation.REDEEM, 1, points=100)
        site.postgres.pause()
        try:
            assert (await rig.ask(ledger, redeem)).refusal is Refusal.UNAVAILABLE
        finally:
            site.postgres.resume()
        assert (await rig.insist(ledger, redeem)).outcome == Outcome.APPROVED
        assert await rig.available(ledger, 1) == 900


async def test_replays_waiting_for_a_frozen_postgresql_are_bounded(site: Site) -> None:
    """A replay has no entry, yet it waits for the journal: so it counts towards what may wait."""
    rig = site.rig
    limits = replace(FAULT_LIMITS, queue_requests_max=10, uncommitted_entries_max=10, batch_requests_max=5)
    async with rig.ledger(limits) as ledger:
        earn = await rig.give(ledger, 1, 1000)
        site.postgres.pause()
        waiters = []
        try:
            for _ in range(100):
                waiters.append(rig.send(ledger, earn))
                await asyncio.sleep(0.002)
        finally:
            site.postgres.resume()
        replies = [await asyncio.wait_for(waiter.reply, 30) for waiter in waiters]
        busy = [reply for reply in replies if reply.refusal is Refusal.BUSY]
        assert len(busy) >= 70
        assert all(reply.replayed or reply.refusal for reply in replies)


async def test_a_readers_connection_is_given_back_without_asking_anything(site: Site) -> None:
    """What is asked then costs every read a round trip, and fails unheard when PostgreSQL goes at that moment."""
    postgres = Postgres(site.rig.postgres_url)
    pool = await postgres.pool(connections_max=1, timeout_s=10.0, application_name="reader")
    try:
        async with pool.acquire() as connection:
            await connection.execute("SET work_mem = '4321kB'")
        async with pool.acquire() as connection:
            assert await connection.fetchval("SHOW work_mem") == "4321kB"
    finally:
        await pool.close()
