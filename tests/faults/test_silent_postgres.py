"""PostgreSQL, or the way to it, falls silent between BEGIN and COMMIT: nobody waits for ever."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio

from ledger.clock import SystemClock
from ledger.journal.partitioning import ensure_partitions
from ledger.journal.postgres import Postgres
from ledger.journal.pulse import Pulse
from ledger.journal.reader import Reader
from ledger.journal.writer import Batch, CardChange, JournalDown, Writer
from ledger.operations import Operation, Outcome
from ledger.registry.registry import Registry
from ledger.submission import Refusal
from tests.rigs.ledger_rig import FAULT_LIMITS, Rig, token_of
from tests.rigs.silent_postgres import SilentPostgres

#: What ends in time ends long before; what does not would wait for as long as PostgreSQL is silent.
PATIENCE_S = 20.0
SHORT_S, LONG_S = 1.5, 600.0
WITH_A_DAY = Batch(1, terminal_days=[(1, 1, 20_000, 5)])
WITH_ONE_CARD_FOR_TWO = Batch(1, cards=[CardChange(token_of(1), account, 1, 0, "") for account in (1, 2)])


@pytest_asyncio.fixture
async def postgres(rig: Rig) -> AsyncIterator[SilentPostgres]:
    async with SilentPostgres(rig.postgres_url).running() as postgres:
        yield postgres


async def writer_on(postgres: SilentPostgres, timeout_s: float) -> Writer:
    writer = await Writer.try_open(Postgres(postgres.url), 0, timeout_s=timeout_s, idle_timeout_s=60.0)
    assert writer is not None
    await writer.claim("owner")
    return writer


async def forget(accounts: set[int]) -> None:
    """Redis forgets them."""


async def accounts(registry: Registry) -> int:
    async with registry.writing() as transaction:
        return int(await transaction.fetchval("SELECT count(*) FROM account"))


async def ended(task: asyncio.Task[Any]) -> asyncio.Task[Any]:
    """Wait for a task's end without cancelling it, which may be what it waits for."""
    await asyncio.wait([task], timeout=PATIENCE_S)
    assert task.done()
    return task


async def cancelled_in_silence(postgres: SilentPostgres, work: Coroutine[Any, Any, object]) -> bool:
    """Start what falls silent, cancel it once, and return whether it took that for what it is."""
    task = asyncio.create_task(work)
    await asyncio.wait_for(postgres.silent.wait(), PATIENCE_S)
    # What was being sent is under way.
    await asyncio.sleep(0.05)
    assert not task.done()
    task.cancel()
    return (await ended(task)).cancelled()


@pytest.mark.parametrize(
    ("batch", "word", "behind"),
    [
        (WITH_A_DAY, b"BEGIN;", 0),
        (WITH_A_DAY, b"BEGIN;", 1),
        (WITH_A_DAY, b"INTO terminal_day", 0),
        (WITH_A_DAY, b"COMMIT;", 0),
        (WITH_ONE_CARD_FOR_TWO, b"ROLLBACK;", 0),
    ],
)
class TestACommit:
    async def test_is_given_up_in_time(self, postgres: SilentPostgres, batch: Batch, word: bytes, behind: int) -> None:
        writer = await writer_on(postgres, SHORT_S)
        postgres.fall_silent_at(word, behind=behind)
        task = await ended(asyncio.create_task(writer.commit(batch, forget)))
        assert isinstance(task.exception(), JournalDown)
        assert postgres.silent.is_set()

    async def test_that_is_cancelled_ends_at_once(
        self, postgres: SilentPostgres, batch: Batch, word: bytes, behind: int
    ) -> None:
        writer = await writer_on(postgres, LONG_S)
        postgres.fall_silent_at(word, behind=behind)
        assert await cancelled_in_silence(postgres, writer.commit(batch, forget))
        assert writer.disconnected


@pytest.mark.parametrize(("word", "behind"), [(b"BEGIN;", 0), (b"BEGIN;", 1), (b"COMMIT;", 0)])
async def test_an_owner_lets_go_answers_everybody_and_owns_again(
    rig: Rig, postgres: SilentPostgres, word: bytes, behind: int
) -> None:
    """The network thaws when the owner has long given up: what was sent then arrives, the COMMIT perhaps with it."""
    straight, rig.postgres_url = rig.postgres_url, postgres.url
    limits = replace(FAULT_LIMITS, postgres_timeout_s=3.0, owner_check_s=0.1, lease_s=1.0, journal_silence_s=LONG_S)
    try:
        async with rig.ledger(limits) as ledger:
            await rig.give(ledger, 1, 1000)
            block = rig.submission(Operation.BLOCK, 2)
            redeem = rig.submission(Operation.REDEEM, 1, points=100)
            earn = rig.submission(Operation.EARN, 3, amount=20_000)
            try:
                postgres.fall_silent_at(word, behind=behind)
                blocked = rig.send(ledger, block)
                await asyncio.wait_for(postgres.silent.wait(), PATIENCE_S)
                # It is the next decision by which an owner sees that it may be none any more, while its commit hangs.
                await asyncio.sleep(limits.lease_s)
                others = [rig.send(ledger, submission) for submission in (redeem, earn)]
                replies = [await asyncio.wait_for(waiter.reply, PATIENCE_S) for waiter in (blocked, *others)]
                assert [reply.refusal for reply in replies] == [Refusal.UNAVAILABLE] * 3
                assert ledger._partitions[0]._pipeline is None
                assert postgres.silent.is_set()
            finally:
                postgres.speak()
            for submission in (block, redeem, earn):
                assert (await rig.insist(ledger, submission)).outcome == Outcome.APPROVED
            assert await rig.available(ledger, 1) == 900
            assert [len(await rig.journal(card)) for card in (1, 2, 3)] == [2, 1, 1]
    finally:
        rig.postgres_url = straight


async def test_a_read_that_is_cancelled_ends_at_once(rig: Rig, postgres: SilentPostgres) -> None:
    """Nor is it said that PostgreSQL does not answer: who hears that goes on instead of ending."""
    reader = Reader(Postgres(postgres.url), Pulse(SystemClock(), silence_s=LONG_S), connections_max=1, timeout_s=LONG_S)
    try:
        await reader.heads([1])
        postgres.fall_silent()
        assert await cancelled_in_silence(postgres, reader.heads([1]))
        postgres.speak()
        assert await reader.heads([1])
    finally:
        await reader.close()


@pytest.mark.parametrize("behind", [0, 1])
async def test_a_registry_transaction_that_is_cancelled_ends_at_once(
    rig: Rig, postgres: SilentPostgres, behind: int
) -> None:
    registry = Registry(Postgres(postgres.url), connections_max=1, timeout_s=LONG_S)
    try:
        assert await accounts(registry) == 10
        postgres.fall_silent_at(b"BEGIN", behind=behind)
        assert await cancelled_in_silence(postgres, accounts(registry))
        postgres.speak()
        assert await accounts(registry) == 10
    finally:
        await registry.close()


@pytest.mark.parametrize("behind", [0, 1])
async def test_a_registry_transaction_is_given_up_in_time(rig: Rig, postgres: SilentPostgres, behind: int) -> None:
    registry = Registry(Postgres(postgres.url), connections_max=1, timeout_s=SHORT_S)
    try:
        postgres.fall_silent_at(b"BEGIN", behind=behind)
        task = await ended(asyncio.create_task(accounts(registry)))
        assert isinstance(task.exception(), JournalDown)
        assert postgres.silent.is_set()
    finally:
        await registry.close()


@pytest.mark.parametrize("behind", [0, 1])
async def test_a_starting_worker_does_not_wait_for_ever(rig: Rig, postgres: SilentPostgres, behind: int) -> None:
    postgres.fall_silent_at(b"BEGIN", behind=behind)
    starting = asyncio.create_task(ensure_partitions(Postgres(postgres.url), 1, timeout_s=SHORT_S))
    assert isinstance((await ended(starting)).exception(), JournalDown)
    assert postgres.silent.is_set()
