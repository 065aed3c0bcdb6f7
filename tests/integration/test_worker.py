"""A whole server: supervisor, two workers with a peer link, real engines, registers over TCP."""

import asyncio
import os
import secrets as random
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from ledger.card_tokens import token_hash
from ledger.journal import migrate
from ledger.journal.enrolment import NewCard, enrol
from ledger.journal.onboarding import Onboarding
from ledger.journal.partitioning import ensure_partitions
from ledger.journal.postgres import Postgres
from ledger.programme import Rules
from protocol import scram, tokens
from protocol.client import Client
from protocol.codes import CardKind, Message, Outcome
from protocol.requests import Card, Receipt
from server.observation.metrics import added_up
from server.secrets import Secrets
from server.settings import Settings
from server.workers.peer_address import new_address
from server.workers.supervisor import Supervisor

SECRETS = Secrets(*(bytes([number]) * 32 for number in range(1, 5)))
SECRET = "Zq7-vNfK3mPw9sXt2LdYhR5b"
CARDS = 40
TERMINALS = 8
PARTITIONS = 4


def number_of(card: int) -> str:
    first = f"20000000{card:04d}"
    return first + tokens.ean13_check_digit(first)


async def set_up(postgres_url: str) -> None:
    await migrate.run(postgres_url)
    await ensure_partitions(Postgres(postgres_url), PARTITIONS)
    connection = await asyncpg.connect(postgres_url)
    try:
        onboarding = Onboarding(connection)
        partner = await onboarding.partner("Harvest Foods")
        network = await onboarding.network(partner, "Harvest Market", "EUR")
        await onboarding.rules(network, Rules(0, earn_rate_bp=10_000, slip=("Balance {available}",)))
        store = await onboarding.store(network, "Mill Street")
        keys = scram.credentials(SECRET, random.token_bytes(16), scram.ITERATIONS_MIN)
        permitted = [int(op) for op in Message if Message.BALANCE <= op <= Message.REPLACE]
        for terminal in range(TERMINALS):
            await onboarding.terminal(store, f"T-{terminal}", permitted, keys)
        canonical = [f"ean13:{number_of(card)}" for card in range(CARDS)]
        await enrol(
            connection,
            [NewCard(token_hash(token, SECRETS.token_key), 1, tokens.masked(token), 1) for token in canonical],
        )
    finally:
        await connection.close()


class Server:
    def __init__(self, supervisor: Supervisor, port: int, running: asyncio.Task[int]) -> None:
        self.supervisor = supervisor
        self.port = port
        self.running = running

    @asynccontextmanager
    async def tills(self, count: int) -> AsyncIterator[list[Client]]:
        clients = [Client("127.0.0.1", self.port, f"T-{number}", SECRET) for number in range(count)]
        for client in clients:
            await client.__aenter__()
        try:
            yield clients
        finally:
            for client in clients:
                await client.__aexit__(None, None, None)

    async def until_ready(self) -> None:
        async with asyncio.timeout(60):
            while not (health := self.supervisor.health())["ready"] or health["down"]:
                await asyncio.sleep(0.05)


@pytest.fixture
async def server(postgres_url: str, valkey_url: str, tmp_path: Path) -> AsyncIterator[Server]:
    await set_up(postgres_url)
    settings = Settings.model_validate(
        {
            "listen_port": 0,
            "workers": 2,
            "partitions": PARTITIONS,
            "postgres_url": postgres_url,
            "redis_url": valkey_url,
            "data_dir": tmp_path,
            "status_interval_ms": 100,
            "drain_timeout_ms": 5_000,
        }
    )
    supervisor = Supervisor(settings, SECRETS)
    _, port = supervisor.bind()
    running = asyncio.create_task(supervisor.run())
    made = Server(supervisor, port, running)
    await made.until_ready()
    try:
        yield made
    finally:
        supervisor.stop()
        await running


def receipt(amount: int) -> Receipt:
    return Receipt(amount, "EUR", "0042-4")


def card(number: int) -> Card:
    return Card(CardKind.EAN13, number_of(number))


async def test_points_are_right_whichever_worker_a_register_is_on(server: Server) -> None:
    async with server.tills(TERMINALS) as tills:
        for round_ in range(3):
            earned = await asyncio.gather(
                *(tills[(number + round_) % TERMINALS].earn(card(number), receipt(1_000)) for number in range(CARDS))
            )
            assert {reply.outcome for reply in earned} == {Outcome.APPROVED}
        spent = await asyncio.gather(
            *(tills[n % TERMINALS].redeem(card(n), 100 + n, receipt(5_000)) for n in range(CARDS))
        )
        assert [reply.points for reply in spent] == [100 + number for number in range(CARDS)]
        balances = await asyncio.gather(*(tills[-1 - n % TERMINALS].balance(card(n)) for n in range(CARDS)))
        assert [reply.balance.available for reply in balances] == [2_900 - number for number in range(CARDS)]
        assert balances[0].slip == ("Balance 29.00",)
    # With two workers and four partitions some registers were on the wrong one; the workers report it a little later.
    async with asyncio.timeout(30):
        while not any(worker["detail"]["links_in"] for worker in server.supervisor.health()["workers"]):
            await asyncio.sleep(0.05)


async def test_the_numbers_of_all_workers_are_added_up(server: Server) -> None:
    async with server.tills(4) as tills:
        for till in tills:
            await till.balance(card(1))
    counted = b'tillwire_answers_total{operation="BALANCE",outcome="APPROVED"} 4.0'
    async with asyncio.timeout(20):
        while counted not in added_up(server.supervisor.metrics_folder):
            await asyncio.sleep(0.05)
    assert b"tillwire_connections " in added_up(server.supervisor.metrics_folder)


async def test_a_killed_worker_is_replaced_and_no_point_is_lost(server: Server) -> None:
    async with server.tills(4) as tills:
        await asyncio.gather(*(tills[number % 4].earn(card(number), receipt(1_000)) for number in range(CARDS)))
        victim = server.supervisor.health()["workers"][0]["pid"]
        asking = [
            asyncio.create_task(tills[number % 4].redeem(card(number), 100, receipt(5_000))) for number in range(CARDS)
        ]
        await asyncio.sleep(0)
        os.kill(victim, signal.SIGKILL)
        replies = await asyncio.gather(*asking)
        assert {reply.outcome for reply in replies} == {Outcome.APPROVED}
        await server.until_ready()
        balances = await asyncio.gather(*(tills[number % 4].balance(card(number)) for number in range(CARDS)))
        assert {reply.balance.available for reply in balances} == {900}


async def test_stopping_under_load_answers_what_was_begun_and_exits_cleanly(server: Server, postgres_url: str) -> None:
    async with server.tills(4) as tills:
        await asyncio.gather(*(tills[number % 4].earn(card(number), receipt(1_000)) for number in range(CARDS)))
        asking = [
            asyncio.create_task(tills[number % 4].redeem(card(number % CARDS), 1, receipt(5_000)))
            for number in range(5 * CARDS)
        ]
        await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
        server.supervisor.stop()
        assert await server.running == 0
        replies = await asyncio.gather(*asking, return_exceptions=True)
    heard = sum(1 for reply in replies if not isinstance(reply, BaseException) and reply.outcome == Outcome.APPROVED)
    connection = await asyncpg.connect(postgres_url)
    try:
        journaled = await connection.fetchval("SELECT count(*) FROM entry WHERE op = $1", int(Message.REDEEM))
    finally:
        await connection.close()
    assert heard == journaled > 0


def test_an_address_is_new_each_time_private_and_short(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120)
    for data_dir in (tmp_path, deep):
        first, second = (Path(new_address(data_dir, 3)) for _ in range(2))
        assert first != second
        assert first.name.startswith("3-")
        assert first.parent.stat().st_mode & 0o777 == 0o700
        assert len(str(first)) <= 103


def test_what_a_dead_worker_left_is_removed_and_a_living_ones_is_not(tmp_path: Path) -> None:
    left = Path(new_address(tmp_path, 3))
    left.write_bytes(b"")
    with socket.socket(socket.AF_UNIX) as living:
        path = new_address(tmp_path, 4)
        living.bind(path)
        living.listen()
        new_address(tmp_path, 4)
        assert Path(path).exists()
        assert left.exists()
    new_address(tmp_path, 3)
    new_address(tmp_path, 4)
    assert not left.exists()
    assert not Path(path).exists()
