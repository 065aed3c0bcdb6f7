"""Two workers believe that a partition is theirs: one of them decides and journals, and no point is lost."""

import asyncio
from dataclasses import replace

import asyncpg
import pytest
import redis.asyncio as redis

from ledger.hot_store import HeadMismatch, HotStore, PartitionHead
from ledger.journal.postgres import Postgres
from ledger.journal.writer import LOCK_CLASS, Batch, Fenced, JournalDown, Writer
from ledger.ledger import Ledger, Place
from ledger.operations import Operation, Outcome
from ledger.submission import Refusal
from tests.faults.test_lost_answers import Gate
from tests.rigs.ledger_rig import FAULT_LIMITS, Rig


async def end_owner(rig: Rig) -> None:
    """End the session that holds the partition, as PostgreSQL does when a frozen owner is silent for too long."""
    async with rig.database() as connection:
        ended = await connection.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND classid = $1"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
            LOCK_CLASS,
        )
        assert ended


async def until_taken(rig: Rig, heir: Ledger) -> None:
    async with asyncio.timeout(30):
        while not heir._partitions[0].serving:
            await asyncio.sleep(0.01)


async def test_what_a_frozen_owner_decided_is_journaled_by_its_heir(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch, Writer, "commit")
    async with rig.ledger() as frozen:
        for card in range(4):
            await rig.give(frozen, card, 1000)
        gate.close()
        asked = [rig.submission(Operation.REDEEM, card, points=100) for card in range(4)]
        waiters = [rig.send(frozen, submission) for submission in asked]
        await gate.reached.wait()
        monkeypatch.undo()
        await end_owner(rig)
        async with rig.ledger(place=Place("heir")) as heir:
            assert [(await rig.journal(card))[-1]["op"] for card in range(4)] == [Operation.REDEEM] * 4
            replays = [await rig.ask(heir, submission) for submission in asked]
            assert all(reply.replayed for reply in replays)
            gate.open.set()
            for waiter, replay in zip(waiters, replays, strict=True):
                reply = await asyncio.wait_for(waiter.reply, 30)
                assert reply.refusal is Refusal.UNAVAILABLE or reply.body == replay.body
            assert {await rig.available(heir, card) for card in range(4)} == {900}


async def test_a_zombie_that_decides_after_the_takeover_is_not_believed(rig: Rig) -> None:
    # It does not ask whether its session has ended: only Redis and PostgreSQL stand between it and the members.
    async with rig.ledger(replace(FAULT_LIMITS, owner_check_s=3600.0)) as zombie:
        await rig.give(zombie, 1, 1000)
        await end_owner(rig)
        async with rig.ledger(place=Place("heir")) as heir:
            assert (await rig.do(heir, Operation.REDEEM, 1, points=900)).outcome == Outcome.APPROVED
            for op, fields in ((Operation.BALANCE, {}), (Operation.REDEEM, {"points": 900})):
                reply = await rig.do(zombie, op, 1, **fields)
                assert reply.refusal is Refusal.UNAVAILABLE
            assert await rig.available(heir, 1) == 100


async def test_what_a_zombie_decides_in_a_redis_set_back_to_its_own_time_is_not_believed(rig: Rig) -> None:
    """It comes to the same mark by another history, so the mark alone does not tell the two apart."""
    async with rig.ledger(replace(FAULT_LIMITS, owner_check_s=3600.0)) as zombie, rig.redis() as client:
        await rig.give(zombie, 1, 1000)
        copy = {key: await client.dump(key) for key in await client.keys()}
        await end_owner(rig)
        async with rig.ledger(place=Place("heir")) as heir:
            redeem = rig.submission(Operation.REDEEM, 1, points=900)
            first = await rig.ask(heir, redeem)
            for key, value in copy.items():
                await client.restore(key, 0, value, replace=True)
            await rig.do(zombie, Operation.REDEEM, 1, points=50)
            assert await rig.available(heir, 1) == 100
            again = await rig.insist(heir, redeem)
            assert (again.body, again.replayed) == (first.body, True)


async def test_the_former_owners_script_call_changes_nothing(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        await rig.give(ledger, 1, 1000)
    hot_store = HotStore.at(rig.redis_url, timeout_s=2.0)
    try:
        head, _ = await hot_store.states(0, [])
        assert head is not None
        async with rig.ledger(place=Place("heir")):
            with pytest.raises(HeadMismatch):
                await hot_store.decide(0, head, 0, [], [0, [], [], []])
        later, _ = await hot_store.states(0, [])
        assert later == PartitionHead(head.epoch + 1, head.generation, head.mark)
    finally:
        await hot_store.close()


async def test_a_former_owner_commits_nothing(rig: Rig) -> None:
    writer = await Writer.try_open(Postgres(rig.postgres_url), 0, timeout_s=5.0, idle_timeout_s=10.0)
    assert writer is not None
    claim = await writer.claim("former")
    async with rig.database() as connection:
        await connection.execute("UPDATE partition SET epoch = epoch + 1")

        async def forget(accounts: set[int]) -> None:
            raise AssertionError(accounts)

        with pytest.raises(Fenced):
            await writer.commit(Batch(mark=claim.mark + 5), forget)
        with pytest.raises(Fenced):
            await writer.void_generation()
        assert await connection.fetchval("SELECT mark FROM partition") == claim.mark
    writer.terminate()


async def test_a_partition_has_one_owner_at_a_time(rig: Rig) -> None:
    async with rig.ledger():
        assert await Writer.try_open(Postgres(rig.postgres_url), 0, timeout_s=5.0, idle_timeout_s=10.0) is None
    heir = await Writer.try_open(Postgres(rig.postgres_url), 0, timeout_s=5.0, idle_timeout_s=10.0)
    assert heir is not None
    await heir.close()


async def test_a_worker_without_the_lock_outlives_a_postgresql_that_dies_while_it_says_goodbye(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def dies(this: asyncpg.Connection, *, timeout: float | None = None) -> None:
        raise asyncpg.ConnectionDoesNotExistError("connection was closed")

    async with rig.ledger():
        with monkeypatch.context() as patched:
            patched.setattr(asyncpg.Connection, "close", dies)
            with pytest.raises(JournalDown):
                await Writer.try_open(Postgres(rig.postgres_url), 0, timeout_s=5.0, idle_timeout_s=10.0)


async def test_a_silent_owner_loses_its_lock(rig: Rig) -> None:
    silent = await Writer.try_open(Postgres(rig.postgres_url), 0, timeout_s=5.0, idle_timeout_s=0.2)
    assert silent is not None
    async with rig.ledger() as heir:
        await rig.give(heir, 1, 1000)
        with pytest.raises(JournalDown):
            await silent.wanted_by()
    silent.terminate()


async def test_an_outbox_that_postgresql_vetoes_voids_what_redis_remembers(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The owner dies before its decisions are journaled; before its heir comes, the account moves on without them."""
    gate = Gate(monkeypatch, Writer, "commit")
    async with rig.ledger() as ledger:
        earn = await rig.give(ledger, 1, 1000)
        await rig.give(ledger, 2, 500)
        gate.close()
        rig.send(ledger, rig.submission(Operation.REDEEM, 1, points=100))
        redeem = rig.submission(Operation.REDEEM, 2, points=100)
        await gate.reached.wait()
        rig.send(ledger, redeem)
        async with asyncio.timeout(30):
            while ledger._partitions[0].backlog:
                await asyncio.sleep(0.01)
        await ledger.stop(0.0)
    monkeypatch.undo()
    async with rig.database() as connection:
        # Stands for a history that Redis does not know.
        account = await connection.fetchval("SELECT account_id FROM entry WHERE request_id = $1", earn.request_id)
        await connection.execute("UPDATE account SET link = link + 1 WHERE account_id = $1", account)
        async with rig.ledger(place=Place("heir")) as heir:
            assert heir.statistics.generations_voided == 1
            assert heir.statistics.recovered_batches
            assert await rig.available(heir, 1) == 1000
            assert (await rig.insist(heir, redeem)).outcome == Outcome.APPROVED
            assert await rig.available(heir, 2) == 400
        await connection.execute("UPDATE account SET link = link - 1 WHERE account_id = $1", account)
    async with redis.Redis.from_url(rig.redis_url) as client:
        await client.flushall()
