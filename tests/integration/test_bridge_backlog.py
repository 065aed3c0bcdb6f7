"""A relay's backlog comes over a connection of its own, after live requests, and its answers gather."""

from pathlib import Path
from typing import Any

import pytest

from protocol.relay_messages import BACKLOG_SUFFIX
from tests.rigs.advices_rig import NOW_MS, hq
from tests.rigs.relay_rig import Headquarters, approved, earn, until

__all__ = ["hq"]


async def test_live_requests_go_before_those_of_a_backlog(
    postgres_url: str, valkey_url: str, broker_url: str, tmp_path: Path
) -> None:
    hq = Headquarters(postgres_url, valkey_url, broker_url, tmp_path, bridge_backlog_at_once_max=1)
    await hq.prepare()
    async with hq.worker(), hq.relay() as relay:
        backlog = [earn(number % 9) for number in range(60)]
        live = earn(9)
        relay.publish([relay.item(each, sale_ms=NOW_MS) for each in backlog] + [relay.item(live)])
        approved(await relay.reply(live.request_id))
        assert sum(each.request_id in relay.replies for each in backlog) < 30
        for each in backlog:
            approved(await relay.reply(each.request_id))
    await hq.verify()


async def test_advices_come_and_are_answered_over_a_connection_of_their_own(hq: Headquarters) -> None:
    async with hq.worker() as worker, hq.relay() as relay:
        assert worker.bridge is not None
        live, backlog = worker.bridge._broker, worker.bridge._backlog_broker
        heard: dict[str, list[str]] = {"live": [], "backlog": []}
        said: dict[str, int] = {"live": 0, "backlog": 0}
        for name, broker in (("live", live), ("backlog", backlog)):
            assert broker._line is not None
            handler, send = broker._line._handler, broker._line.send

            def spy(message: Any, name: str = name, handler: Any = handler) -> None:
                heard[name].append(message.topic.rsplit("/", 1)[-1])
                handler(message)

            def count(*arguments: Any, name: str = name, send: Any = send) -> Any:
                said[name] += 1
                return send(*arguments)

            broker._line._handler, broker._line.send = spy, count  # type: ignore[method-assign]
        advice, request = earn(1), earn(2)
        relay.publish([relay.item(advice, sale_ms=NOW_MS)], suffix=BACKLOG_SUFFIX)
        approved(await relay.reply(advice.request_id))
        assert (heard, said) == ({"live": [], "backlog": [f"{relay.line.bridge}.backlog"]}, {"live": 0, "backlog": 1})
        relay.publish([relay.item(request)])
        approved(await relay.reply(request.request_id))
        assert (heard["live"], said) == ([relay.line.bridge], {"live": 1, "backlog": 1})


async def test_no_relay_is_let_in_before_its_backlog_could_come(
    hq: Headquarters, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = hq.make_worker()
    await worker.start()
    try:
        assert worker.bridge is not None
        bridge = worker.bridge
        await until(lambda: bool(bridge.figures()["connected"]))
        async with hq.relay(sign_on=False) as relay:
            backlog = bridge._backlog_broker._line
            monkeypatch.setattr(bridge._backlog_broker, "_line", None)
            bridge._changed(True)
            relay.say_hello()
            await until(lambda: bridge.figures().get("refused_too_early_total"))
            await until(lambda: relay.goodbyes)
            assert not relay.welcomes
            monkeypatch.setattr(bridge._backlog_broker, "_line", backlog)
            bridge._changed(True)
            await relay.sign_on()
    finally:
        await worker.stop()


async def test_answers_to_a_backlog_gather_and_the_last_lets_them_go(hq: Headquarters) -> None:
    async with hq.worker(bridge_backlog_at_once_max=1) as worker, hq.relay() as relay:
        assert worker.bridge is not None
        before = worker.bridge.figures()["publications_out_total"]
        backlog = [earn(number % 9) for number in range(40)]
        relay.publish([relay.item(each, sale_ms=NOW_MS) for each in backlog], suffix=BACKLOG_SUFFIX)
        for each in backlog:
            approved(await relay.reply(each.request_id))
        # One by one they were booked; each by itself would be 40 publications.
        assert worker.bridge.figures()["publications_out_total"] - before <= 20
