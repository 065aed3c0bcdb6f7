"""Redis gone, business goes on: approvals, the same promises, and back by itself, whatever Redis then remembers."""

import asyncio
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import redis.asyncio as redis

from ledger.hot_store import HotStore
from ledger.journal.writer import Writer
from ledger.ledger import Ledger, Place
from ledger.operations import Operation, Outcome
from ledger.standby import StandbyStore
from ledger.submission import Refusal
from server.engines.ports import free_port
from server.engines.valkey import EmbeddedValkey
from tests.faults.conftest import Site
from tests.faults.test_lost_answers import Gate
from tests.faults.test_takeover import end_owner, until_taken
from tests.rigs.ledger_rig import FAULT_LIMITS, Clock, Reply, Rig
from tests.rigs.registers import Registers


def nowhere() -> str:
    return f"redis://127.0.0.1:{free_port()}/0"


def forget_everything(valkey: EmbeddedValkey) -> None:
    shutil.rmtree(valkey.folder / "appendonlydir")


async def redeemed(rig: Rig, ledger: Ledger, card: int, points: int) -> Reply:
    reply = await rig.do(ledger, Operation.REDEEM, card, points=points)
    assert reply.outcome == Outcome.APPROVED, reply
    return reply


async def test_a_worker_that_never_saw_redis_serves(rig: Rig) -> None:
    async with rig.ledger(redis_url=nowhere()) as ledger:
        await rig.until_on(ledger, standby=True)
        health = ledger.health()["partitions"]["0"]
        assert (health["serving"], health["standby"]) == (True, True)
        assert "Redis does not answer" in health["trouble"]
        registers = Registers(rig, 10, seed=11)
        await registers.work(ledger, 40)
        assert registers.refusals == 0
        assert ledger.statistics.committed_entries > 0
        await registers.check()


async def test_nobody_is_refused_while_redis_dies_stays_away_and_comes_back(valkey_site: Site) -> None:
    rig, valkey = valkey_site.rig, valkey_site.valkey
    registers = Registers(rig, 10, seed=12)
    async with rig.ledger() as ledger:
        load = asyncio.create_task(registers.work(ledger, 60))
        await asyncio.sleep(0.1)
        assert not load.done()
        valkey.kill()
        await load
        await rig.until_on(ledger, standby=True)
        await registers.work(ledger, 20)
        load = asyncio.create_task(registers.work(ledger, 250))
        await asyncio.to_thread(valkey.start)
        await rig.until_on(ledger, standby=False)
        assert not load.done()
        await load
        assert registers.refusals == 0
        await registers.check()


async def test_nobody_is_refused_while_redis_is_frozen(valkey_site: Site) -> None:
    rig, valkey = valkey_site.rig, valkey_site.valkey
    registers = Registers(rig, 10, seed=13)
    async with rig.ledger(replace(FAULT_LIMITS, redis_timeout_s=0.5)) as ledger:
        load = asyncio.create_task(registers.work(ledger, 60))
        await asyncio.sleep(0.1)
        assert not load.done()
        valkey.pause()
        try:
            await load
            await registers.work(ledger, 60)
            # Its time-out was paid once, and its silence is no reason to try it again.
            assert ledger.statistics.standby_epochs == 1
        finally:
            valkey.resume()
        await rig.until_on(ledger, standby=False)
        await registers.work(ledger, 20)
        assert registers.refusals == 0
        await registers.check()


@pytest.mark.parametrize("memory", ["nothing", "what it knew", "an older snapshot", "what it knew, read-only at first"])
async def test_whatever_redis_remembers_when_it_is_back(valkey_site: Site, tmp_path: Path, memory: str) -> None:
    rig, valkey = valkey_site.rig, valkey_site.valkey
    copy = tmp_path / "copy"
    async with rig.ledger() as ledger:
        await rig.give(ledger, 1, 1000)
        valkey.stop()
        shutil.copytree(valkey.folder / "appendonlydir", copy)
        await asyncio.to_thread(valkey.start)
        await rig.until_on(ledger, standby=False)
        before = rig.submission(Operation.REDEEM, 1, points=1)
        during = rig.submission(Operation.REDEEM, 1, points=20)
        after = rig.submission(Operation.REDEEM, 1, points=300)
        answers = [await rig.insist(ledger, before)]
        valkey.stop()
        answers.append(await rig.ask(ledger, during))
        assert ledger._partitions[0].standby
        if memory == "nothing":
            forget_everything(valkey)
        elif memory == "an older snapshot":
            forget_everything(valkey)
            shutil.copytree(copy, valkey.folder / "appendonlydir")
        await asyncio.to_thread(valkey.start)
        if "read-only" in memory:
            async with redis.Redis.from_url(rig.redis_url) as client:
                await client.execute_command("REPLICAOF", "127.0.0.1", "1")
                await asyncio.sleep(0.5)
                assert ledger._partitions[0].standby
                await client.execute_command("REPLICAOF", "NO", "ONE")
        await rig.until_on(ledger, standby=False)
        answers.append(await rig.ask(ledger, after))
        assert [answer.outcome for answer in answers] == [Outcome.APPROVED] * 3
        assert await rig.available(ledger, 1) == 679
        for submission, answer in zip((before, during, after), answers, strict=True):
            again = await rig.ask(ledger, submission)
            assert (again.body, again.replayed) == (answer.body, True)


async def test_an_id_is_replayed_whenever_it_was_approved(valkey_site: Site) -> None:
    rig, valkey = valkey_site.rig, valkey_site.valkey
    asked = []

    async def ask_one_more_and_all_again(ledger: Ledger) -> None:
        submission = rig.submission(Operation.REDEEM, 1, points=10)
        asked.append((submission, await rig.ask(ledger, submission)))
        for earlier, answer in asked:
            again = await rig.ask(ledger, earlier)
            assert (again.body, again.replayed) == (answer.body, True)

    async with rig.ledger() as ledger:
        await rig.give(ledger, 1, 1000)
        for _ in range(6):
            await ask_one_more_and_all_again(ledger)
        valkey.stop()
        for _ in range(6):
            await ask_one_more_and_all_again(ledger)
        assert ledger._partitions[0].standby
        await asyncio.to_thread(valkey.start)
        await rig.until_on(ledger, standby=False)
        for _ in range(6):
            await ask_one_more_and_all_again(ledger)
        assert await rig.available(ledger, 1) == 820


async def test_what_only_redis_had_decided_when_it_died_counts_once(
    valkey_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The outbox returns with records that were never journaled, when the same ids have long been decided without."""
    rig, valkey = valkey_site.rig, valkey_site.valkey
    gate = Gate(monkeypatch, Writer, "commit")
    async with rig.ledger() as ledger:
        for card in range(4):
            await rig.give(ledger, card, 1000)
        gate.close()
        asked = [rig.submission(Operation.REDEEM, card, points=100) for card in range(4)]
        waiters = [rig.send(ledger, submission) for submission in asked]
        await gate.reached.wait()
        async with asyncio.timeout(30):
            while ledger._partitions[0].backlog:
                await asyncio.sleep(0.01)
        valkey.kill()
        late = rig.send(ledger, rig.submission(Operation.REDEEM, 9, points=1))
        await rig.until_on(ledger, standby=True)
        gate.open.set()
        replies = [await asyncio.wait_for(waiter.reply, 30) for waiter in waiters]
        assert [reply.balance[0] for reply in replies if reply.balance] == [900] * 4
        assert (await asyncio.wait_for(late.reply, 30)).outcome == Outcome.INSUFFICIENT
        await asyncio.to_thread(valkey.start)
        await rig.until_on(ledger, standby=False)
        assert [await rig.available(ledger, card) for card in range(4)] == [900] * 4
        assert [len(await rig.journal(card)) for card in range(4)] == [2] * 4


async def test_redis_dies_again_while_it_is_returned_to(valkey_site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    rig, valkey = valkey_site.rig, valkey_site.valkey
    registers = Registers(rig, 10, seed=14)
    real, killed = HotStore.reset, []

    async def killing(this: HotStore, partition: int, head: object) -> None:
        if not isinstance(this, StandbyStore) and len(killed) < 2:
            valkey.kill()
            killed.append(head)
        await real(this, partition, head)  # type: ignore[arg-type]

    async with rig.ledger() as ledger:
        monkeypatch.setattr(HotStore, "reset", killing)
        valkey.kill()
        for count in (1, 2):
            load = asyncio.create_task(registers.work(ledger, 60))
            await rig.until_on(ledger, standby=True)
            await asyncio.to_thread(valkey.start)
            async with asyncio.timeout(30):
                while len(killed) < count:
                    await asyncio.sleep(0.01)
            await load
        await rig.until_on(ledger, standby=True)
        await asyncio.to_thread(valkey.start)
        await rig.until_on(ledger, standby=False)
        await registers.work(ledger, 10)
        assert registers.refusals == 0
        await registers.check()


async def test_a_flapping_redis_is_trusted_ever_less_often(valkey_site: Site) -> None:
    rig, valkey = valkey_site.rig, valkey_site.valkey
    registers = Registers(rig, 10, seed=15)
    async with rig.ledger() as ledger:
        load = asyncio.create_task(registers.work(ledger, 400))
        for _ in range(4):
            valkey.kill()
            await asyncio.to_thread(valkey.start)
            await rig.until_on(ledger, standby=False)
        await load
        # It had to be steady for 0.1, 0.2, 0.4 and 0.8 seconds.
        assert ledger._partitions[0]._redis._steady_s == pytest.approx(0.8)
        assert registers.refusals == 0
        await registers.check()


async def test_a_worker_killed_on_standby_leaves_nothing_undone(
    valkey_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig, valkey = valkey_site.rig, valkey_site.valkey
    gate = Gate(monkeypatch, Writer, "commit")
    async with rig.ledger() as ledger:
        await rig.give(ledger, 1, 1000)
        valkey.kill()
        redeem, lost = (rig.submission(Operation.REDEEM, 1, points=100) for _ in range(2))
        first = await rig.ask(ledger, redeem)
        assert ledger._partitions[0].standby
        gate.close()
        rig.send(ledger, lost)
        await gate.reached.wait()
        await ledger.stop(0.0)
        gate.open.set()
        await asyncio.to_thread(valkey.start)
        async with rig.ledger(place=Place("heir")) as heir:
            again = await rig.ask(heir, redeem)
            assert (again.body, again.replayed) == (first.body, True)
            assert await rig.available(heir, 1) == 900
            assert (await rig.ask(heir, lost)).outcome == Outcome.APPROVED
            assert await rig.available(heir, 1) == 800


async def test_a_worker_cut_from_redis_serves_beside_one_that_is_not(postgres_url: str, valkey_url: str) -> None:
    rig = Rig(postgres_url, valkey_url, replace(FAULT_LIMITS, partitions=2))
    await rig.prepare(cards=10, partitions=2)
    ledgers: dict[str, Ledger] = {}

    def forward(address: str, submission: object) -> bool:
        ledgers[address].submit_local(submission)  # type: ignore[arg-type]
        return True

    registers = Registers(rig, 10, seed=16)
    async with (
        rig.ledger(place=Place("on redis", 0, 2), forward=forward) as ledgers["on redis"],
        rig.ledger(place=Place("cut off", 1, 2), forward=forward, redis_url=nowhere()) as ledgers["cut off"],
    ):
        await rig.until_on(ledgers["on redis"], standby=False)
        await rig.until_on(ledgers["cut off"], standby=True)
        await asyncio.gather(*(registers.work(ledger, 30, registers=4) for ledger in ledgers.values()))
        await ledgers["cut off"].stop(2.0)
        async with asyncio.timeout(30):
            while not ledgers["on redis"]._partitions[1].serving:
                await asyncio.sleep(0.01)
        assert not ledgers["on redis"]._partitions[1].standby
        await registers.work(ledgers["on redis"], 30)
        await registers.check()
    assert (await rig.verify()).partitions_not_in_redis == 0


async def test_a_former_owner_whose_heir_has_no_redis_answers_nothing(rig: Rig) -> None:
    """The heir cannot fence it in Redis, so what ends its answers is that its own session has ended."""
    async with rig.ledger(replace(FAULT_LIMITS, owner_check_s=3600.0)) as zombie:
        await rig.give(zombie, 1, 1000)
        async with rig.ledger(place=Place("heir"), redis_url=nowhere()) as heir:
            await end_owner(rig)
            await until_taken(rig, heir)
            await redeemed(rig, heir, 1, 900)
            reply = await rig.do(zombie, Operation.BALANCE, 1)
            assert reply.refusal is Refusal.UNAVAILABLE


async def test_the_heir_of_an_owner_without_redis_waits_until_that_one_has_lost_faith(rig: Rig) -> None:
    """An owner that never asks Redis is not fenced there, and may not know yet that its session has ended."""
    async with rig.ledger(replace(FAULT_LIMITS, owner_check_s=3600.0), redis_url=nowhere()) as zombie:
        await rig.until_on(zombie, standby=True)
        await rig.give(zombie, 1, 1000)
        async with rig.ledger(replace(FAULT_LIMITS, lease_s=3600.0), Place("patient", 1, 2)) as patient:
            await end_owner(rig)
            await until_claimed(rig, "patient")
            await asyncio.sleep(0.2)
            assert not patient._partitions[0].serving
        # Who is last to claim is not who decided last.
        async with rig.ledger(replace(FAULT_LIMITS, lease_s=3600.0), Place("patient", 1, 2)) as patient:
            await until_claimed(rig, "patient")
            await asyncio.sleep(0.2)
            assert not patient._partitions[0].serving
        async with rig.ledger(replace(FAULT_LIMITS, lease_s=0.01), Place("heir")) as heir:
            await until_taken(rig, heir)
            assert not heir._partitions[0].standby
            assert await rig.available(heir, 1) == 1000


async def until_claimed(rig: Rig, owner: str) -> None:
    async with rig.database() as connection, asyncio.timeout(30):
        while await connection.fetchval("SELECT min(owner) FROM partition") != owner:
            await asyncio.sleep(0.01)


async def test_holds_and_lots_run_out_without_redis(rig: Rig) -> None:
    clock = Clock()
    async with rig.ledger(redis_url=nowhere(), clock=clock) as ledger:
        await rig.give(ledger, 1, 1000)
        hold = rig.submission(Operation.HOLD, 1, points=400, hold_ms=60_000)
        assert (await rig.ask(ledger, hold)).outcome == Outcome.APPROVED
        assert await rig.available(ledger, 1) == 600
        clock.ms += 61_000
        expired = await rig.until_journaled(1, Operation.EXPIRE_HOLD)
        assert expired["target"] == hold.request_id
        assert await rig.available(ledger, 1) == 1000
        capture = await rig.do(ledger, Operation.CAPTURE, 1, target=hold.request_id, points=400)
        assert capture.outcome == Outcome.HOLD_EXPIRED


async def test_the_memory_of_the_owner_is_bounded(rig: Rig) -> None:
    registers = Registers(rig, 10, seed=17)
    async with rig.ledger(replace(FAULT_LIMITS, standby_accounts_max=3), redis_url=nowhere()) as ledger:
        await rig.until_on(ledger, standby=True)
        pipeline = ledger._partitions[0]._pipeline
        assert pipeline is not None
        store = pipeline.hot_store
        assert isinstance(store, StandbyStore)
        load = asyncio.create_task(registers.work(ledger, 40))
        most = 0
        while not load.done():
            most = max(most, len(store._memory.data))
            await asyncio.sleep(0.001)
        await load
        # Head and outbox stand beside the accounts; a batch may need more of them, before they are forgotten.
        assert 0 < most <= 2 + 3 + 8
        await registers.check()


async def test_the_books_are_proved_beside_an_owner_that_does_without_redis(
    valkey_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis can be read, and is as far as the journal by another history: it must be known that nobody believes it."""
    rig = valkey_site.rig
    gate = Gate(monkeypatch, Writer, "commit")
    async with rig.ledger() as ledger, rig.redis() as client:
        await rig.give(ledger, 1, 1000)
        gate.close()
        redeem = rig.send(ledger, rig.submission(Operation.REDEEM, 1, points=100))
        await gate.reached.wait()
        await client.execute_command("REPLICAOF", "127.0.0.1", "1")
        other = rig.send(ledger, rig.submission(Operation.REDEEM, 2, points=1))
        await rig.until_on(ledger, standby=True)
        gate.open.set()
        assert (await asyncio.wait_for(redeem.reply, 30)).outcome == Outcome.APPROVED
        assert (await asyncio.wait_for(other.reply, 30)).outcome == Outcome.INSUFFICIENT
        verified = await rig.verify()
        assert (verified.partitions_not_in_redis, verified.hot_accounts) == (1, 0)
        await client.execute_command("REPLICAOF", "NO", "ONE")
        await rig.until_on(ledger, standby=False)
        assert await rig.available(ledger, 1) == 900
        assert (await rig.verify()).hot_accounts == 1
