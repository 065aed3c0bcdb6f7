"""The connection by which a bridge hears backlogs drops alone: what is live goes on, and people are told."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from ledger.clock import SystemClock
from protocol.messages import LENGTH_BYTES, AnswerMessage, decode, encode
from protocol.relay_messages import Hint, RequestItem
from server.bridge.bridge import Bridge
from server.relay.asking import NoReply
from server.workers.worker import Worker
from tests.rigs import relay_rig
from tests.rigs.advices_rig import NOW_MS, hq
from tests.rigs.shop_rig import Counter, Headquarters, Shop, card, earn, until

__all__ = ["hq"]


def bridge_of(worker: Worker | None) -> Bridge:
    assert worker is not None
    assert worker.bridge is not None
    return worker.bridge


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


async def test_a_store_that_drains_goes_on_asking_live(
    headquarters: Headquarters, shop: Shop, counter: Counter
) -> None:
    till, line, bridge = await counter.till(shop.port), shop.running.line, bridge_of(headquarters.worker)
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


async def test_answers_to_a_backlog_that_cannot_be_said_keep_no_live_request_out(
    postgres_url: str, valkey_url: str, broker_url: str, tmp_path: Path
) -> None:
    hq = relay_rig.Headquarters(
        postgres_url, valkey_url, broker_url, tmp_path,
        bridge_relay_in_flight_max=8, bridge_relay_backlog_in_flight_max=8,
    )  # fmt: skip
    await hq.prepare()
    async with hq.worker() as worker, hq.relay() as relay:
        bridge = bridge_of(worker)
        (session,) = bridge._sessions
        advices = [relay_rig.earn(number) for number in range(10)]
        async with backlog_connection_cut(bridge):
            for said in (10, 20):
                relay.publish([relay.item(each, sale_ms=NOW_MS) for each in advices])
                await until(lambda said=said: len(session.backlog) == said)  # type: ignore[misc]
            relay.publish([relay.item(each, sale_ms=NOW_MS) for each in advices])
            await until(lambda: bridge.figures().get("refused_too_much_total") == 10)
            relay_rig.approved(await relay.ask(relay_rig.earn(0)))
        for each in advices:
            await relay.reply(each.request_id, 2)
            await relay.insist(each, sale_ms=NOW_MS)
    await hq.verify()


async def test_a_relay_that_comes_meanwhile_hears_that_it_shall_come_again(hq: relay_rig.Headquarters) -> None:
    async with hq.worker() as worker, hq.relay(sign_on=False) as relay:
        bridge = bridge_of(worker)
        async with backlog_connection_cut(bridge):
            relay.say_hello()
            await until(lambda: bool(relay.goodbyes))
            goodbye = relay.goodbyes[0]
            assert (goodbye.about, goodbye.reason, goodbye.text) == (relay.line._nonce, Hint.BUSY, "not ready")
            relay.publish_raw("hello", relay_rig.altered(relay.line.hello(NOW_MS)))
            await until(lambda: bridge.figures().get("refused_not_genuine_total") == 1)
            relay.say_hello()
            await until(lambda: len(relay.goodbyes) == 2)
            assert relay.goodbyes[1].about == relay.line._nonce
            assert not relay.welcomes
        await relay.sign_on()


async def test_a_relay_gets_in_through_another_worker(hq: relay_rig.Headquarters) -> None:
    async with hq.worker(workers=2) as one, hq.worker(1, workers=2), backlog_connection_cut(bridge_of(one)):
        for code in ("R-1", "R-2"):
            async with hq.relay(code) as relay:
                assert relay.line.ready
        assert bridge_of(one).figures()["sessions"] == 0


async def test_health_and_the_log_tell_which_of_the_connections_is_meant(hq: relay_rig.Headquarters) -> None:
    with capture_logs() as lines:
        async with hq.worker():
            pass
    connected = [line["connection"] for line in lines if line["event"] == "connected to the broker"]
    assert sorted(connected) == ["backlog", "live"]
    async with hq.worker() as worker:
        bridge = bridge_of(worker)
        shown = worker.detail()["bridge"]
        assert isinstance(shown, dict)
        assert (shown["connected"], shown["backlog"]["connected"]) == (True, True)
        async with backlog_connection_cut(bridge):
            shown = worker.detail()["bridge"]
            assert isinstance(shown, dict)
            assert (shown["connected"], shown["backlog"]["connected"]) == (True, False)
            assert not bridge.figures()["connected"]
            assert worker.down() == []
