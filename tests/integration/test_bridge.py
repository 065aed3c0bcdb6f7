"""Stores ask through the bridge what registers ask over TCP: real broker, real engines, a relay played by hand."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgpack
import pytest

from protocol.client import Client
from protocol.codes import ErrorCode, Message, Outcome
from protocol.messages import AnswerMessage, ErrorMessage
from protocol.relay_messages import Hint, Report, RequestItem, RosterQuery
from protocol.requests import BalanceRequest, Card, RefundRequest, ReverseRequest, SaleRequest, StatusRequest
from protocol.ticket import Reply as TcpReply
from tests.rigs.relay_rig import (
    RULES,
    SECRET,
    HandRelay,
    Headquarters,
    approved,
    card,
    declined,
    earn,
    new_id,
    receipt,
    redeem,
    refused,
    until,
)


@pytest.fixture
async def hq(postgres_url: str, valkey_url: str, broker_url: str, tmp_path: Path) -> AsyncIterator[Headquarters]:
    made = Headquarters(postgres_url, valkey_url, broker_url, tmp_path)
    await made.prepare()
    yield made
    await made.verify()


async def test_a_request_gets_the_answer_that_it_would_get_over_tcp(hq: Headquarters) -> None:
    async with hq.worker() as worker, hq.relay() as relay:
        answer = approved(await relay.ask(earn(), "T-1"))
        assert (answer.replayed, answer.answer.earned) == (False, 5_000)
        request = redeem()
        spent = approved(await relay.ask(request, "T-2"))
        assert spent.answer.balance is not None
        assert (spent.answer.points, spent.answer.balance.available) == (700, 4_300)
        port = worker.listener._listening.getsockname()[1]
        async with Client("127.0.0.1", port, "T-2", SECRET) as till:
            again = await till.request(request)
            assert again == TcpReply.of(AnswerMessage(request.request_id, True, spent.body, spent.answer))
        assert [entry["code"] for entry in await hq.journal(0)] == ["T-1", "T-2"]


async def test_a_duplicate_is_executed_once_and_answered_once(hq: Headquarters) -> None:
    async with hq.worker() as worker, hq.relay() as relay:
        request = earn()
        payload = relay.publish([relay.item(request)])
        for _ in range(3):
            relay.publish_raw(relay.data_topic, payload)
        first = await relay.reply(request.request_id)
        again = await relay.ask(request)
        assert approved(again).replayed
        assert approved(again).body == approved(first).body
        assert len(relay.replies[request.request_id]) == 2
        assert worker.bridge is not None
        assert worker.bridge.tally.refused["repeated"] == 3
        assert len(await hq.journal(0)) == 1


async def test_publications_may_come_in_any_order(hq: Headquarters) -> None:
    async with hq.worker(), hq.relay() as relay:
        requests = [earn(number % 10) for number in range(40)]
        payloads = [relay.line.close([relay.item(request)], relay.now_ms()) for request in requests]
        for payload in reversed(payloads):
            relay.publish_raw(relay.data_topic, payload)
        for request in requests:
            approved(await relay.reply(request.request_id))
        assert sum([len(await hq.journal(number)) for number in range(10)]) == 40


async def test_many_requests_of_one_publication_are_answered_together(hq: Headquarters) -> None:
    async with hq.worker(), hq.relay() as relay:
        requests = [earn(number % 10) for number in range(150)]
        before = len(relay.received)
        relay.publish([relay.item(request) for request in requests])
        for request in requests:
            approved(await relay.reply(request.request_id))
        assert len(relay.received) - before < 40


async def test_the_answer_goes_where_the_relay_asked_for_it_if_that_is_its_own(hq: Headquarters) -> None:
    async with hq.worker(), hq.relay() as relay:
        topic = relay.credential.topic
        for wanted, where in (
            (f"{topic}/answer/7", f"{topic}/answer/7"),
            (f"{topic}/answer/+", f"{topic}/answer"),
            ("tillwire/1/1/1/R-2/answer", f"{topic}/answer"),
            (None, f"{topic}/answer"),
        ):
            request = earn()
            relay.publish([relay.item(request)], response_topic=wanted, correlation=b"c\0")
            await relay.reply(request.request_id)
            assert (relay.received[-1].topic, relay.received[-1].correlation) == (where, b"c\0")


async def test_past_its_deadline_a_request_is_not_executed(hq: Headquarters) -> None:
    async with hq.worker(), hq.relay() as relay:
        late, default, fresh = earn(0), earn(0), earn(0)
        late.ttl_ms = 800
        relay.publish([relay.item(late)], sent_ago_ms=900)
        assert refused(await relay.reply(late.request_id)) == ErrorCode.EXPIRED
        relay.publish([relay.item(default)], sent_ago_ms=5_100)
        assert refused(await relay.reply(default.request_id)) == ErrorCode.EXPIRED
        relay.publish([relay.item(fresh)], sent_ago_ms=-60_000)
        approved(await relay.reply(fresh.request_id))
        assert [entry["request_id"] for entry in await hq.journal(0)] == [fresh.request_id]
        # Sent anew under the same id it is in time.
        approved(await relay.ask(late))


async def test_another_stores_terminal_is_refused_and_so_is_a_relay_that_redeems_for_itself(hq: Headquarters) -> None:
    async with hq.worker(), hq.relay() as relay:
        for code in ("X-0", "R-2", "nobody"):
            assert refused(await relay.ask(earn(), code)) == ErrorCode.MALFORMED
        assert refused(await relay.ask(earn(), "R-1")) == ErrorCode.MALFORMED
        assert refused(await relay.ask(redeem(), "R-1")) == ErrorCode.MALFORMED
        assert await hq.journal(0) == []


async def test_a_suspended_terminal_is_not_permitted_within_a_second(hq: Headquarters) -> None:
    async with hq.worker(), hq.relay() as relay:
        request = earn()
        approved(await relay.ask(request, "T-1"))
        async with hq.database() as connection:
            await connection.execute("UPDATE terminal SET active = false WHERE code = 'T-1'")
        await until_declined(relay, Outcome.NOT_PERMITTED)
        assert declined(await relay.ask(ReverseRequest(new_id(), 0, card(0), request.request_id), "T-1")) == 101
        approved(await relay.ask(earn(), "T-0"))


async def until_declined(relay: HandRelay, outcome: Outcome) -> None:
    async with asyncio.timeout(10):
        while approved_or(await relay.ask(BalanceRequest(new_id(), 0, card(0)), "T-1")) != outcome:
            await asyncio.sleep(0.05)


def approved_or(reply: AnswerMessage | ErrorMessage) -> int:
    assert isinstance(reply, AnswerMessage)
    return reply.answer.outcome


async def test_what_is_no_request_is_named_and_hurts_nobody(hq: Headquarters) -> None:
    def message(*fields: Any) -> bytes:
        return bytes(msgpack.packb(fields))

    async with hq.worker() as worker, hq.relay() as relay:
        bad_points, unknown, good = new_id(), new_id(), earn()
        points_as_text = message(int(Message.REDEEM), bad_points, 0, card(0).wire(), "7", (1, "EUR", ""), False)
        relay.publish(
            [
                RequestItem("T-0", b""),
                RequestItem("T-0", message(int(Message.PING), 7)),
                RequestItem("T-0", points_as_text),
                RequestItem("T-0", message(60, unknown)),
                relay.item(good),
            ]
        )
        approved(await relay.reply(good.request_id))
        assert refused(await relay.reply(bad_points)) == ErrorCode.MALFORMED
        assert refused(await relay.reply(unknown)) == ErrorCode.UNSUPPORTED
        assert worker.bridge is not None
        assert worker.bridge.figures()["in_flight"] == 0


async def test_an_unreadable_card_another_id_and_an_amount_too_large_get_their_own_words(hq: Headquarters) -> None:
    async with hq.worker(), hq.relay() as relay:
        unreadable = earn()
        unreadable.card = Card(1, "2000000000016")
        assert declined(await relay.ask(unreadable)) == Outcome.BAD_CARD
        request = earn()
        approved(await relay.ask(request))
        assert refused(await relay.ask(request, "T-1")) == ErrorCode.ID_REUSED
        assert declined(await relay.ask(redeem(points=900_000))) != 0
        assert refused(await relay.ask(earn(amount=10**11 + 1))) == ErrorCode.MALFORMED


async def test_sale_refund_and_status_work_through_the_bridge(hq: Headquarters) -> None:
    async with hq.worker(), hq.relay() as relay:
        sale = SaleRequest(new_id(), 0, card(0), receipt(100_000))
        assert approved(await relay.ask(sale)).answer.earned == 5_000
        request = redeem()
        approved(await relay.ask(request))
        approved(await relay.ask(RefundRequest(new_id(), 0, card(0), request.request_id, receipt())))
        status = approved(await relay.ask(StatusRequest(new_id(), 0, card(0), request.request_id)))
        assert status.answer.detail is not None


async def test_past_its_limit_a_relay_is_told_busy_and_nothing_of_it_is_lost(
    postgres_url: str, valkey_url: str, broker_url: str, tmp_path: Path
) -> None:
    hq = Headquarters(
        postgres_url, valkey_url, broker_url, tmp_path,
        bridge_relay_in_flight_max=8, bridge_relay_backlog_in_flight_max=2, bridge_in_flight_max=16,
        bridge_backlog_at_once_max=1,
    )  # fmt: skip
    await hq.prepare()
    async with hq.worker() as worker, hq.relay() as relay:
        assert relay.line.limits is not None
        assert (relay.line.limits.in_flight_max, relay.line.limits.backlog_in_flight_max) == (8, 2)
        live = [earn(number % 10) for number in range(12)]
        relay.publish([relay.item(request) for request in live])
        told = [await relay.reply(request.request_id) for request in live]
        busy = [reply for reply in told if isinstance(reply, ErrorMessage)]
        assert {reply.code for reply in busy} == {ErrorCode.BUSY}
        assert all(reply.retry_after_ms for reply in busy)
        assert len(busy) == 4
        backlog = [earn(number) for number in range(5)]
        relay.publish([relay.item(request, sale_ms=1) for request in backlog])
        told = [await relay.reply(request.request_id) for request in backlog]
        assert sum(isinstance(reply, ErrorMessage) for reply in told) == 3
        for request in live:
            await relay.insist(request)
        for request in backlog:
            await relay.insist(request, sale_ms=1)
        assert worker.bridge is not None
        assert worker.bridge.figures()["in_flight"] == 0
        assert sum([len(await hq.journal(number)) for number in range(10)]) == 17
    await hq.verify()


async def test_backlogs_leave_room_for_live_requests(
    postgres_url: str, valkey_url: str, broker_url: str, tmp_path: Path
) -> None:
    hq = Headquarters(
        postgres_url, valkey_url, broker_url, tmp_path,
        bridge_relay_in_flight_max=8, bridge_relay_backlog_in_flight_max=8, bridge_in_flight_max=8,
        bridge_backlog_at_once_max=1,
    )  # fmt: skip
    await hq.prepare()
    async with hq.worker(), hq.relay("R-1") as one, hq.relay("R-2") as two:
        two.publish([Report(0, 0, 0, 0)])
        backlog, live = [earn(number) for number in range(8)], [earn(number) for number in range(8, 10)]
        one.publish([one.item(request, sale_ms=1) for request in backlog] + [one.item(request) for request in live])
        for request in live:
            approved(await one.reply(request.request_id))
        told = [await one.reply(request.request_id) for request in backlog]
        assert sum(isinstance(reply, ErrorMessage) and reply.code == ErrorCode.BUSY for reply in told) == 4
        approved(await two.ask(earn(), "X-0"))
    await hq.verify()


async def test_too_many_relays_are_told_to_come_later(
    postgres_url: str, valkey_url: str, broker_url: str, tmp_path: Path
) -> None:
    hq = Headquarters(postgres_url, valkey_url, broker_url, tmp_path, bridge_sessions_max=1)
    await hq.prepare()
    async with hq.worker(), hq.relay("R-1") as one, hq.relay("R-2", sign_on=False) as two:
        two.say_hello()
        await until(lambda: two.goodbyes)
        assert two.goodbyes[0].reason == Hint.BUSY
        approved(await one.ask(earn()))
        # One that is here may begin anew.
        await one.sign_on()
        approved(await one.ask(earn()))
        assert not one.goodbyes


async def test_relays_that_come_and_are_sent_on_all_at_once_each_hear_it(
    postgres_url: str, valkey_url: str, broker_url: str, tmp_path: Path
) -> None:
    hq = Headquarters(postgres_url, valkey_url, broker_url, tmp_path, mqtt_publications_max=1)
    await hq.prepare(relays=12)
    async with contextlib.AsyncExitStack() as stack:
        relays = [await stack.enter_async_context(hq.relay(code, sign_on=False)) for code in hq.credentials]
        async with hq.worker():
            for relay in relays:
                relay.say_hello()
            await until(lambda: all(relay.welcomes for relay in relays))
            for relay in relays:
                relay.publish([Report(0, 0, 0, 0)])
            await until(lambda: all(len(relay.received) == 2 for relay in relays))
        await until(lambda: all(relay.goodbyes for relay in relays))
        assert {relay.goodbyes[0].reason for relay in relays} == {Hint.DRAIN}
        assert all(len(relay.received) == 3 for relay in relays)


async def test_the_roster_names_the_stores_registers_and_follows_changes(hq: Headquarters) -> None:
    async with hq.worker(), hq.relay() as relay:
        roster = await relay.roster()
        assert [terminal.code for terminal in roster.terminals] == ["T-0", "T-1", "T-2", "T-3"]
        assert (roster.network_name, roster.currency, roster.allowance_points) == ("Harvest Market", "EUR", 0)
        assert all(terminal.active for terminal in roster.terminals)
        assert roster.rules == (RULES.redeem_min, RULES.redeem_max, RULES.share_bp)
        relay.publish([RosterQuery(roster.version), Report(0, 0, 0, 0)])
        count = len(relay.received)
        await until(lambda: len(relay.received) > count)
        assert not [item for item in relay.items if item is not roster and item == roster]
        async with hq.database() as connection:
            await connection.execute("UPDATE terminal SET active = false WHERE code = 'T-3'")
            await connection.execute("UPDATE relay SET allowance_points = 500")
        async with asyncio.timeout(10):
            while relay.roster_version == roster.version:
                relay.publish([Report(0, 0, 0, 0)])
                await asyncio.sleep(0.05)
        await asyncio.sleep(1.2)
        relay.publish([Report(0, 0, 0, 0)])
        later = await relay.roster(roster.version)
        assert [terminal.active for terminal in later.terminals] == [True, True, True, False]
        assert later.allowance_points == 500
        assert later.version > roster.version


async def test_a_sign_of_life_is_answered_at_once_and_what_it_says_is_noted(hq: Headquarters) -> None:
    async with hq.worker(), hq.relay() as relay:
        count = len(relay.received)
        relay.publish([Report(7, 60_000, 2, 123)])
        await until(lambda: len(relay.received) > count)
        row: Any = None
        async with hq.database() as connection, asyncio.timeout(20):
            while row is None or row["heard_ms"] is None:
                row = await connection.fetchrow("SELECT * FROM relay ORDER BY terminal_id LIMIT 1")
                await asyncio.sleep(0.05)
        assert (row["queued"], row["offline_since_ms"], row["software"]) == (7, 123, "hand/1")
        assert row["heard_ms"] - row["oldest_ms"] == 60_000


async def test_health_and_metrics_show_the_bridge(hq: Headquarters) -> None:
    async with hq.worker() as worker, hq.relay() as relay:
        approved(await relay.ask(earn()))
        shown = worker.detail()["bridge"]
        assert isinstance(shown, dict)
        assert (shown["connected"], shown["relays"], shown["in_flight"]) == (True, 1, 0)
        worker.measure()
        from prometheus_client import generate_latest  # noqa: PLC0415

        text = generate_latest(worker.metrics.registry).decode()
        assert 'tillwire_bridge{figure="relays"} 1.0' in text
        assert 'tillwire_bridge_events_total{event="requests"} 1.0' in text
        assert worker.down() == []
