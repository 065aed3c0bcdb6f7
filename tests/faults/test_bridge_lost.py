"""The broker, a worker, or PostgreSQL goes while relays ask: nothing lost, nothing doubled, one answer for each."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from protocol.codes import ErrorCode, Outcome
from protocol.messages import AnswerMessage
from protocol.relay_messages import Hint, Report
from protocol.requests import BalanceRequest
from server.engines import binaries
from server.engines.broker import EmbeddedBroker
from server.engines.postgres import EmbeddedPostgres
from server.workers.supervisor import Supervisor
from tests.rigs.old_broker import OldBroker
from tests.rigs.relay_rig import (
    SECRETS,
    HandRelay,
    Headquarters,
    approved,
    card,
    declined,
    earn,
    new_id,
    refused,
    until,
)

CARDS = 10


@pytest.fixture(params=["mosquitto", "iotcore"])
def either_broker(request: pytest.FixtureRequest, own_folder: Path) -> Iterator[EmbeddedBroker]:
    if request.param == "mosquitto" and binaries.find_mosquitto() is None:
        pytest.skip("Mosquitto is not installed on this system")
    engine = EmbeddedBroker(own_folder / "mqtt", kind=request.param)
    engine.start()
    yield engine
    engine.stop()


@asynccontextmanager
async def headquarters(
    postgres_url: str, redis_url: str, mqtt_url: str, folder: Path, **settings: Any
) -> AsyncIterator[Headquarters]:
    made = Headquarters(postgres_url, redis_url, mqtt_url, folder, **settings)
    await made.prepare(cards=CARDS, partitions=settings.get("partitions", 1) or 1)
    yield made
    await made.verify()


async def insist_on_many(relays: list[HandRelay], count: int, sale_ms: int | None = None) -> list[AnswerMessage]:
    """Have each relay ask for `count` EARNs, one after the other, as a good one does."""

    async def work(relay: HandRelay, terminal: str) -> list[AnswerMessage]:
        answers = []
        for number in range(count):
            fields = {} if sale_ms is None else {"sale_ms": sale_ms}
            answers.append(await relay.insist(earn(number % CARDS), terminal, **fields))
        return answers

    worked = await asyncio.gather(*[
        work(relay, "T-0" if relay.credential.code == "R-1" else "X-0") for relay in relays
    ])  # fmt: skip
    return [answer for answers in worked for answer in answers]


async def assert_each_once(hq: Headquarters, answers: list[AnswerMessage]) -> None:
    asked = {answer.request_id for answer in answers}
    assert all(answer.answer.outcome == Outcome.APPROVED for answer in answers)
    entries = [entry["request_id"] for number in range(CARDS) for entry in await hq.journal(number)]
    assert len(entries) == len(set(entries))
    assert set(entries) == asked


async def test_everything_works_on_either_broker_and_goes_on_when_it_was_killed(
    postgres_url: str, valkey_url: str, either_broker: EmbeddedBroker, tmp_path: Path
) -> None:
    async with headquarters(postgres_url, valkey_url, either_broker.url, tmp_path) as hq:
        async with hq.worker() as worker, hq.relay("R-1") as one, hq.relay("R-2") as two:
            asking = asyncio.create_task(insist_on_many([one, two], 40))
            for _ in range(2):
                entries = len(one.replies) + len(two.replies)
                await until(lambda entries=entries: len(one.replies) + len(two.replies) > entries + 10)  # type: ignore[misc]
                either_broker.kill()
                await until(lambda: worker.bridge is not None and not worker.bridge.figures()["connected"])
                assert worker.down() == []
                either_broker.start()
            answers = await asyncio.wait_for(asking, 120)
        await assert_each_once(hq, answers)
        bodies = {
            request_id: {reply.body for reply in replies if isinstance(reply, AnswerMessage)}
            for relay in (one, two)
            for request_id, replies in relay.replies.items()
        }
        assert all(len(different) == 1 for different in bodies.values())


async def test_a_session_outlives_its_broker(
    postgres_url: str, valkey_url: str, own_broker: EmbeddedBroker, tmp_path: Path
) -> None:
    async with (
        headquarters(postgres_url, valkey_url, own_broker.url, tmp_path) as hq,
        hq.worker() as worker,
        hq.relay() as relay,
    ):
        approved(await relay.ask(earn()))
        own_broker.kill()
        await until(lambda: worker.bridge is not None and not worker.bridge.figures()["connected"])
        own_broker.start()
        await until(lambda: worker.bridge is not None and bool(worker.bridge.figures()["connected"]))
        await until(lambda: relay.broker.connected)
        approved(await relay.ask(earn()))
        assert len(relay.welcomes) == 1


async def test_a_stopping_worker_answers_what_is_in_flight_and_sends_relays_on(
    postgres_url: str, valkey_url: str, broker_url: str, tmp_path: Path
) -> None:
    async with headquarters(postgres_url, valkey_url, broker_url, tmp_path) as hq:
        async with hq.relay(sign_on=False) as relay:
            async with hq.worker():
                await relay.sign_on()
                session = relay.line.session_id
                requests = [earn(number % CARDS) for number in range(60)]
                relay.publish([relay.item(request) for request in requests])
                # The first answer says that the publication has arrived.
                await until(lambda: relay.replies)
            for request in requests:
                reply = await relay.reply(request.request_id)
                assert isinstance(reply, AnswerMessage) or reply.code == ErrorCode.BUSY
            assert [(goodbye.about, goodbye.reason) for goodbye in relay.goodbyes] == [(session, Hint.DRAIN)]
            async with hq.worker():
                answers = [await relay.insist(request) for request in requests]
        await assert_each_once(hq, answers)


async def test_a_draining_worker_lets_no_relay_in_and_the_other_one_does(
    postgres_url: str, valkey_url: str, broker_url: str, tmp_path: Path
) -> None:
    settings = {"workers": 2, "partitions": 2}
    async with headquarters(postgres_url, valkey_url, broker_url, tmp_path, **settings) as hq:
        staying, going = hq.make_worker(0), hq.make_worker(1)
        await asyncio.gather(staying.start(), going.start())
        for worker in (staying, going):
            await until(lambda worker=worker: bool(worker.bridge.figures()["connected"]))  # type: ignore[misc]
        assert staying.bridge is not None
        assert going.bridge is not None
        await going.bridge.drain(1_000)
        async with hq.relay("R-1", sign_on=False) as one, hq.relay("R-2") as two:
            for number in range(1, 9):
                one.say_hello()
                await until(lambda number=number: len(one.welcomes) == number)  # type: ignore[misc]
            assert going.bridge.tally.publications_in == 0
            answers = await insist_on_many([one, two], 5)
        await asyncio.gather(staying.stop(), going.stop())
        await assert_each_once(hq, answers)


async def test_two_workers_share_the_relays_and_forward_what_is_the_others(
    postgres_url: str, valkey_url: str, broker_url: str, tmp_path: Path
) -> None:
    settings = {"workers": 2, "partitions": 2}
    async with headquarters(postgres_url, valkey_url, broker_url, tmp_path, **settings) as hq:
        workers = [hq.make_worker(0), hq.make_worker(1)]
        await asyncio.gather(*[worker.start() for worker in workers])
        for worker in workers:
            await until(lambda worker=worker: bool(worker.bridge.figures()["connected"]))  # type: ignore[misc]
        async with hq.relay("R-1") as one, hq.relay("R-2") as two:
            answers = await insist_on_many([one, two], 20)
            for _ in range(12):
                await one.sign_on()
        begun = [worker.bridge.tally.sessions_begun for worker in workers if worker.bridge is not None]
        assert all(begun), begun
        await asyncio.gather(*[worker.stop() for worker in workers])
        await assert_each_once(hq, answers)


@asynccontextmanager
async def supervised(hq: Headquarters, **settings: Any) -> AsyncIterator[Supervisor]:
    """Run the product's supervisor with worker processes."""
    supervisor = Supervisor(hq.settings.model_copy(update=settings), SECRETS)
    supervisor.bind()
    running = asyncio.create_task(supervisor.run())
    try:
        await until(lambda: supervisor.health()["ready"] and not supervisor.health()["down"], 60)
        yield supervisor
    finally:
        supervisor.stop()
        await running


def pids(supervisor: Supervisor) -> list[int]:
    return [worker["pid"] for worker in supervisor.health()["workers"] if worker.get("pid")]


async def test_killed_workers_leave_nothing_undone_and_nothing_done_twice(
    postgres_url: str, valkey_url: str, broker_url: str, tmp_path: Path
) -> None:
    settings = {"workers": 2, "partitions": 2, "worker_backoff_ms_max": 200}
    async with headquarters(postgres_url, valkey_url, broker_url, tmp_path, **settings) as hq:
        async with supervised(hq) as supervisor, hq.relay("R-1") as one, hq.relay("R-2") as two:
            asking = asyncio.create_task(insist_on_many([one, two], 30))
            for index in (0, 1):
                seen = len(one.replies) + len(two.replies)
                await until(lambda seen=seen: len(one.replies) + len(two.replies) > seen + 8, 60)  # type: ignore[misc]
                os.kill(pids(supervisor)[index], signal.SIGKILL)
            answers = await asyncio.wait_for(asking, 150)
        await assert_each_once(hq, answers)


async def test_without_postgresql_an_advice_is_in_doubt_and_booked_when_it_is_back(
    valkey_url: str, broker_url: str, own_postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    url = own_postgres.url_of("postgres")
    async with headquarters(url, valkey_url, broker_url, tmp_path) as hq, hq.worker(), hq.relay() as relay:
        approved(await relay.ask(earn(0)))
        own_postgres.kill()
        advice, live, unknown = earn(1), earn(2), earn(77)
        assert refused(await relay.ask(advice, sale_ms=1)) in (ErrorCode.UNAVAILABLE, ErrorCode.BUSY)
        assert refused(await relay.ask(live)) in (ErrorCode.UNAVAILABLE, ErrorCode.BUSY)
        balance = approved(await relay.ask(BalanceRequest(new_id(), 0, card(0))))
        assert balance.answer.provisional
        # The session stands, and a new relay is told to come later.
        relay.publish([Report(0, 0, 0, 0)])
        async with hq.relay("R-2", sign_on=False) as other:
            other.say_hello()
            await until(lambda: other.goodbyes)
            assert other.goodbyes[0].reason == Hint.BUSY
        own_postgres.start()
        approved(await relay.insist(advice, sale_ms=1))
        approved(await relay.insist(live))
        assert declined(await relay.insist(unknown, sale_ms=1)) == Outcome.UNKNOWN_CARD
        assert len(await hq.conflicts()) == 1
        assert [len(await hq.journal(number)) for number in range(3)] == [1, 1, 1]


async def test_with_a_broker_of_mqtt_3_the_first_worker_hears_all_relays(
    postgres_url: str, valkey_url: str, own_broker: EmbeddedBroker, tmp_path: Path
) -> None:
    async with OldBroker(own_broker.port, "refuse") as old:
        url = own_broker.url.replace(f":{own_broker.port}", f":{old.port}")
        settings = {"workers": 2, "partitions": 2}
        async with headquarters(postgres_url, valkey_url, url, tmp_path, **settings) as hq:
            workers = [hq.make_worker(0), hq.make_worker(1)]
            await asyncio.gather(*[worker.start() for worker in workers])
            for worker in workers:
                await until(lambda worker=worker: bool(worker.bridge.figures()["connected"]))  # type: ignore[misc]
                shown: Any = worker.detail()["bridge"]
                assert shown["mqtt"] == "3.1.1"
            async with hq.relay("R-1") as one, hq.relay("R-2") as two:
                answers = await insist_on_many([one, two], 10)
            begun = [worker.bridge.tally.sessions_begun for worker in workers if worker.bridge is not None]
            assert begun[0] >= 2
            assert begun[1] == 0
            await asyncio.gather(*[worker.stop() for worker in workers])
            await assert_each_once(hq, answers)


async def test_without_acknowledgements_of_the_broker_everything_works_too(
    postgres_url: str, valkey_url: str, broker_url: str, tmp_path: Path
) -> None:
    async with headquarters(postgres_url, valkey_url, broker_url, tmp_path, mqtt_qos=0) as hq:
        async with hq.worker(), hq.relay(qos=0) as relay:
            answers = await insist_on_many([relay], 20)
        await assert_each_once(hq, answers)


async def test_a_worker_serves_registers_while_its_broker_is_not_there(
    postgres_url: str, valkey_url: str, tmp_path: Path
) -> None:
    url = "mqtt://nobody:secret@127.0.0.1:9"
    async with headquarters(postgres_url, valkey_url, url, tmp_path) as hq:
        worker = hq.make_worker()
        await worker.start()
        await until(lambda: "refused" in str(worker.detail()["bridge"]))
        assert worker.down() == []
        assert worker.detail()["accepting"] is True
        assert "secret" not in str(worker.detail())
        await worker.stop()
        await worker.stop()
