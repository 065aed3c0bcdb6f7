"""A whole server on real engines: supervisor, two workers with a peer link, a small programme, registers over TCP."""

from __future__ import annotations

import asyncio
import secrets as random
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
from protocol.codes import CardKind, Message
from protocol.requests import Card, Receipt
from server.secrets import Secrets
from server.settings import Settings
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


@asynccontextmanager
async def running_server(postgres_url: str, redis_url: str, folder: Path, **settings: int) -> AsyncIterator[Server]:
    """Run the server on engines with its programme set up; `settings` go beside what makes it small and prompt."""
    await set_up(postgres_url)
    made = Settings.model_validate(
        {
            "listen_port": 0,
            "workers": 2,
            "partitions": PARTITIONS,
            "postgres_url": postgres_url,
            "redis_url": redis_url,
            "data_dir": folder,
            "status_interval_ms": 100,
            **settings,
        }
    )
    supervisor = Supervisor(made, SECRETS)
    _, port = supervisor.bind()
    server = Server(supervisor, port, asyncio.create_task(supervisor.run()))
    await server.until_ready()
    try:
        yield server
    finally:
        supervisor.stop()
        await server.running


@pytest.fixture
async def server(postgres_url: str, valkey_url: str, tmp_path: Path) -> AsyncIterator[Server]:
    async with running_server(postgres_url, valkey_url, tmp_path, drain_timeout_ms=5_000) as running:
        yield running


def receipt(amount: int) -> Receipt:
    return Receipt(amount, "EUR", "0042-4")


def card(number: int) -> Card:
    return Card(CardKind.EAN13, number_of(number))
