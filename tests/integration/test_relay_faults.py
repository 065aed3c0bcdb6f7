"""What is killed, cut and repeated around a relay: nothing is lost, nothing is doubled."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from protocol.client import Client
from protocol.codes import ErrorCode, Outcome
from protocol.messages import AnswerMessage, ErrorMessage
from protocol.requests import BalanceRequest, Receipt, ReverseRequest
from server.engines.broker import EmbeddedBroker
from server.engines.ports import free_port
from tests.rigs.shop_rig import (
    REGISTERS,
    Counter,
    Headquarters,
    Shop,
    card,
    earn,
    error,
    new_id,
    outcome,
    redeem,
    until,
)

CHECKOUT = Path(__file__).parents[2]
CARDS = 6


class Trade:
    """Registers that sell without pause, and what their cards must hold at the end."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)  # noqa: S311
        self.expected = [0] * CARDS
        self.approved: list[bytes] = []
        self.sold = 0
        self.over = False

    async def work(self, client: Client) -> None:
        while not self.over:
            await self._sell(client, self._dice.randrange(CARDS), self._dice.random())
            await asyncio.sleep(0.005)

    async def _sell(self, client: Client, number: int, dice: float) -> None:
        request_id, amount = new_id(), self._dice.randrange(100, 10_000)
        receipt = Receipt(amount, "EUR", "r")
        self.sold += 1
        # An answer must come: a good register asks until there is one.
        if dice < 0.5:
            reply = await client.request(earn(card(number), amount, request_id), patience_ms=60_000)
            assert reply.outcome == Outcome.APPROVED
            self.expected[number] += amount
        elif dice < 0.6:
            reply = await client.sale(card(number), receipt, request_id=request_id)
            assert reply.outcome == Outcome.APPROVED
            self.expected[number] += amount
        elif dice < 0.7:
            reply = await client.request(earn(card(number), amount, request_id), patience_ms=60_000)
            assert reply.outcome == Outcome.APPROVED
            reversal = ReverseRequest(new_id(), 0, card(number), request_id)
            assert (await client.request(reversal, patience_ms=60_000)).outcome == Outcome.APPROVED
        else:
            reply = await client.request(redeem(card(number), amount // 10, request_id), patience_ms=60_000)
            if not reply.approved:
                return
            self.expected[number] -= reply.points
        self.approved.append(request_id)

    async def check(self, headquarters: Headquarters) -> None:
        """Compare with what headquarters has, asked over TCP."""
        counter = Counter()
        try:
            till = await counter.till(headquarters.port, "T-3")
            for number, expected in enumerate(self.expected):
                answer = await till.ask(BalanceRequest(new_id(), 0, card(number)))
                assert isinstance(answer, AnswerMessage)
                assert answer.answer.balance is not None
                assert answer.answer.balance.available == expected
        finally:
            await counter.close()
        entries = await headquarters.journal(self.approved)
        assert set(entries.values()) == {1}


@asynccontextmanager
async def trading(port: int, counter: Counter, seed: int = 1) -> AsyncIterator[Trade]:
    trade = Trade(seed)
    async with asyncio.TaskGroup() as registers:
        for number in range(REGISTERS - 1):
            registers.create_task(trade.work(await counter.client(port, f"T-{number}")))
        try:
            yield trade
        finally:
            trade.over = True


async def test_a_flapping_broker_loses_and_doubles_nothing(
    headquarters: Headquarters, shop: Shop, counter: Counter, own_mosquitto: EmbeddedBroker
) -> None:
    dice = random.Random(7)  # noqa: S311
    async with trading(shop.port, counter) as trade:
        for turn in range(10):
            await asyncio.sleep(dice.uniform(0.05, 1.5))
            own_mosquitto.stop() if turn % 2 else own_mosquitto.kill()
            await asyncio.sleep(dice.uniform(0.05, 2.0))
            own_mosquitto.start()
        await shop.until_up()
        sold = trade.sold
        await until(lambda: trade.sold > sold + 20)
    await shop.until_drained()
    assert shop.running.store.conflicts == 0
    await trade.check(headquarters)


async def test_a_broker_that_hangs_is_silence_and_what_went_into_it_counts_once(
    headquarters: Headquarters, shop: Shop, counter: Counter, own_mosquitto: EmbeddedBroker
) -> None:
    till = await counter.till(shop.port)
    assert outcome(await till.ask(earn(card(0)))) == Outcome.APPROVED
    own_mosquitto.pause()
    try:
        # What the relay may answer itself it takes upon itself when no answer comes.
        given = earn(card(0), 3_000)
        assert outcome(await till.ask(given)) == Outcome.APPROVED
        await shop.until_down()
        later = earn(card(0), 2_000)
        assert outcome(await till.ask(later)) == Outcome.APPROVED
    finally:
        own_mosquitto.resume()
    await shop.until_drained()
    entries = await headquarters.journal([given.request_id, later.request_id])
    assert set(entries.values()) == {1}


async def test_a_redemption_in_doubt_when_the_line_is_lost_is_reversed_off_line_and_never_stands(
    headquarters: Headquarters, shop: Shop, counter: Counter, own_mosquitto: EmbeddedBroker
) -> None:
    till = await counter.till(shop.port)
    assert outcome(await till.ask(earn(card(0)))) == Outcome.APPROVED
    own_mosquitto.pause()
    try:
        spent = redeem(card(0), 700)
        assert error(await till.ask(spent)) == ErrorCode.UNAVAILABLE
        await shop.until_down()
        again = await till.ask(spent)
        if isinstance(again, ErrorMessage):
            assert again.code == ErrorCode.UNAVAILABLE
        else:
            assert again.answer.outcome == Outcome.OFFLINE
        reversal = ReverseRequest(new_id(), 0, card(0), spent.request_id)
        assert outcome(await till.ask(reversal)) == Outcome.APPROVED
    finally:
        own_mosquitto.resume()
    await shop.until_up()
    await shop.until_drained()
    assert outcome(await till.ask(spent)) == Outcome.REVERSED
    balance = await till.ask(BalanceRequest(new_id(), 0, card(0)))
    assert isinstance(balance, AnswerMessage)
    assert balance.answer.balance is not None
    assert balance.answer.balance.available == 10_000


# The process.


class Process:
    """`tillwire relay run` of its own."""

    def __init__(self, headquarters: Headquarters, folder: Path) -> None:
        self.port = free_port()
        self._folder = folder
        bare = {name: value for name, value in os.environ.items() if not name.startswith("TILLWIRE_")}
        self._environment = {
            **bare,
            "PYTHONPATH": str(CHECKOUT),
            "TILLWIRE_RELAY_CREDENTIAL": headquarters.credential,
            "TILLWIRE_RELAY_MQTT_URL": headquarters.broker_url,
            "TILLWIRE_RELAY_DATA_DIR": str(folder),
            "TILLWIRE_RELAY_LISTEN_PORT": str(self.port),
            "TILLWIRE_RELAY_STATUS_INTERVAL_MS": "100",
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self._folder.parent / "relay.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "server.cli", "relay", "run"], cwd=CHECKOUT, env=self._environment, stderr=log
            )

    def end(self, number: int = signal.SIGKILL) -> int:
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(30)

    def status(self) -> tuple[int, dict[str, object]]:
        done = subprocess.run(
            [sys.executable, "-m", "server.cli", "relay", "status", "--json"],
            cwd=CHECKOUT, env=self._environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        return done.returncode, json.loads(done.stdout) if done.stdout else {}

    async def until_status(self, **wanted: object) -> dict[str, object]:
        async with asyncio.timeout(90):
            while True:
                _, found = await asyncio.to_thread(self.status)
                if wanted.items() <= found.items():
                    return found
                await asyncio.sleep(0.1)


@pytest.fixture
async def process(headquarters: Headquarters, tmp_path: Path) -> AsyncIterator[Process]:
    made = Process(headquarters, tmp_path / "relay")
    made.start()
    yield made
    if made._process is not None and made._process.poll() is None:
        made.end()


async def test_a_relay_killed_at_any_moment_loses_and_doubles_nothing(
    headquarters: Headquarters, process: Process, counter: Counter, own_mosquitto: EmbeddedBroker
) -> None:
    await process.until_status(line="up", running=True)
    dice = random.Random(3)  # noqa: S311
    async with trading(process.port, counter) as trade:
        for turn in range(6):
            # On line, then cut off, then draining beside live requests.
            await asyncio.sleep(dice.uniform(0.2, 1.5))
            if turn % 3 == 1:
                own_mosquitto.kill()
                await asyncio.sleep(dice.uniform(1.0, 3.0))
            process.end()
            if turn % 3 == 2:
                await asyncio.to_thread(own_mosquitto.start)
            process.start()
            sold = trade.sold
            await until(lambda sold=sold: trade.sold > sold + 10)
    found = await process.until_status(line="up", queued=0, running=True)
    assert found["conflicts"] == 0
    await trade.check(headquarters)


async def test_sigterm_lets_registers_go_and_keeps_what_is_stored(
    headquarters: Headquarters, process: Process, counter: Counter, own_mosquitto: EmbeddedBroker
) -> None:
    await process.until_status(line="up", running=True)
    own_mosquitto.kill()
    await process.until_status(line="down")
    till = await counter.till(process.port)
    given = earn(card(0))
    assert outcome(await till.ask(given)) == Outcome.APPROVED
    assert process.end(signal.SIGTERM) == 0
    assert (await till.farewell()).reconnect_after_ms > 0
    code, found = process.status()
    assert (code, found["running"], found["queued"]) == (1, False, 1)
    own_mosquitto.start()
    process.start()
    await process.until_status(line="up", queued=0, good=True)
    assert await headquarters.journal([given.request_id]) == {given.request_id: 1}


async def test_a_second_relay_on_the_same_folder_is_refused_in_one_sentence(
    headquarters: Headquarters, process: Process
) -> None:
    await process.until_status(line="up", running=True)
    process._environment["TILLWIRE_RELAY_LISTEN_PORT"] = "0"
    done = subprocess.run(
        [sys.executable, "-m", "server.cli", "relay", "run"],
        cwd=CHECKOUT, env=process._environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "another relay uses" in done.stderr.splitlines()[-1]


# The other broker.


async def test_the_embedded_broker_without_mosquitto_carries_a_shop_too(
    postgres_url: str, valkey_url: str, own_folder: Path, counter: Counter, tmp_path: Path
) -> None:
    broker = EmbeddedBroker(own_folder / "mqtt", kind="iotcore")
    broker.start()
    (tmp_path / "headquarters").mkdir()
    headquarters = Headquarters(postgres_url, valkey_url, broker.url, tmp_path / "headquarters")
    await headquarters.prepare()
    await headquarters.start()
    try:
        async with Shop(headquarters, tmp_path / "relay") as shop:
            await shop.until_up()
            async with trading(shop.port, counter) as trade:
                await until(lambda: trade.sold > 20)
                broker.kill()
                await shop.until_down()
                sold = trade.sold
                await until(lambda: trade.sold > sold + 20)
                broker.start()
                await shop.until_up()
            await shop.until_drained()
            await trade.check(headquarters)
    finally:
        await headquarters.stop()
        broker.stop()
    await headquarters.verify()
