"""An engine did what it was asked, but nobody heard of it: nothing may happen twice, and nothing may be denied."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis.asyncio as redis

from ledger.hot_store import Decided, HotStore, HotStoreDown, PartitionHead
from ledger.journal.reader import Reader
from ledger.journal.writer import Batch, JournalDown, Writer
from ledger.ledger import Ledger
from ledger.operations import Operation, Outcome
from ledger.submission import Refusal, Submission
from tests.campaign.proxy import Direction, Fate, Proxy
from tests.rigs.ledger_rig import Rig, Waiter

Call = Callable[..., Awaitable[Any]]


class Loses:
    """Lets a method do its work and loses the answer of those calls that `when` names."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: type, name: str, error: type[Exception]) -> None:
        self.left = 0
        self.lost = 0
        self.when: Callable[[Any], bool] = lambda _result: True
        real: Call = getattr(owner, name)

        async def call(this: Any, *args: Any, **options: Any) -> Any:
            result = await real(this, *args, **options)
            if self.left and self.when(result):
                self.left -= 1
                self.lost += 1
                raise error("the answer is lost")
            return result

        monkeypatch.setattr(owner, name, call)


class Gate:
    """Holds the calls of a method back until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.reached = asyncio.Event()
        real: Call = getattr(owner, name)

        async def call(this: Any, *args: Any, **options: Any) -> Any:
            self.reached.set()
            await self.open.wait()
            return await real(this, *args, **options)

        monkeypatch.setattr(owner, name, call)

    def close(self) -> None:
        self.open.clear()
        self.reached.clear()


async def forgotten_by_the_ring(rig: Rig, ledger: Ledger, card: int) -> Submission:
    """Return an approved redemption of 100 that only PostgreSQL remembers; 892 points are left."""
    await rig.give(ledger, card, 1000)
    redeem = rig.submission(Operation.REDEEM, card, points=100)
    await rig.ask(ledger, redeem)
    for _ in range(8):
        await rig.do(ledger, Operation.REDEEM, card, points=1)
    return redeem


async def test_what_was_decided_on_something_vetoed_meanwhile_is_not_told(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The decision comes back when the vetoed batch is done with and nothing of the account is uncommitted."""
    async with rig.ledger() as ledger:
        redeem = await forgotten_by_the_ring(rig, ledger, 1)
        commits = Gate(monkeypatch, Writer, "commit")
        decided, back = asyncio.Event(), asyncio.Event()
        decide = HotStore.decide

        async def comes_late(this: HotStore, *args: Any) -> Decided:
            found = await decide(this, *args)
            if any(request[0] == Operation.BALANCE for _, _, request in args[-1][3]):
                decided.set()
                await back.wait()
            return found

        monkeypatch.setattr(HotStore, "decide", comes_late)
        commits.close()
        again = rig.send(ledger, redeem)
        await commits.reached.wait()
        balance = rig.send(ledger, rig.submission(Operation.BALANCE, 1))
        await decided.wait()
        commits.open.set()
        assert (await asyncio.wait_for(again.reply, 30)).replayed
        pipeline = ledger._partitions[0]._pipeline
        assert pipeline is not None
        while not pipeline._committer.idle:
            await asyncio.sleep(0)
        back.set()
        told = (await asyncio.wait_for(balance.reply, 30)).balance
        assert told is not None
        assert told[0] == 892


async def test_lost_answer_of_the_script_is_not_applied_twice_midaz_2485(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    loses = Loses(monkeypatch, HotStore, "decide", HotStoreDown)
    async with rig.ledger() as ledger:
        for card in range(4):
            await rig.give(ledger, card, 1000)
        loses.left = 3
        replies = await asyncio.gather(*(rig.do(ledger, Operation.REDEEM, card, points=300) for card in range(4)))
        assert loses.lost == 3
        assert {reply.outcome for reply in replies} == {Outcome.APPROVED}
        assert {await rig.available(ledger, card) for card in range(4)} == {700}


async def test_a_script_whose_answer_is_cut_off_on_the_line_is_sent_once_midaz_2485(valkey_url: str) -> None:
    port = urlsplit(valkey_url).port
    assert port is not None
    proxy = Proxy(port, random.Random(1))  # noqa: S311 - where the answer is cut is no secret
    hot_store = HotStore.at(valkey_url.replace(f":{port}/", f":{await proxy.start()}/"), timeout_s=10.0)
    head, empty = PartitionHead(1, 1, 0), [0, [], [], []]
    async with redis.Redis.from_url(valkey_url) as client:

        async def calls() -> int:
            return int((await client.info("commandstats"))["cmdstat_evalsha"]["calls"])

        try:
            await hot_store.reset(0, head)
            await hot_store.decide(0, head, 0, [], empty)
            before = await calls()
            # Only the line that there is: on a new one the driver could say it all again.
            for line in proxy.lines:
                line.fates[Direction.DOWN] = Fate.CUT
            with pytest.raises(HotStoreDown):
                await hot_store.decide(0, head, 0, [], empty)
            assert await calls() == before + 1
            await hot_store.decide(0, head, 0, [], empty)
        finally:
            await hot_store.close()
            await proxy.close()


async def test_what_may_have_been_executed_is_not_called_expired_punchh(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    loses = Loses(monkeypatch, HotStore, "decide", HotStoreDown)
    recovery = Gate(monkeypatch, Writer, "claim")
    async with rig.ledger() as ledger:
        await rig.give(ledger, 1, 1000)
        recovery.close()
        loses.left = 1
        redeem = rig.submission(Operation.REDEEM, 1, points=300, ttl_s=0.3)
        waiter = rig.send(ledger, redeem)
        await recovery.reached.wait()
        # Its deadline passes while the partition recovers.
        await asyncio.sleep(max(0.0, redeem.deadline - time.monotonic()) + 0.05)
        recovery.open.set()
        assert (await asyncio.wait_for(waiter.reply, 30)).refusal is Refusal.UNAVAILABLE
        assert loses.lost == 1
        assert (await rig.insist(ledger, redeem)).outcome == Outcome.APPROVED
        assert await rig.available(ledger, 1) == 700


async def test_two_histories_of_an_account_are_never_in_one_commit(
    rig: Rig, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits = Gate(monkeypatch, Writer, "commit")
    async with rig.ledger() as ledger, redis.Redis.from_url(valkey_url) as client:
        await rig.give(ledger, 1, 1000)
        (key,) = [key async for key in client.scan_iter("tillwire:{0}:[0-9]*")]
        before = await client.get(key)

        async def spent(points: int) -> Waiter:
            waiter = rig.send(ledger, rig.submission(Operation.REDEEM, 1, points=points))
            async with asyncio.timeout(30):
                while await client.get(key) == before:
                    await asyncio.sleep(0.005)
            return waiter

        # The first commit is under way; behind it two batches wait that were decided on the same state.
        commits.close()
        earning = rig.send(ledger, rig.submission(Operation.EARN, 2, amount=20_000))
        await commits.reached.wait()
        waiters = [await spent(100)]
        await client.set(key, before)
        waiters.append(await spent(200))
        commits.open.set()
        replies = [await asyncio.wait_for(waiter.reply, 30) for waiter in (earning, *waiters)]
        assert {reply.outcome for reply in replies} == {Outcome.APPROVED}
        assert await rig.available(ledger, 1) == 700


async def test_lost_confirmation_of_a_commit_is_not_journaled_twice_midaz_2032(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    loses = Loses(monkeypatch, Writer, "commit", JournalDown)
    async with rig.ledger() as ledger:
        await rig.give(ledger, 1, 1000)
        loses.left = 2
        redeem = rig.submission(Operation.REDEEM, 1, points=300)
        replies = await asyncio.gather(*(rig.ask(ledger, redeem) for _ in range(5)))
        assert loses.lost
        assert {reply.body for reply in replies} == {replies[0].body}
        assert await rig.available(ledger, 1) == 700
        assert len(await rig.journal(1)) == 2


async def test_a_batch_committed_twice_changes_nothing_the_second_time(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, vetoed = Writer.commit, []

    async def twice(this: Writer, batch: Batch, forget: Any) -> set[int]:
        first = await real(this, batch, forget)
        vetoed.append((await real(this, batch, forget), set(batch.accounts) - first))
        return first

    monkeypatch.setattr(Writer, "commit", twice)
    async with rig.ledger() as ledger:
        await rig.give(ledger, 1, 1000)
        await rig.do(ledger, Operation.REDEEM, 1, points=300, limited_day=ledger.today())
        assert await rig.available(ledger, 1) == 700
        assert await ledger.terminal_spent_today(rig.terminal_id) == 300
    assert vetoed
    assert all(second == taken for second, taken in vetoed)


async def test_nobody_is_answered_twice_when_a_look_up_fails_behind_a_commit(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replay waits for the journal in the batch in which others are answered already."""
    async with rig.ledger() as ledger:
        earn = await rig.give(ledger, 1, 1000)
        fails = Loses(monkeypatch, Reader, "stored", JournalDown)
        fails.left = 1
        waiters = [rig.send(ledger, earn)]
        waiters += [rig.send(ledger, rig.submission(Operation.REDEEM, card, points=1)) for card in (1, 1, 2)]
        replies = [await asyncio.wait_for(waiter.reply, 30) for waiter in waiters]
        assert fails.lost == 1
        assert replies[0].replayed
        assert [reply.outcome for reply in replies] == [0, 0, 0, Outcome.INSUFFICIENT]
        assert await rig.available(ledger, 1) == 998


async def test_a_read_behind_a_vetoed_change_is_not_answered_from_it(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis has forgotten an old redemption and makes it again; who asks before the veto must not see that."""
    gate = Gate(monkeypatch, Writer, "commit")
    async with rig.ledger() as ledger:
        redeem = await forgotten_by_the_ring(rig, ledger, 1)
        gate.close()
        again = rig.send(ledger, redeem)
        await gate.reached.wait()
        balance = rig.send(ledger, rig.submission(Operation.BALANCE, 1))
        declined = rig.send(ledger, rig.submission(Operation.REDEEM, 1, points=850))
        async with asyncio.timeout(30):
            while ledger._partitions[0].backlog:
                await asyncio.sleep(0.01)
        gate.open.set()
        assert (await asyncio.wait_for(again.reply, 30)).replayed
        assert (await asyncio.wait_for(declined.reply, 30)).outcome == Outcome.APPROVED
        assert (await asyncio.wait_for(balance.reply, 30)).balance in ([892, 0, 0, 0, 0, 0], [42, 0, 0, 0, 0, 0])


@pytest.mark.parametrize("fault", ["the commit that vetoed is not heard of", "the look-up behind it fails"])
async def test_a_crash_right_behind_a_veto_leaves_no_vetoed_points_in_redis(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    async with rig.ledger() as ledger:
        redeem = await forgotten_by_the_ring(rig, ledger, 1)
        if fault.startswith("the commit"):
            loses = Loses(monkeypatch, Writer, "commit", JournalDown)
            loses.when = bool
        else:
            loses = Loses(monkeypatch, Reader, "stored", JournalDown)
        loses.left = 1
        rig.send(ledger, redeem)
        async with asyncio.timeout(30):
            while not loses.lost:
                await asyncio.sleep(0.01)
    # The worker is gone before it could reload the account; another one knows nothing of the veto.
    async with rig.ledger() as ledger:
        assert await rig.available(ledger, 1) == 892
