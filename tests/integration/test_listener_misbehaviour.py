"""Registers that send garbage, say nothing, stop half-way or do not read are told and closed, and the others go on."""

import asyncio
import secrets
import struct
from contextlib import suppress

import pytest

from protocol.codes import Goodbye
from protocol.messages import encode
from protocol.requests import BalanceRequest
from protocol.session import Ping, Pong, Welcome
from tests.rigs.listener_rig import CARD, Shop, open_shop, redeem, shop, until

__all__ = ["shop"]

GARBAGE = {
    "http": b"GET / HTTP/1.1\r\nHost: till\r\n\r\n",
    "oversized": struct.pack(">I", 65_537) + b"x" * 100_000,
    "empty": struct.pack(">I", 0),
    "not an array": struct.pack(">I", 1) + b"\x05",
    "never valid": struct.pack(">I", 1) + b"\xc1",
    "two values": struct.pack(">I", 2) + b"\x90\x90",
    "unknown type": struct.pack(">I", 3) + b"\x91\xcc\xfa",
    "request too early": encode(BalanceRequest(b"i" * 16, 0, CARD)),
    "deep": struct.pack(">I", 3_000) + b"\x91" * 3_000,
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE.keys())
async def test_garbage_is_told_and_closed_and_others_go_on(shop: Shop, garbage: bytes) -> None:
    till, stranger = await shop.till(), await shop.connect()
    stranger.send_bytes(garbage)
    assert await stranger.farewell() in (Goodbye.PROTOCOL, Goodbye.TOO_LARGE)
    till.send(redeem(5))
    assert (await till.receive()).answer.points == 5


async def test_a_frame_above_the_limit_after_sign_on_is_too_large(shop: Shop) -> None:
    till = await shop.till()
    till.send_bytes(struct.pack(">I", 65_537) + b"x" * 65_537)
    assert await till.farewell() == Goodbye.TOO_LARGE


async def test_random_bytes_never_get_further_than_a_goodbye(shop: Shop) -> None:
    for _ in range(50):
        stranger = await shop.connect()
        stranger.send_bytes(secrets.token_bytes(500))
        assert await stranger.farewell() in (Goodbye.PROTOCOL, Goodbye.TOO_LARGE)


async def test_a_truncated_frame_and_a_closed_line_leave_nothing(shop: Shop) -> None:
    till = await shop.till()
    till.send_bytes(encode(redeem(5))[:-3])
    till.writer.write_eof()
    with suppress(EOFError):
        await till.receive()
    await until(lambda: shop.listener.connections == 0)
    assert not shop.ledger.taken
    assert len(shop.reception.wheel) == 0


async def test_any_chunking_of_requests_is_the_same(shop: Shop) -> None:
    till = await shop.till()
    stream = b"".join(encode(redeem(points)) for points in range(1, 6))
    for start in range(0, len(stream), 3):
        till.send_bytes(stream[start : start + 3])
        await till.writer.drain()
        await asyncio.sleep(0)
    assert [(await till.receive()).answer.points for _ in range(5)] == [1, 2, 3, 4, 5]


async def test_who_says_nothing_is_slow() -> None:
    async with open_shop(handshake_timeout_ms=60) as shop:
        assert await (await shop.connect()).farewell() == Goodbye.SLOW


async def test_a_byte_now_and_then_does_not_keep_a_frame_open() -> None:
    async with open_shop(frame_timeout_ms=150) as shop:
        till = await shop.till()
        frame = encode(redeem(5))

        async def trickle() -> None:
            for byte in frame:
                till.send_bytes(bytes([byte]))
                await asyncio.sleep(0.03)

        trickling = asyncio.create_task(trickle())
        assert await till.farewell() == Goodbye.SLOW
        trickling.cancel()
        assert not shop.ledger.taken


async def test_a_half_open_connection_is_idle_one_with_heartbeats_is_not() -> None:
    async with open_shop(idle_timeout_ms=300, handshake_timeout_ms=600_000) as shop:
        dead, alive = await shop.till(), await shop.till("T-0002")
        leaving = asyncio.create_task(dead.farewell())
        nonce = 0
        while not leaving.done():
            nonce += 1
            alive.send(Ping(nonce))
            pong = await alive.receive()
            assert isinstance(pong, Pong)
            await asyncio.sleep(0.03)
        assert leaving.result() == Goodbye.IDLE


async def test_a_register_that_does_not_hang_up_after_goodbye_is_cut_off() -> None:
    async with open_shop(handshake_timeout_ms=60) as shop:
        stranger = await shop.connect()
        message = await stranger.receive()
        assert message.reason == Goodbye.SLOW
        await until(lambda: shop.listener.connections == 0)


async def test_one_who_does_not_read_is_closed_and_the_others_are_served() -> None:
    async with open_shop(send_buffer_bytes_max=65_536) as shop:
        till, deaf = await shop.till(), await shop.connect(limit=1_024)
        assert isinstance(await deaf.sign_on("T-0002"), Welcome)
        deaf.writer.transport.pause_reading()
        pings = b"".join(encode(Ping(nonce)) for nonce in range(20_000))
        with suppress(ConnectionError):
            while shop.listener.connections == 2:
                deaf.send_bytes(pings)
                await asyncio.wait([asyncio.create_task(deaf.writer.drain())], timeout=0.05)
                await asyncio.sleep(0)
        await until(lambda: shop.listener.connections == 1)
        deaf.writer.transport.abort()
        till.send(redeem(5))
        assert (await till.receive()).answer.points == 5
