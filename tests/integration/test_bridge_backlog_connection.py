"""The connection by which a bridge hears backlogs drops alone: what is live goes on, and people are told."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from ledger.clock import SystemClock
from protocol.messages import LENGTH_BYTES, AnswerMessage, decode, encode
from protocol.relay_messages import RequestItem
from server.bridge.bridge import Bridge
from server.relay.asking import NoReply
from tests.rigs.shop_rig import Counter, Headquarters, Shop, card, earn, until


@contextlib.asynccontextmanager
async def backlog_connection_cut(bridge: Bridge) -> AsyncIterator[None]:
    """End the bridge's second connection to the broker, and make it again behind the block."""
    (task,) = [task for task in bridge._tasks if task.get_name() == "broker of backlogs"]
    task.cancel()
    await asyncio.wait({task})
    assert not bridge._backlog_broker.connected
    try:
        yield
    finally:
        bridge._tasks[bridge._tasks.index(task)] = asyncio.create_task(
            bridge._backlog_broker.run(), name="broker of backlogs"
        )
        await until(lambda: bridge._backlog_broker.connected)


def bridge_of(headquarters: Headquarters) -> Bridge:
    assert headquarters.worker is not None
    assert headquarters.worker.bridge is not None
    return headquarters.worker.bridge


async def test_a_store_that_drains_goes_on_asking_live(
    headquarters: Headquarters, shop: Shop, counter: Counter
) -> None:
    till, line, bridge = await counter.till(shop.port), shop.running.line, bridge_of(headquarters)
    session_id = line._core.session_id
    advice = RequestItem("T-1", encode(earn(card(1)))[LENGTH_BYTES:], SystemClock().now_ms())
    async with backlog_connection_cut(bridge):
        with pytest.raises(NoReply):
            await line.post(advice, 2.0)
        answer = await till.ask(earn(card(0)))
        assert isinstance(answer, AnswerMessage)
        # Off line nobody knows yet how much was earned.
        assert answer.answer.earned == 10_000
    reply = decode((await line.post(advice, 30.0)).message)
    assert isinstance(reply, AnswerMessage)
    assert reply.answer.approved
    assert (line._core.session_id, bridge.figures()["sessions_begun_total"]) == (session_id, 1)
