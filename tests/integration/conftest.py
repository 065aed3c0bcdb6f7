"""Whatever runs on real sockets and engines runs on the event loop of production."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import uvloop

from server.engines.broker import EmbeddedBroker
from tests.rigs.ledger_rig import Rig
from tests.rigs.shop_rig import Counter, Headquarters, Shop


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
async def rig(postgres_url: str, valkey_url: str) -> AsyncIterator[Rig]:
    """Ten active cards (0 to 9) and two issued ones (10, 11) in one partition; the books are proved at the end."""
    rig = Rig(postgres_url, valkey_url)
    await rig.prepare(cards=10, issued=2)
    yield rig
    await rig.verify()


@pytest.fixture
def own_mosquitto(own_folder: Path) -> Iterator[EmbeddedBroker]:
    engine = EmbeddedBroker(own_folder / "mqtt", kind="mosquitto")
    engine.start()
    yield engine
    engine.stop()


@pytest.fixture
async def headquarters(
    postgres_url: str, valkey_url: str, own_mosquitto: EmbeddedBroker, tmp_path: Path
) -> AsyncIterator[Headquarters]:
    made = Headquarters(postgres_url, valkey_url, own_mosquitto.url, tmp_path / "headquarters")
    (tmp_path / "headquarters").mkdir()
    await made.prepare()
    await made.start()
    try:
        yield made
    finally:
        await made.stop()
    await made.verify()


@pytest.fixture
async def shop(headquarters: Headquarters, tmp_path: Path) -> AsyncIterator[Shop]:
    async with Shop(headquarters, tmp_path / "relay") as made:
        await made.until_up()
        yield made


@pytest.fixture
async def counter() -> AsyncIterator[Counter]:
    made = Counter()
    yield made
    await made.close()
