"""Two workers share the accounts: whoever is asked, one decides; and each gets the partitions that are its own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from ledger.ledger import Ledger, Place
from ledger.limits import Limits
from ledger.operations import Operation, Outcome
from ledger.submission import Refusal, Submission
from tests.rigs.ledger_rig import LIMITS, Rig, token_of

# As in production, whoever gives a partition away could take it back long before its new owner tries again.
TWO = replace(LIMITS, partitions=2, owner_check_s=0.1, acquire_interval_s=0.3, takeover_interval_s=1.5)


class Post:
    """Hands submissions straight to the other worker, as the link between processes does."""

    def __init__(self, limits: Limits = TWO) -> None:
        self.limits = limits
        self.workers: dict[str, Ledger] = {}
        self.forwarded = 0

    def forward(self, address: str, submission: Submission) -> bool:
        worker = self.workers.get(address)
        if worker is None:
            return False
        self.forwarded += 1
        worker.submit_local(submission)
        return True

    @asynccontextmanager
    async def worker(self, rig: Rig, index: int, **options: object) -> AsyncIterator[Ledger]:
        place = Place(f"worker-{index}", index, 2)
        async with rig.ledger(self.limits, place, forward=self.forward, **options) as ledger:
            self.workers[place.address] = ledger
            try:
                yield ledger
            finally:
                del self.workers[place.address]


@pytest.fixture
async def rig(postgres_url: str, valkey_url: str) -> AsyncIterator[Rig]:
    rig = Rig(postgres_url, valkey_url)
    await rig.prepare(cards=6, issued=2, partitions=2)
    yield rig
    await rig.verify()


async def until_both_serve(*ledgers: Ledger) -> None:
    """Wait until each worker serves its own partition and knows the other as the owner of the other one."""
    async with asyncio.timeout(30):
        while not all(
            ledger._partitions[i].serving and ledger._owners.get(1 - i) == f"worker-{1 - i}"
            for i, ledger in enumerate(ledgers)
        ):
            await asyncio.sleep(0.01)


async def test_either_worker_answers_for_every_card(rig: Rig) -> None:
    post = Post()
    async with post.worker(rig, 0) as first, post.worker(rig, 1) as second:
        await until_both_serve(first, second)
        for card in range(6):
            await rig.give(first, card, 1000)
        redeems = [rig.submission(Operation.REDEEM, card, points=100) for card in range(6)]
        at_first = await asyncio.gather(*(rig.ask(first, redeem) for redeem in redeems))
        at_second = await asyncio.gather(*(rig.ask(second, redeem) for redeem in redeems))
        assert [reply.body for reply in at_first] == [reply.body for reply in at_second]
        assert all(reply.replayed for reply in at_second)
        assert post.forwarded
        for redeem in redeems[:2]:
            assert (
                await rig.do(second, Operation.REVERSE, redeems.index(redeem), target=redeem.request_id)
            ).points == 100
        assert [await rig.available(second, card) for card in range(6)] == [1000, 1000, 900, 900, 900, 900]


async def test_a_partition_goes_to_its_own_worker_also_while_it_never_rests(rig: Rig) -> None:
    # Between two commits passes far less time than after which an idle owner looks around.
    post = Post(replace(TWO, owner_check_s=2.0))
    async with post.worker(rig, 0) as first:

        async def work(card: int) -> None:
            while True:
                await rig.insist(first, rig.submission(Operation.EARN, card, amount=20))

        load = [asyncio.create_task(work(card)) for card in range(6)]
        try:
            async with asyncio.timeout(30):
                while not all(partition.serving for partition in first._partitions):
                    await asyncio.sleep(0.01)
            async with post.worker(rig, 1) as second:
                await until_both_serve(first, second)
                assert not any(task.done() for task in load)
        finally:
            for task in load:
                task.cancel()
            await asyncio.gather(*load, return_exceptions=True)


async def test_the_same_id_at_both_workers_at_once_has_one_effect(rig: Rig) -> None:
    post = Post()
    async with post.worker(rig, 0) as first, post.worker(rig, 1) as second:
        await until_both_serve(first, second)
        for card in range(6):
            earn = rig.submission(Operation.EARN, card, amount=20_000)
            replies = await asyncio.gather(*(rig.ask(ledger, earn) for ledger in (first, second) * 4))
            assert {reply.body for reply in replies} == {replies[0].body}
            assert [reply.replayed for reply in replies].count(False) == 1


async def test_an_id_on_two_accounts_of_two_partitions_has_one_effect(rig: Rig) -> None:
    post = Post()
    async with post.worker(rig, 0) as first, post.worker(rig, 1) as second:
        await until_both_serve(first, second)
        for turn in range(5):
            request_id = bytes([turn]) * 16
            replies = await asyncio.gather(
                *(rig.do(first, Operation.EARN, card, amount=20_000, request_id=request_id) for card in (0, 1))
            )
            assert {reply.refusal for reply in replies} == {None, Refusal.ID_REUSED}
        assert await rig.available(first, 0) + await rig.available(first, 1) == 5000


async def test_a_card_moved_by_one_worker_is_followed_by_the_other(rig: Rig) -> None:
    post = Post()
    async with post.worker(rig, 0) as first, post.worker(rig, 1) as second:
        await until_both_serve(first, second)
        for old, new in ((0, 6), (1, 7)):
            await rig.give(first, old, 1000)
            assert (await rig.do(second, Operation.EARN, new, amount=20)).outcome == Outcome.CARD_INACTIVE
            replaced = await rig.do(first, Operation.REPLACE, old, new_token=token_of(new), new_token_kind=1)
            assert replaced.outcome == Outcome.APPROVED
            assert await rig.available(second, new) == 1000
            assert (await rig.do(second, Operation.ACTIVATE, new)).outcome == Outcome.ALREADY_ACTIVE


async def test_a_worker_that_comes_back_gets_its_partition_and_nothing_is_lost(rig: Rig) -> None:
    post = Post()
    async with post.worker(rig, 0) as first:
        async with asyncio.timeout(30):
            while not all(partition.serving for partition in first._partitions):
                await asyncio.sleep(0.01)
        earns = [rig.submission(Operation.EARN, i % 6, amount=20_000) for i in range(60)]
        load = asyncio.gather(*(rig.insist(first, earn) for earn in earns))
        async with post.worker(rig, 1) as second:
            await until_both_serve(first, second)
            assert not first._partitions[1].serving
            assert (first.statistics.epochs, second.statistics.epochs) == (2, 1)
            await load
            assert {await rig.available(second, card) for card in range(6)} == {10_000}
        async with asyncio.timeout(30):
            while not first._partitions[1].serving:
                await asyncio.sleep(0.01)
        assert {await rig.available(first, card) for card in range(6)} == {10_000}


async def test_without_a_way_to_the_owner_the_register_is_told(rig: Rig) -> None:
    nowhere = Post()
    async with nowhere.worker(rig, 0) as first, rig.ledger(TWO, Place("worker-1", 1, 2)) as second:
        await until_both_serve(first, second)
        replies = [await rig.do(first, Operation.EARN, card, amount=20) for card in range(2)]
        assert {reply.refusal for reply in replies} == {None, Refusal.UNAVAILABLE}
