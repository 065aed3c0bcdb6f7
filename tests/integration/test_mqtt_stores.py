"""A store's own user of the broker, in the wrong hands, cannot keep other stores from headquarters."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiomqtt
import pytest

from tests.rigs.documented_mosquitto import behind_documented_mosquitto, url_of, user_of
from tests.rigs.relay_rig import Headquarters, approved, earn, until

TURNS = 12


@pytest.fixture
async def hq(postgres_url: str, valkey_url: str, own_folder: Path, tmp_path: Path) -> AsyncIterator[Headquarters]:
    made = Headquarters(postgres_url, valkey_url, "", tmp_path)
    async with behind_documented_mosquitto(made, own_folder):
        yield made
    await made.verify()


def hostile(hq: Headquarters, identifier: str | None = None) -> aiomqtt.Client:
    """The user of the second store, in the wrong hands."""
    user = user_of(hq, "R-2")
    port = int(hq.mqtt_url.rpartition(":")[2])
    version = aiomqtt.ProtocolVersion.V5
    return aiomqtt.Client("127.0.0.1", port, username=user, password=user, identifier=identifier, protocol=version)


async def test_nobody_can_join_the_group_that_shares_the_hellos(hq: Headquarters) -> None:
    async with hq.worker(), hostile(hq) as stranger, hq.relay(url=url_of(hq, "R-1"), sign_on=False) as relay:
        for group in ("tillwire", "bridges", "x"):
            await stranger.subscribe(f"$share/{group}/tillwire/1/+/+/+/hello", qos=1)
        for turn in range(1, TURNS + 1):
            relay.say_hello()
            await until(lambda turn=turn: len(relay.welcomes) == turn)  # type: ignore[misc]


async def test_nobody_learns_the_name_under_which_headquarters_is_connected(hq: Headquarters) -> None:
    async with hq.worker() as worker, hq.relay(url=url_of(hq, "R-1")) as relay:
        bridge = worker.bridge
        assert bridge is not None
        lost: list[bool] = []
        told = bridge._broker._on_change
        bridge._broker._on_change = lambda connected: (lost.append(connected), told(connected))  # type: ignore[assignment]
        for identifier in (f"tillwire-{relay.line.bridge}", relay.line.bridge):
            async with hostile(hq, identifier):
                approved(await relay.ask(earn()))
        await asyncio.sleep(0)
        assert not lost
