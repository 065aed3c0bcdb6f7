"""Whatever runs on real sockets and engines runs on the event loop of production."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import uvloop

from tests.rigs.ledger_rig import Rig


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
async def rig(postgres_url: str, valkey_url: str) -> AsyncIterator[Rig]:
    """Ten active cards (0 to 9) and two issued ones (10, 11) in one partition; the books are proved at the end."""
    rig = Rig(postgres_url, valkey_url)
    await rig.prepare(cards=10, issued=2)
    yield rig
    await rig.verify()
