"""A commit is given up while PostgreSQL hangs: whoever uses the connection next must not believe what it says."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from ledger.journal.postgres import Postgres
from ledger.journal.writer import Batch, JournalDown, Writer
from tests.rigs.ledger_rig import Rig


async def forget(accounts: set[int]) -> None:
    assert not accounts


def batch(mark: int, *, in_transaction: bool) -> Batch:
    """Return a commit of a mark alone; the sums of a terminal's day make it several statements."""
    return Batch(mark, terminal_days=[(1, 1, 20_000 + mark, 5)] if in_transaction else [])


@pytest_asyncio.fixture
async def writer(rig: Rig) -> AsyncIterator[Writer]:
    opened = await Writer.try_open(Postgres(rig.postgres_url), 0, timeout_s=20.0, idle_timeout_s=60.0)
    assert opened is not None
    await opened.claim("owner")
    yield opened
    opened.terminate()


async def committed_mark(rig: Rig) -> int:
    async with rig.database() as connection:
        return int(await connection.fetchval("SELECT mark FROM partition WHERE partition_id = 0"))


@pytest.mark.parametrize("in_transaction", [True, False])
@pytest.mark.parametrize("after_s", [0.0, 0.0005, 0.001, 0.0015, 0.002, 0.003])
async def test_what_is_said_to_be_committed_after_it_is_committed(
    rig: Rig, writer: Writer, in_transaction: bool, after_s: float
) -> None:
    """It hangs before BEGIN, between its statements, before COMMIT."""
    backend = await writer._connection.fetchval("SELECT pg_backend_pid()")
    task = asyncio.create_task(writer.commit(batch(1, in_transaction=in_transaction), forget))
    if after_s:
        await asyncio.sleep(after_s)
    os.kill(backend, signal.SIGSTOP)
    try:
        # What is sent now is not answered.
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.sleep(0.05)
    finally:
        os.kill(backend, signal.SIGCONT)
    await asyncio.gather(task, return_exceptions=True)
    # As an owner does whose Redis is back: the next epoch begins on the same connection.
    try:
        await writer.claim("owner")
        await writer.commit(batch(7, in_transaction=False), forget)
    except JournalDown:
        return
    assert await committed_mark(rig) == 7
