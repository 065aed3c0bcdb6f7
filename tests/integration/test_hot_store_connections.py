"""The connections on which scripts run: an answer is taken for its own call only, whatever became of others."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis.asyncio as redis

from ledger.hot_store import HotStore, HotStoreDown, RedisClient, connect
from server.engines.valkey import EmbeddedValkey

ECHO = "return ARGV[1]"


@pytest.fixture
async def admin(valkey_url: str) -> AsyncIterator[redis.Redis]:
    async with redis.Redis.from_url(valkey_url, single_connection_client=True) as client:
        yield client
        await client.client_unpause()


@pytest.fixture
async def client(admin: redis.Redis, valkey_url: str) -> AsyncIterator[RedisClient]:
    client = connect(valkey_url, timeout_s=5.0)
    yield client
    await client.aclose()


async def connected(admin: redis.Redis) -> int:
    return len(await admin.client_list())


async def until_held_back(admin: redis.Redis) -> None:
    """Return when Redis has read a call and holds it back; it forgets those whose connection is closed."""
    async with asyncio.timeout(30):
        while not any("b" in client["flags"] for client in await admin.client_list()):
            await asyncio.sleep(0.005)


async def until_connected(admin: redis.Redis, count: int) -> None:
    async with asyncio.timeout(30):
        while await connected(admin) != count:
            await asyncio.sleep(0.005)


async def test_the_late_answer_of_a_cancelled_call_is_nobodys(admin: redis.Redis, client: RedisClient) -> None:
    echo = await client.script_load(ECHO)
    await client.evalsha(echo, 0, "before")
    await admin.client_pause(60_000, all=False)
    call = asyncio.create_task(client.evalsha(echo, 0, "cancelled"))
    await until_held_back(admin)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    # On the same connection its answer would have to come after the one that is still owed.
    call = asyncio.create_task(client.evalsha(echo, 0, "mine"))
    await asyncio.sleep(0.1)
    await admin.client_unpause()
    assert await call == b"mine"
    assert await client.evalsha(echo, 0, "after") == b"after"


async def test_the_late_answer_of_a_call_that_took_too_long_is_nobodys(admin: redis.Redis, valkey_url: str) -> None:
    client = connect(valkey_url, timeout_s=5.0)
    hot_store = HotStore(client, timeout_s=0.2)
    echo = await client.script_load(ECHO)
    await hot_store.probe(0)
    await admin.client_pause(60_000, all=False)
    with pytest.raises(HotStoreDown):
        await hot_store.probe(0)
    call = asyncio.create_task(client.evalsha(echo, 0, "mine"))
    await asyncio.sleep(0.1)
    await admin.client_unpause()
    assert await call == b"mine"
    await hot_store.probe(0)
    await hot_store.close()


async def test_many_calls_at_once_have_each_their_own_answer_and_use_their_connections_again(
    admin: redis.Redis, client: RedisClient
) -> None:
    echo = await client.script_load(ECHO)
    for _ in range(5):
        asked = [str(number).encode() for number in range(8)]
        assert await asyncio.gather(*(client.evalsha(echo, 0, word) for word in asked)) == asked
    # The one in the driver's pool was the first of them.
    assert await connected(admin) == 1 + 8


async def test_an_error_is_an_answer_and_costs_no_connection(admin: redis.Redis, client: RedisClient) -> None:
    fails = await client.script_load("return redis.call('XADD', KEYS[1], 'x', 'y')")
    echo = await client.script_load(ECHO)
    await client.evalsha(echo, 0, "before")
    made = (await admin.info("stats"))["total_connections_received"]
    for number in range(3):
        with pytest.raises(redis.ResponseError):
            await client.evalsha(fails, 1, "key")
        with pytest.raises(redis.ResponseError, match="No matching script"):
            await client.evalsha("0" * 40, 0)
        assert await client.evalsha(echo, 0, str(number)) == str(number).encode()
    assert (await admin.info("stats"))["total_connections_received"] == made


async def test_a_connection_that_was_closed_while_nobody_called_is_no_failure(
    admin: redis.Redis, client: RedisClient
) -> None:
    echo = await client.script_load(ECHO)
    for number in range(3):
        assert await client.evalsha(echo, 0, str(number)) == str(number).encode()
        await admin.client_kill_filter(_type="normal", skipme=True)
        await until_connected(admin, 1)
        # Until the loop has read the end as well.
        await asyncio.sleep(0.02)


async def test_closing_ends_the_connections_of_scripts_too(admin: redis.Redis, valkey_url: str) -> None:
    client = connect(valkey_url, timeout_s=5.0)
    echo = await client.script_load(ECHO)
    await asyncio.gather(*(client.evalsha(echo, 0, "") for _ in range(3)))
    for _ in range(2):
        await client.aclose()
        await until_connected(admin, 1)


async def test_a_redis_behind_a_socket_file_is_reached_too() -> None:
    # Not in pytest's folder: the path of a socket file ends at 107 bytes.
    with tempfile.TemporaryDirectory() as folder:
        engine = EmbeddedValkey(Path(folder), options={"unixsocket": f"{folder}/socket"})
        engine.start()
        try:
            hot_store = HotStore.at(f"unix://{engine.url.split('//')[1].split('@')[0]}@{folder}/socket", timeout_s=5.0)
            await hot_store.probe(0)
            await hot_store.close()
        finally:
            engine.stop()
