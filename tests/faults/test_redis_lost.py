"""Redis killed, flushed, rolled back, tampered with, full or demoted: the promises hold, and nobody has to act."""

import asyncio
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import redis.asyncio as redis

from ledger.operations import Operation, Outcome
from server.engines.valkey import EmbeddedValkey
from tests.faults.conftest import Site
from tests.rigs.ledger_rig import FAULT_LIMITS, Rig, token_of
from tests.rigs.registers import Registers


async def account_key(rig: Rig, card: int) -> str:
    async with rig.database() as connection:
        account = await connection.fetchval("SELECT account_id FROM card WHERE token = $1", token_of(card))
    return f"tillwire:{{0}}:{account}"


def replace_folder(valkey: EmbeddedValkey, copy: Path) -> None:
    shutil.rmtree(valkey.folder / "appendonlydir")
    shutil.copytree(copy, valkey.folder / "appendonlydir")


async def test_valkey_killed_and_started_again_loses_and_doubles_nothing(valkey_site: Site) -> None:
    rig, valkey = valkey_site.rig, valkey_site.valkey
    registers = Registers(rig, 10, seed=1)
    async with rig.ledger() as ledger:
        for _ in range(3):
            load = asyncio.create_task(registers.work(ledger, 60))
            await asyncio.sleep(0.05)
            assert not load.done()
            valkey.kill()
            await asyncio.to_thread(valkey.start)
            await load
        await registers.check()


async def test_flushall_under_load_loses_and_doubles_nothing_midaz_2499(rig: Rig) -> None:
    registers = Registers(rig, 10, seed=2)
    async with rig.ledger() as ledger, redis.Redis.from_url(rig.redis_url) as client:
        load = asyncio.create_task(registers.work(ledger, 60))
        for _ in range(5):
            await asyncio.sleep(0.05)
            await client.flushall()
            await client.script_flush()
        await load
        await registers.check()


@pytest.mark.parametrize("running", [True, False], ids=["under a running worker", "between two workers"])
async def test_an_older_copy_of_redis_is_not_believed(valkey_site: Site, tmp_path: Path, running: bool) -> None:
    rig, valkey = valkey_site.rig, valkey_site.valkey
    copy = tmp_path / "copy"
    async with rig.ledger() as ledger:
        await rig.give(ledger, 1, 1000)
        redeem = rig.submission(Operation.REDEEM, 1, points=1)
        valkey.stop()
        shutil.copytree(valkey.folder / "appendonlydir", copy)
        await asyncio.to_thread(valkey.start)
        first = await rig.insist(ledger, redeem)
        await rig.insist(ledger, rig.submission(Operation.REDEEM, 1, points=900))
        if running:
            valkey.stop()
            replace_folder(valkey, copy)
            await asyncio.to_thread(valkey.start)
            assert await rig.available(ledger, 1) == 99
            again = await rig.insist(ledger, redeem)
            assert (again.body, again.replayed) == (first.body, True)
    if not running:
        valkey.stop()
        replace_folder(valkey, copy)
        await asyncio.to_thread(valkey.start)
        async with rig.ledger() as ledger:
            assert await rig.available(ledger, 1) == 99


async def test_an_account_set_back_behind_our_back_is_vetoed_by_postgresql(rig: Rig) -> None:
    """The head stays, so only the compare-and-set in PostgreSQL can tell."""
    async with rig.ledger() as ledger, redis.Redis.from_url(rig.redis_url) as client:
        await rig.give(ledger, 1, 1000)
        key = await account_key(rig, 1)
        old = await client.get(key)
        await rig.do(ledger, Operation.REDEEM, 1, points=900)
        await client.set(key, old)
        reply = await rig.do(ledger, Operation.REDEEM, 1, points=900)
        assert (reply.outcome, reply.balance) == (Outcome.INSUFFICIENT, [100, 0, 0, 0, 0, 0])
        assert ledger.statistics.vetoes == 1


async def test_a_batch_on_accounts_set_back_is_decided_anew_without_harm_to_the_others(rig: Rig) -> None:
    async with rig.ledger() as ledger, redis.Redis.from_url(rig.redis_url) as client:
        for card in range(10):
            await rig.give(ledger, card, 1000)
        keys = [await account_key(rig, card) for card in range(5)]
        old = [await client.get(key) for key in keys]
        await asyncio.gather(*(rig.do(ledger, Operation.REDEEM, card, points=600) for card in range(10)))
        for key, value in zip(keys, old, strict=True):
            await client.set(key, value)
        asked = [rig.do(ledger, Operation.REDEEM, card, points=150) for card in range(10) for _ in range(4)]
        outcomes = [reply.outcome for reply in await asyncio.gather(*asked)]
        assert outcomes.count(Outcome.APPROVED) == 20
        assert {await rig.available(ledger, card) for card in range(10)} == {100}


async def test_a_partition_that_recovers_is_not_looked_for_at_its_former_owner(rig: Rig) -> None:
    async with rig.ledger(replace(FAULT_LIMITS, refresh_interval_s=3600.0)) as ledger, rig.redis() as client:
        await rig.give(ledger, 1, 1000)
        ledger._owners = {0: "a worker that is no more"}
        await client.flushall()
        asked = [rig.do(ledger, Operation.REDEEM, 1, points=1) for _ in range(20)]
        assert {reply.outcome for reply in await asyncio.gather(*asked)} == {Outcome.APPROVED}
        ledger._owners = {0: "a worker that is no more"}
        await client.flushall()
        lost = asyncio.create_task(rig.do(ledger, Operation.REDEEM, 1, points=1))
        while ledger._partitions[0].serving:
            await asyncio.sleep(0)
        assert (await rig.do(ledger, Operation.REDEEM, 1, points=1)).outcome == Outcome.APPROVED
        assert (await lost).outcome == Outcome.APPROVED


async def test_garbage_in_an_account_is_replaced_by_the_truth(rig: Rig) -> None:
    async with rig.ledger() as ledger, redis.Redis.from_url(rig.redis_url) as client:
        for card in range(4):
            await rig.give(ledger, card, 1000)
        key = await account_key(rig, 1)
        generation = (await client.get(key))[:4]
        for garbage in (b"", b"\x00", generation + b"\x00" * 6, generation + b"\x00" * 6 + b"\x93\x01\x02"):
            await client.set(key, garbage)
            asked = [rig.submission(Operation.REDEEM, card, points=10) for card in range(4)]
            replies = await asyncio.gather(*(rig.insist(ledger, submission) for submission in asked))
            assert {reply.outcome for reply in replies} == {Outcome.APPROVED}
        assert {await rig.available(ledger, card) for card in range(4)} == {960}


async def test_an_evicted_account_is_loaded_from_its_journaled_state_midaz_2499(rig: Rig) -> None:
    registers = Registers(rig, 3, seed=3)
    async with rig.ledger() as ledger, redis.Redis.from_url(rig.redis_url) as client:
        keys = [await account_key(rig, card) for card in range(3)]
        load = asyncio.create_task(registers.work(ledger, 60))
        while not load.done():
            await client.delete(*keys)
            await asyncio.sleep(0.005)
        await load
        await registers.check()


async def test_a_redis_that_became_a_replica_is_not_decided_on(valkey_site: Site) -> None:
    rig = valkey_site.rig
    async with rig.ledger() as ledger, redis.Redis.from_url(rig.redis_url) as client:
        await rig.give(ledger, 1, 1000)
        await client.execute_command("REPLICAOF", "127.0.0.1", "1")
        assert (await rig.do(ledger, Operation.REDEEM, 1, points=100)).outcome == Outcome.APPROVED
        assert ledger._partitions[0].standby
        await client.execute_command("REPLICAOF", "NO", "ONE")
        await rig.until_on(ledger, standby=False)
        assert (await rig.do(ledger, Operation.REDEEM, 1, points=100)).outcome == Outcome.APPROVED
        assert await rig.available(ledger, 1) == 800


async def test_a_full_redis_is_done_without_until_there_is_room(valkey_site: Site) -> None:
    rig = valkey_site.rig
    async with rig.ledger() as ledger, redis.Redis.from_url(rig.redis_url) as client:
        await rig.give(ledger, 1, 1000)
        await client.config_set("maxmemory", 1)
        assert (await rig.do(ledger, Operation.REDEEM, 1, points=100)).outcome == Outcome.APPROVED
        await asyncio.sleep(1.0)
        assert ledger._partitions[0].standby
        await client.config_set("maxmemory", 0)
        await rig.until_on(ledger, standby=False)
        assert await rig.available(ledger, 1) == 900


async def test_redis_away_is_done_without_and_comes_back_by_itself(valkey_site: Site) -> None:
    rig, valkey = valkey_site.rig, valkey_site.valkey
    async with rig.ledger() as ledger:
        await rig.give(ledger, 1, 1000)
        valkey.stop()
        redeem = rig.submission(Operation.REDEEM, 1, points=10)
        more = [rig.submission(Operation.REDEEM, 1, points=10) for _ in range(19)]
        replies = await asyncio.gather(*(rig.ask(ledger, submission) for submission in (redeem, *more)))
        assert {reply.outcome for reply in replies} == {Outcome.APPROVED}
        assert ledger.health()["ready"]
        await asyncio.to_thread(valkey.start)
        await rig.until_on(ledger, standby=False)
        again = await rig.ask(ledger, redeem)
        assert (again.body, again.replayed) == (replies[0].body, True)
        assert await rig.available(ledger, 1) == 800


async def test_a_frozen_redis_is_left_and_what_it_decides_late_counts_for_nothing(valkey_site: Site) -> None:
    rig, valkey = valkey_site.rig, valkey_site.valkey
    async with rig.ledger() as ledger:
        await rig.give(ledger, 1, 1000)
        valkey.pause()
        try:
            for _ in range(3):
                assert (await rig.do(ledger, Operation.REDEEM, 1, points=100)).outcome == Outcome.APPROVED
        finally:
            valkey.resume()
        await rig.until_on(ledger, standby=False)
        assert await rig.available(ledger, 1) == 700
        assert ledger.statistics.standby_epochs == 1
