import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from tests.campaign.proxy import LOOPBACK, Direction, Fate, Proxy

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1000):
            writer.write(data)
    except ConnectionResetError:
        pass
    finally:
        writer.close()


@asynccontextmanager
async def proxied(handler: Handler = echo) -> AsyncIterator[Proxy]:
    server = await asyncio.start_server(handler, LOOPBACK, 0)
    proxy = Proxy(server.sockets[0].getsockname()[1], random.Random(1))  # noqa: S311
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.close()
        server.close()


@asynccontextmanager
async def connected(proxy: Proxy) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(LOOPBACK, proxy.port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def say(line: tuple[asyncio.StreamReader, asyncio.StreamWriter], text: bytes) -> bytes:
    line[1].write(text)
    return await line[0].readexactly(len(text))


async def rest(reader: asyncio.StreamReader) -> bytes:
    """Return what comes until the connection ends, however that is."""
    found = b""
    try:
        while data := await reader.read(1000):
            found += data
    except ConnectionResetError:
        pass
    return found


async def test_what_is_not_harmed_passes_both_ways() -> None:
    async with proxied() as proxy, connected(proxy) as line:
        assert await say(line, b"hello") == b"hello"
        assert await say(line, b"x" * 900) == b"x" * 900


@pytest.mark.parametrize("direction", list(Direction))
async def test_a_cut_lets_a_part_through_and_ends_both_sides(direction: Direction) -> None:
    arrived = bytearray()
    ended = asyncio.Event()

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.extend(await reader.read(1000))
        writer.write(b"answer" * 20)
        await rest(reader)
        ended.set()
        writer.close()

    async with proxied(note) as proxy, connected(proxy) as (reader, writer):
        while not proxy.lines:
            await asyncio.sleep(0.01)
        proxy.harm(Fate.CUT, direction, 1)
        writer.write(b"request" * 20)
        heard = await rest(reader)
        await ended.wait()
    if direction is Direction.UP:
        assert heard == b""
        assert len(arrived) < len(b"request" * 20)
    else:
        assert bytes(arrived) == b"request" * 20
        assert len(heard) < len(b"answer" * 20)


@pytest.mark.parametrize("direction", list(Direction))
async def test_a_frozen_line_runs_on_with_every_byte_after_the_thaw(direction: Direction) -> None:
    async with proxied() as proxy, connected(proxy) as (reader, writer):
        assert await say((reader, writer), b"one") == b"one"
        proxy.harm(Fate.FREEZE, direction, 1)
        text = bytes(range(200))
        writer.write(text)
        early = b""
        try:
            async with asyncio.timeout(0.2):
                while len(early) < len(text):
                    early += await reader.read(1000)
        except TimeoutError:
            pass
        assert len(early) < len(text)
        writer.write(b"more")
        proxy.mend()
        assert early + await reader.readexactly(len(text) + 4 - len(early)) == text + b"more"


async def test_dropped_bytes_never_come_and_the_line_ends_when_it_is_mended() -> None:
    async with proxied() as proxy, connected(proxy) as (reader, writer):
        assert await say((reader, writer), b"one") == b"one"
        proxy.harm(Fate.DROP, Direction.DOWN, 1)
        writer.write(b"two")
        while not any(line._dropped for line in proxy.lines):
            await asyncio.sleep(0.01)
        proxy.mend()
        assert await rest(reader) == b""
        async with connected(proxy) as line:
            assert await say(line, b"three") == b"three"


async def test_a_whole_share_also_harms_new_lines_until_it_is_mended() -> None:
    async with proxied() as proxy:
        proxy.harm(Fate.DROP, Direction.DOWN, 1)
        async with connected(proxy) as (reader, writer):
            writer.write(b"lost")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reader.read(10), 0.1)
        proxy.mend()
        async with connected(proxy) as line:
            assert await say(line, b"heard") == b"heard"


async def test_the_target_can_be_switched_and_connections_refused() -> None:
    async def other(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"other")
        writer.close()

    async with proxied() as proxy, proxied(other) as second:
        proxy.target_port = second.target_port
        async with connected(proxy) as (reader, _):
            assert await reader.read() == b"other"
        await proxy.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(LOOPBACK, proxy.port)
        await proxy.start()
        async with connected(proxy) as (reader, _):
            assert await reader.read() == b"other"
