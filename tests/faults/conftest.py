"""Faults happen on engines of their own and on the event loop of production."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import pytest
import uvloop

from server.engines.postgres import EmbeddedPostgres
from server.engines.valkey import EmbeddedValkey
from tests.rigs.ledger_rig import FAULT_LIMITS, Rig


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@dataclass
class Site:
    """A rig, and the engines that it may break."""

    rig: Rig
    postgres: EmbeddedPostgres
    valkey: EmbeddedValkey


@pytest.fixture
async def rig(postgres_url: str, valkey_url: str) -> AsyncIterator[Rig]:
    """Ten active cards in one partition, on shared engines that nobody kills; the books are proved at the end."""
    rig = Rig(postgres_url, valkey_url, FAULT_LIMITS)
    await rig.prepare(cards=10)
    yield rig
    await rig.verify()


@pytest.fixture
async def valkey_site(postgres_url: str, postgres_server: EmbeddedPostgres,
                      own_valkey: EmbeddedValkey) -> AsyncIterator[Site]:  # fmt: skip
    """A Valkey to break."""
    rig = Rig(postgres_url, own_valkey.url, FAULT_LIMITS)
    await rig.prepare(cards=10)
    yield Site(rig, postgres_server, own_valkey)
    await rig.verify()


@pytest.fixture
async def site(own_postgres: EmbeddedPostgres, own_valkey: EmbeddedValkey) -> AsyncIterator[Site]:
    """Both engines to break."""
    rig = Rig(own_postgres.url, own_valkey.url, FAULT_LIMITS)
    await rig.prepare(cards=10)
    yield Site(rig, own_postgres, own_valkey)
    await rig.verify()
