"""PostgreSQL gone: balances are told and say of themselves that they are provisional, spending is refused at once."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import redis.asyncio as redis

from ledger.hot_store import HotStore
from ledger.journal.writer import JournalDown, Writer
from ledger.ledger import Ledger
from ledger.operations import Operation, Outcome
from ledger.submission import Refusal
from server.engines.postgres import EmbeddedPostgres
from tests.faults.conftest import Site
from tests.rigs.ledger_rig import FAULT_LIMITS, Reply, Rig

#: PostgreSQL is given up sooner than in production, so that the tests are done sooner.
IMPATIENT = replace(FAULT_LIMITS, postgres_timeout_s=3.0, journal_silence_s=0.3, recovery_patience_s=0.3)


async def balance(rig: Rig, ledger: Ledger, card: int) -> Reply:
    return await rig.do(ledger, Operation.BALANCE, card)


async def until_away(rig: Rig, ledger: Ledger, card: int) -> None:
    """Wait until PostgreSQL is known to be away."""
    async with asyncio.timeout(30):
        while not (await balance(rig, ledger, card)).provisional:
            await asyncio.sleep(0.01)


async def until_back(rig: Rig, ledger: Ledger, card: int) -> Reply:
    async with asyncio.timeout(30):
        while True:
            reply = await balance(rig, ledger, card)
            if reply.refusal is None and not reply.provisional:
                return reply
            await asyncio.sleep(0.01)


@contextmanager
def frozen(postgres: EmbeddedPostgres) -> Iterator[None]:
    postgres.pause()
    try:
        yield
    finally:
        postgres.resume()


async def test_balances_are_told_and_nothing_else(site: Site) -> None:
    rig = site.rig
    async with rig.ledger() as ledger:
        for card in range(3):
            await rig.give(ledger, card, 1000)
        await rig.do(ledger, Operation.REDEEM, 1, points=250)
        await rig.do(ledger, Operation.HOLD, 1, points=100)
        await rig.do(ledger, Operation.BLOCK, 2)
        assert not (await balance(rig, ledger, 1)).provisional
        site.postgres.stop()
        await until_away(rig, ledger, 1)
        told = await balance(rig, ledger, 1)
        assert (told.outcome, told.balance, told.provisional) == (Outcome.APPROVED, [650, 100, 0, 0, 0, 0], True)
        assert (told.replayed, told.greeting) == (False, None)
        blocked = await balance(rig, ledger, 2)
        assert (blocked.outcome, blocked.provisional) == (Outcome.CARD_BLOCKED, True)
        forbidden = await rig.do(ledger, Operation.BALANCE, 1, permitted=False)
        assert (forbidden.outcome, forbidden.provisional) == (Outcome.NOT_PERMITTED, True)
        others = [rig.submission(op, 1, points=1, amount=20, target=b"t" * 16) for op in Operation
                  if op not in (Operation.BALANCE, Operation.SETTLE)]  # fmt: skip
        # One that nobody has seen since the start, and one that does not exist.
        others += [rig.submission(Operation.BALANCE, card) for card in (7, 99)]
        replies = await asyncio.gather(*(rig.ask(ledger, submission) for submission in others))
        assert {reply.refusal for reply in replies} == {Refusal.UNAVAILABLE}
        assert ledger.statistics.provisional_balances >= 4
        await asyncio.to_thread(site.postgres.start)
        assert (await until_back(rig, ledger, 1)).balance == [650, 100, 0, 0, 0, 0]
        assert (await rig.insist(ledger, rig.submission(Operation.REDEEM, 1, points=650))).outcome == Outcome.APPROVED


async def test_a_frozen_postgresql_makes_nobody_wait_who_comes_later(site: Site) -> None:
    rig = site.rig
    async with rig.ledger(IMPATIENT) as ledger:
        await rig.give(ledger, 1, 1000)
        with frozen(site.postgres):
            first = rig.send(ledger, rig.submission(Operation.REDEEM, 1, points=100))
            async with asyncio.timeout(30):
                while not ledger._pulse.silent:
                    await asyncio.sleep(0.01)
            # Known to be silent while the first one's commit still hangs: these get their answers before it.
            told = await balance(rig, ledger, 1)
            assert told.provisional
            for card in (1, 2, 99):
                reply = await rig.do(ledger, Operation.REDEEM, card, points=1)
                assert reply.refusal is Refusal.UNAVAILABLE
            assert not first.reply.done()
            assert (await asyncio.wait_for(first.reply, 30)).refusal is Refusal.UNAVAILABLE
            assert (await balance(rig, ledger, 1)).provisional
        reply = await until_back(rig, ledger, 1)
        assert reply.balance in ([900, 0, 0, 0, 0, 0], [1000, 0, 0, 0, 0, 0])


async def test_a_balance_that_waits_for_a_commit_is_told_when_that_fails(site: Site) -> None:
    rig = site.rig
    async with rig.ledger(IMPATIENT) as ledger:
        await rig.give(ledger, 1, 1000)
        with frozen(site.postgres):
            redeem = rig.send(ledger, rig.submission(Operation.REDEEM, 1, points=100))
            asked = rig.send(ledger, rig.submission(Operation.BALANCE, 1))
            told = await asyncio.wait_for(asked.reply, 30)
            assert (told.balance, told.provisional) == ([900, 0, 0, 0, 0, 0], True)
            assert (await asyncio.wait_for(redeem.reply, 30)).refusal is Refusal.UNAVAILABLE
        await until_back(rig, ledger, 1)


async def test_what_was_under_way_is_in_the_figure_and_then_in_the_journal(site: Site) -> None:
    rig = site.rig
    async with rig.ledger() as ledger:
        await rig.give(ledger, 1, 1000)
        site.postgres.kill()
        redeem = rig.submission(Operation.REDEEM, 1, points=100)
        assert (await rig.ask(ledger, redeem)).refusal is Refusal.UNAVAILABLE
        told = await balance(rig, ledger, 1)
        assert (told.balance, told.provisional) == ([900, 0, 0, 0, 0, 0], True)
        await asyncio.to_thread(site.postgres.start)
        again = await rig.insist(ledger, redeem)
        assert (again.outcome, again.replayed) == (Outcome.APPROVED, True)
        assert await rig.available(ledger, 1) == 900


@pytest.mark.parametrize("change", ["flushed", "taken over", "rolled back", "spoilt", "dead"])
async def test_a_redis_that_is_not_where_it_was_left_tells_nothing(site: Site, change: str) -> None:
    rig = site.rig
    async with rig.ledger() as ledger, redis.Redis.from_url(rig.redis_url) as client:
        await rig.give(ledger, 1, 1000)
        await rig.give(ledger, 1, 1000)
        site.postgres.stop()
        await until_away(rig, ledger, 1)
        head = await client.get("tillwire:{0}:head")
        epoch, generation, mark = (int(part) for part in head.split(b":"))
        if change == "flushed":
            await client.flushall()
        elif change == "taken over":
            await client.set("tillwire:{0}:head", f"{epoch + 1}:{generation}:{mark}")
        elif change == "rolled back":
            await client.set("tillwire:{0}:head", f"{epoch}:{generation}:{mark - 1}")
        elif change == "spoilt":
            for key in await client.keys("tillwire:{0}:[0-9]*"):
                await client.set(key, (await client.get(key))[:11])
            assert (await balance(rig, ledger, 1)).refusal is Refusal.UNAVAILABLE
            for key in await client.keys("tillwire:{0}:[0-9]*"):
                await client.set(key, (await client.get(key))[:10] + b"\x93\x01\x02\x03")
        else:
            site.valkey.kill()
        replies = [await balance(rig, ledger, 1) for _ in range(3)]
        assert {reply.refusal for reply in replies} == {Refusal.UNAVAILABLE}
        if change == "dead":
            await asyncio.to_thread(site.valkey.start)
        await asyncio.to_thread(site.postgres.start)
        assert (await until_back(rig, ledger, 1)).balance == [2000, 0, 0, 0, 0, 0]


async def test_both_engines_gone_the_owner_still_tells_what_it_remembers(site: Site) -> None:
    rig = site.rig
    async with rig.ledger() as ledger:
        await rig.give(ledger, 1, 1000)
        site.valkey.kill()
        assert (await rig.do(ledger, Operation.REDEEM, 1, points=100)).outcome == Outcome.APPROVED
        site.postgres.kill()
        await until_away(rig, ledger, 1)
        told = await balance(rig, ledger, 1)
        assert (told.balance, told.provisional) == ([900, 0, 0, 0, 0, 0], True)
        assert (await rig.do(ledger, Operation.REDEEM, 1, points=1)).refusal is Refusal.UNAVAILABLE
        await asyncio.to_thread(site.postgres.start)
        assert (await until_back(rig, ledger, 1)).balance == [900, 0, 0, 0, 0, 0]
        await asyncio.to_thread(site.valkey.start)
        await rig.until_on(ledger, standby=False)
        assert await rig.available(ledger, 1) == 900


async def test_a_frozen_redis_keeps_nobody_waiting_for_a_balance(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = site.rig
    limits = replace(FAULT_LIMITS, redis_timeout_s=0.3, redis_probe_interval_s=3600.0)
    reads = []
    real = HotStore.states

    async def counted(this: HotStore, *args: object) -> object:
        reads.append(args)
        return await real(this, *args)  # type: ignore[arg-type]

    async with rig.ledger(limits) as ledger:
        await rig.give(ledger, 1, 1000)
        site.postgres.stop()
        await until_away(rig, ledger, 1)
        monkeypatch.setattr(HotStore, "states", counted)
        site.valkey.pause()
        try:
            for _ in range(5):
                assert (await balance(rig, ledger, 1)).refusal is Refusal.UNAVAILABLE
            assert len(reads) == 1
        finally:
            site.valkey.resume()
        await asyncio.to_thread(site.postgres.start)
        assert (await until_back(rig, ledger, 1)).balance == [1000, 0, 0, 0, 0, 0]


async def test_a_postgresql_that_can_be_read_but_not_written_is_away_as_well(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when its disk is full: every look-up succeeds, and no epoch can begin."""
    refused = []

    async def refuse(this: Writer, *args: object) -> None:
        refused.append(args)
        raise JournalDown("no space left on device")

    async with rig.ledger() as ledger:
        await rig.give(ledger, 1, 1000)
        for name in ("claim", "commit"):
            monkeypatch.setattr(Writer, name, refuse)
        assert (await rig.do(ledger, Operation.REDEEM, 1, points=1)).refusal is Refusal.UNAVAILABLE
        for _ in range(20):
            assert (await balance(rig, ledger, 1)).provisional
            await asyncio.sleep(0.02)
        assert len(refused) > 1
        monkeypatch.undo()
        assert (await until_back(rig, ledger, 1)).refusal is None


async def test_a_known_terminal_may_sign_on_unless_the_programme_has_changed_since(site: Site) -> None:
    rig = site.rig
    async with rig.ledger() as ledger:
        known = (await ledger.terminals(["till-1"])).get("till-1")
        assert known is not None
        site.postgres.stop()
        assert (await ledger.terminals(["till-1"])).get("till-1") == known
        with pytest.raises(JournalDown):
            await ledger.terminals(["till-2"])
        await asyncio.to_thread(site.postgres.start)
        async with asyncio.timeout(30), rig.database() as connection:
            version = ledger.programme.version
            await connection.execute("UPDATE terminal SET active = false")
            while ledger.programme.version == version:
                await asyncio.sleep(0.01)
        site.postgres.stop()
        with pytest.raises(JournalDown):
            (await ledger.terminals(["till-1"])).get("till-1")
        await asyncio.to_thread(site.postgres.start)
        suspended = (await ledger.terminals(["till-1"])).get("till-1")
        assert suspended is not None
        assert not suspended.active
