"""Whatever runs on real sockets and engines runs on the event loop of production."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import uvloop

from tests.rigs.office_rig import OfficeRig


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
async def rig(postgres_url: str, valkey_url: str) -> AsyncIterator[OfficeRig]:
    async with OfficeRig(postgres_url, valkey_url).running() as rig:
        yield rig
        await rig.verify()
