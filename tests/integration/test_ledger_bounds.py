"""What is too late, too much or in the way of a stop: refused at once, and everybody is answered."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from ledger.hot_store import Decided, HotStore
from ledger.journal.reader import Reader
from ledger.operations import Operation, Outcome
from ledger.submission import Refusal
from tests.rigs.ledger_rig import LIMITS, Rig, token_of


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing under way here needs the time that `verify` leaves a running server."""
    monkeypatch.setattr("ledger.verify._SETTLE_S", 0.005)


async def test_a_request_past_its_deadline_is_not_executed(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        await rig.give(ledger, 1, 1000)
        late = [rig.submission(op, 1, points=1, amount=20, target=b"t" * 16, ttl_s=-1.0)
                for op in (Operation.REDEEM, Operation.HOLD, Operation.EARN, Operation.REFUND, Operation.REVERSE,
                           Operation.BALANCE)]  # fmt: skip
        replies = [await rig.send(ledger, submission).reply for submission in late]
        assert {reply.refusal for reply in replies} == {Refusal.EXPIRED}
        assert len(await rig.journal(1)) == 1
        in_time = replace(late[0], deadline=late[0].deadline + 30)
        assert (await rig.ask(ledger, in_time)).outcome == Outcome.APPROVED


async def test_a_request_that_waits_too_long_for_its_cold_account_is_not_executed(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Reader.heads

    async def slow(this: Reader, accounts: list[int]) -> object:
        await asyncio.sleep(0.3)
        return await read(this, accounts)

    monkeypatch.setattr(Reader, "heads", slow)
    async with rig.ledger() as ledger:
        reply = await rig.send(ledger, rig.submission(Operation.EARN, 1, amount=20_000, ttl_s=0.1)).reply
        assert reply.refusal is Refusal.EXPIRED
        assert await rig.available(ledger, 1) == 0


async def test_more_than_may_wait_is_refused_as_busy_and_the_rest_is_served(rig: Rig) -> None:
    async with rig.ledger(replace(LIMITS, queue_requests_max=8)) as ledger:
        await rig.give(ledger, 1, 1000)
        waiters = [rig.send(ledger, rig.submission(Operation.REDEEM, 1, points=1)) for _ in range(50)]
        replies = [await asyncio.wait_for(waiter.reply, 30) for waiter in waiters]
        assert [reply.refusal for reply in replies].count(Refusal.BUSY) == 42
        assert [reply.outcome for reply in replies].count(Outcome.APPROVED) == 8


async def test_what_would_wait_too_long_is_refused_as_busy(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    permits = asyncio.Semaphore(0)
    asked = asyncio.Condition()
    calls = 0
    decide = HotStore.decide

    async def held_back(this: HotStore, *args: Any) -> Decided:
        nonlocal calls
        async with asked:
            calls += 1
            asked.notify_all()
        await permits.acquire()
        return await decide(this, *args)

    async with rig.ledger(replace(LIMITS, queue_wait_max_s=0.05, batch_requests_max=1)) as ledger:
        await rig.give(ledger, 1, 1000)
        monkeypatch.setattr(HotStore, "decide", held_back)
        waiters = [rig.send(ledger, rig.submission(Operation.REDEEM, 1, points=1)) for _ in range(4)]
        await asyncio.sleep(0.1)
        permits.release()
        async with asked:
            await asked.wait_for(lambda: calls == 2)
        assert ledger.overloaded
        assert (await rig.do(ledger, Operation.REDEEM, 1, points=1)).refusal is Refusal.BUSY
        for _ in range(20):
            permits.release()
        replies = [await asyncio.wait_for(waiter.reply, 30) for waiter in waiters]
        assert [reply.outcome for reply in replies] == [Outcome.APPROVED] * 4
        assert not ledger.overloaded
        assert await rig.available(ledger, 1) == 996


async def test_more_cards_than_may_be_looked_up_are_refused_as_busy(rig: Rig) -> None:
    async with rig.ledger(replace(LIMITS, queue_requests_max=8)) as ledger:
        waiters = [rig.send(ledger, rig.submission(Operation.EARN, 1, amount=20)) for _ in range(20)]
        replies = [await asyncio.wait_for(waiter.reply, 30) for waiter in waiters]
        assert [reply.refusal for reply in replies].count(Refusal.BUSY) == 12


async def test_small_batches_and_little_room_decide_everything_all_the_same(rig: Rig) -> None:
    limits = replace(LIMITS, batch_requests_max=1, uncommitted_entries_max=1, loads_max=1)
    async with rig.ledger(limits) as ledger:
        await asyncio.gather(*(rig.do(ledger, Operation.EARN, i % 10, amount=20_000) for i in range(60)))
        assert {await rig.available(ledger, card) for card in range(10)} == {6000}


async def test_more_than_a_batch_on_one_cold_account_is_decided(rig: Rig) -> None:
    async with rig.ledger(replace(LIMITS, batch_requests_max=3)) as ledger:
        replies = await asyncio.gather(*(rig.do(ledger, Operation.EARN, 1, amount=20) for _ in range(40)))
        assert {reply.outcome for reply in replies} == {Outcome.APPROVED}
        assert await rig.available(ledger, 1) == 40


async def test_the_card_index_remembers_no_more_than_it_may(rig: Rig) -> None:
    async with rig.ledger(replace(LIMITS, card_index_entries_max=4)) as ledger:
        known = ledger._card_index.known
        for card in (0, 1, 2, 3, 4, 77, 78):
            await rig.do(ledger, Operation.BALANCE, card)
        # 77 and 78 lead nowhere.
        assert {card for card in range(80) if known(token_of(card)) is not None} == {1, 2, 3, 4}
        await asyncio.gather(*(rig.do(ledger, Operation.BALANCE, card) for card in range(10)))
        assert sum(known(token_of(card)) is not None for card in range(10)) == 4


async def test_greeting_names_are_remembered_up_to_a_bound(rig: Rig) -> None:
    async with rig.ledger(replace(LIMITS, greetings_max=2)) as ledger:
        for card in range(10):
            await rig.do(ledger, Operation.BALANCE, card, greeting=True)
        greetings = ledger._partitions[0]._services.greetings
        assert len(greetings._names) == 2


# ---- stopping


async def test_a_stopping_ledger_answers_everybody_and_ends(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        await rig.give(ledger, 1, 1000)
        ops = (Operation.REDEEM, Operation.REVERSE, Operation.STATUS, Operation.BALANCE)
        waiters = [rig.send(ledger, rig.submission(op, card, points=1, target=bytes([i, card]) * 8))
                   for i in range(20) for op in ops for card in (1, 2, 10, 77)]  # fmt: skip
        await ledger.stop(10.0)
        replies = [waiter.reply.result() for waiter in waiters]
        assert {reply.refusal for reply in replies} == {None}
        late = rig.send(ledger, rig.submission(Operation.REDEEM, 1, points=1))
        unknown = rig.send(ledger, rig.submission(Operation.REDEEM, 5, points=1))
        assert late.reply.result().refusal is unknown.reply.result().refusal is Refusal.UNAVAILABLE


async def test_a_ledger_stopped_without_patience_leaves_nobody_without_an_answer(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        await rig.give(ledger, 1, 1000)
        for delay_s in (0.0, 0.002, 0.005):
            waiters = [rig.send(ledger, rig.submission(Operation.REDEEM, card, points=1))
                       for card in (1, 1, 2, 10, 77)]  # fmt: skip
            await asyncio.sleep(delay_s)
        await ledger.stop(0.0)
        assert all(waiter.reply.done() for waiter in waiters)


@pytest.mark.parametrize("delay_ms", range(0, 10, 2))
async def test_a_cancellation_in_the_middle_of_a_script_call_ends_the_ledger(rig: Rig, delay_ms: int) -> None:
    async with rig.ledger() as ledger:
        await rig.give(ledger, 1, 1000)

        async def ask_for_ever() -> None:
            while True:
                rig.send(ledger, rig.submission(Operation.REDEEM, 1, points=1))
                await asyncio.sleep(0)

        asking = asyncio.create_task(ask_for_ever())
        await asyncio.sleep(delay_ms / 1000)
        async with asyncio.timeout(30):
            await ledger.stop(0.0)
        asking.cancel()


async def test_cancellations_during_script_calls_never_shift_the_answers(rig: Rig) -> None:
    """A driver that gave a connection back with an answer still to come would answer the next call with it."""
    async with rig.ledger() as ledger:
        await rig.give(ledger, 1, 1000)
    hot_store = HotStore.at(rig.redis_url, timeout_s=2.0)
    try:
        for turn in range(40):
            call = asyncio.create_task(hot_store.ping())
            for _ in range(turn % 5):
                await asyncio.sleep(0)
            call.cancel()
            head, states = await hot_store.states(0, [2])
            assert head is not None
            assert list(states) == [2]
    finally:
        await hot_store.close()


async def test_stopping_twice_is_harmless(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        await ledger.stop(1.0)
        await ledger.stop(1.0)


async def test_a_bug_ends_the_ledger_instead_of_hiding(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    async with rig.ledger() as ledger:

        def broken(*_: object) -> bool:
            raise AssertionError("a bug")

        monkeypatch.setattr("ledger.committing._size", broken)
        waiter = rig.send(ledger, rig.submission(Operation.EARN, 1, amount=20_000))
        with pytest.raises(BaseExceptionGroup) as bug:
            await asyncio.wait_for(ledger.failed(), 30)
        assert bug.group_contains(AssertionError)
        assert waiter.reply.result().refusal is Refusal.UNAVAILABLE


async def test_an_unknown_time_zone_leaves_the_programme_as_it_was(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        before = ledger.programme
        async with rig.database() as connection:
            await connection.execute("UPDATE programme SET time_zone = 'Mars/Olympus', version = version + 1")
        await rig.give(ledger, 1, 100)
        await asyncio.sleep(rig.limits.refresh_interval_s * 3)
        assert ledger.programme is before
        async with rig.database() as connection:
            await connection.execute("UPDATE programme SET time_zone = 'Europe/Riga', version = version + 1")
        async with asyncio.timeout(30):
            while ledger.programme is before:
                await asyncio.sleep(0.01)
        await rig.give(ledger, 1, 100)
