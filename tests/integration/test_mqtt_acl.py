"""The Mosquitto of docs/mqtt.md: what each user may do there, and that he may do nothing else."""

import asyncio
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiomqtt
import pytest

from tests.rigs.documented_mosquitto import HEADQUARTERS, documented_mosquitto

RELAY, OTHER = "3/7/R-0042", "3/8/R-0043"
MINE, THEIRS = f"tillwire/1/{RELAY}", f"tillwire/1/{OTHER}"


@pytest.fixture
def port(own_folder: Path) -> Iterator[int]:
    with documented_mosquitto(own_folder, (HEADQUARTERS, RELAY, OTHER, "3/7/+", "stranger")) as port:
        yield port


@asynccontextmanager
async def client(port: int, user: str, *topics: str) -> AsyncIterator[aiomqtt.Client]:
    """A user who has subscribed."""
    async with aiomqtt.Client(
        "127.0.0.1", port, username=user, password=user, protocol=aiomqtt.ProtocolVersion.V5
    ) as connection:
        for topic in topics:
            await connection.subscribe(topic, qos=1)
        yield connection


async def next_of(listener: aiomqtt.Client) -> tuple[str, bytes]:
    message = await asyncio.wait_for(anext(listener.messages), 20)
    assert isinstance(message.payload, bytes)
    return str(message.topic), message.payload


async def say(speaker: aiomqtt.Client, topic: str, payload: bytes) -> None:
    """Publish and wait for the acknowledgement, which comes for what is forbidden as well."""
    await speaker.publish(topic, payload, qos=1)


async def test_headquarters_hears_every_relay_and_answers_it(port: int) -> None:
    async with (
        client(port, HEADQUARTERS, "$share/tillwire/tillwire/1/+/+/+/hello", "tillwire/1/+/+/+/to/b-1") as bridge,
        client(port, RELAY, f"{MINE}/answer") as relay,
        client(port, OTHER, f"{THEIRS}/answer") as other,
    ):
        for speaker, topic in ((relay, MINE), (other, THEIRS)):
            await say(speaker, f"{topic}/hello", b"hello")
            assert await next_of(bridge) == (f"{topic}/hello", b"hello")
            await say(speaker, f"{topic}/to/b-1", b"data")
            assert await next_of(bridge) == (f"{topic}/to/b-1", b"data")
            await say(bridge, f"{topic}/answer", b"answer")
            assert await next_of(speaker) == (f"{topic}/answer", b"answer")


async def test_a_relay_hears_nothing_but_its_own_answers(port: int) -> None:
    greedy = (f"{THEIRS}/answer", f"{THEIRS}/hello", "tillwire/1/+/+/+/answer", "tillwire/1/+/+/+/to/+", "#")
    async with (
        client(port, RELAY, *greedy, f"{MINE}/answer") as relay,
        client(port, OTHER) as other,
        client(port, HEADQUARTERS) as bridge,
    ):
        await say(other, f"{THEIRS}/hello", b"not for you")
        await say(other, f"{THEIRS}/to/b-1", b"not for you")
        await say(bridge, f"{THEIRS}/answer", b"not for you")
        await say(bridge, f"{MINE}/answer", b"for you")
        # What was published before would have come before.
        assert await next_of(relay) == (f"{MINE}/answer", b"for you")


@pytest.mark.parametrize("topic", [f"{THEIRS}/hello", f"{THEIRS}/to/b-1", f"{THEIRS}/answer", f"{MINE}/answer"])
async def test_a_relay_cannot_speak_for_anybody_else(port: int, topic: str) -> None:
    listening = ("tillwire/1/+/+/+/hello", "tillwire/1/+/+/+/to/b-1")
    async with (
        client(port, HEADQUARTERS, *listening) as bridge,
        client(port, OTHER, f"{THEIRS}/answer") as other,
        client(port, RELAY, f"{MINE}/answer") as relay,
    ):
        await say(relay, topic, b"forged")
        # What was published before would have come before.
        await say(relay, f"{MINE}/hello", b"genuine")
        await say(bridge, f"{THEIRS}/answer", b"genuine")
        await say(bridge, f"{MINE}/answer", b"genuine")
        assert await next_of(bridge) == (f"{MINE}/hello", b"genuine")
        assert await next_of(other) == (f"{THEIRS}/answer", b"genuine")
        assert await next_of(relay) == (f"{MINE}/answer", b"genuine")


async def test_a_name_with_a_wildcard_opens_nothing(port: int) -> None:
    async with (
        client(port, "3/7/+", f"{MINE}/answer") as wild,
        client(port, HEADQUARTERS, "tillwire/1/+/+/+/hello") as bridge,
    ):
        await say(wild, f"{MINE}/hello", b"forged")
        await say(bridge, f"{MINE}/answer", b"not for you")
        async with client(port, RELAY, f"{MINE}/answer") as relay:
            await say(relay, f"{MINE}/hello", b"genuine")
            await say(bridge, f"{MINE}/answer", b"genuine")
            assert await next_of(relay) == (f"{MINE}/answer", b"genuine")
        assert await next_of(bridge) == (f"{MINE}/hello", b"genuine")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(wild.messages), 0.2)


async def test_headquarters_user_cannot_pretend_to_be_a_relay(port: int) -> None:
    async with (
        client(port, HEADQUARTERS, "tillwire/1/+/+/+/hello", "tillwire/1/+/+/+/to/+") as bridge,
        client(port, RELAY) as relay,
    ):
        for topic in (f"{MINE}/hello", f"{MINE}/to/b-1"):
            await say(bridge, topic, b"forged")
        await say(relay, f"{MINE}/hello", b"genuine")
        assert await next_of(bridge) == (f"{MINE}/hello", b"genuine")


async def test_whoever_has_no_user_gets_nowhere(port: int) -> None:
    async with (
        client(port, HEADQUARTERS, "tillwire/1/+/+/+/hello") as bridge,
        client(port, RELAY) as relay,
        client(port, "stranger", "#") as stranger,
    ):
        await say(stranger, f"{MINE}/hello", b"forged")
        await say(relay, f"{MINE}/hello", b"genuine")
        assert await next_of(bridge) == (f"{MINE}/hello", b"genuine")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(stranger.messages), 0.2)
    for user, password in (("nobody", "x"), (RELAY, "wrong"), (None, None)):
        with pytest.raises(aiomqtt.MqttError):
            async with aiomqtt.Client("127.0.0.1", port, username=user, password=password):
                pass


async def test_what_is_larger_than_a_publication_may_be_does_not_pass(port: int) -> None:
    async with client(port, HEADQUARTERS, "tillwire/1/+/+/+/hello") as bridge, client(port, RELAY) as relay:
        await say(relay, f"{MINE}/hello", bytes(262_144))
        assert len((await next_of(bridge))[1]) == 262_144
        # Mosquitto drops more than that, and may cut off who sends it: here that is a program of its own.
        large = await asyncio.create_subprocess_exec(
            "mosquitto_pub", "-p", str(port), "-u", RELAY, "-P", RELAY, "-q", "1", "-t", f"{MINE}/hello", "-s",
            stdin=PIPE, stdout=DEVNULL, stderr=DEVNULL,
        )  # fmt: skip
        await asyncio.wait_for(large.communicate(bytes(262_145)), 20)
        await say(relay, f"{MINE}/hello", b"small")
        assert await next_of(bridge) == (f"{MINE}/hello", b"small")
