"""How many connections the listener has: up to its limit, cheap when idle, all at once, and none after a drain."""

import asyncio
import resource
import secrets
import socket

import psutil
import pytest

from protocol.codes import ErrorCode, Goodbye
from protocol.messages import AnswerMessage, decode, encode
from protocol.scram import ClientExchange
from protocol.session import Challenge, Hello, Proof, Welcome
from tests.rigs.listener_rig import SALTED, SECRET, Shop, open_shop, redeem, shop, until

__all__ = ["shop"]


async def test_more_than_connections_max_are_told_to_come_back() -> None:
    async with open_shop(connections_max=3) as shop:
        tills = [await shop.till() for _ in range(3)]
        stranger = await shop.connect()
        farewell = await stranger.receive()
        assert (farewell.reason, 1_000 <= farewell.reconnect_after_ms <= 2_000) == (Goodbye.BUSY, True)
        with pytest.raises(EOFError):
            await stranger.receive()
        stranger.writer.close()
        tills[0].send(redeem(5))
        assert isinstance(await tills[0].receive(), AnswerMessage)
        tills[1].writer.close()
        await until(lambda: shop.listener.connections == 2)
        await shop.till()


@pytest.fixture
def many_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 5_000
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))


CROWD = 2_000


async def test_an_idle_crowd_is_cheap_and_leaves_nothing_behind(shop: Shop, many_files: None) -> None:
    # Plain sockets on the registers' side, so that the memory measured is the server's.
    loop = asyncio.get_running_loop()

    async def sign_on() -> socket.socket:
        connected = socket.socket()
        connected.setblocking(False)
        await loop.sock_connect(connected, ("127.0.0.1", shop.port))
        exchange = ClientExchange("T-0001", SECRET, secrets.token_urlsafe(18), SALTED)
        await loop.sock_sendall(connected, encode(Hello((1,), "T-0001", exchange.client_first, "test")))
        challenge = decode((await loop.sock_recv(connected, 4_096))[4:])
        assert isinstance(challenge, Challenge)
        await loop.sock_sendall(connected, encode(Proof(exchange.respond(challenge.server_first))))
        assert isinstance(decode((await loop.sock_recv(connected, 4_096))[4:]), Welcome)
        return connected

    warm = [await sign_on() for _ in range(50)]
    before = psutil.Process().memory_info().rss
    crowd = [await sign_on() for _ in range(CROWD)]
    grown = psutil.Process().memory_info().rss - before
    assert shop.listener.connections == CROWD + 50
    assert grown / CROWD < 8 * 1024
    till = await shop.till("T-0002")
    till.send(redeem(5))
    assert (await till.receive()).answer.points == 5
    for connected in warm + crowd:
        connected.close()
    await until(lambda: shop.listener.connections == 1)
    assert len(shop.reception.wheel) == 1


async def test_a_fleet_that_reconnects_at_once_fits_into_the_backlog(shop: Shop) -> None:
    # Nothing is accepted meanwhile, since this loop is the server's own. Left alone, it keeps a hundred waiting.
    fleet = [socket.create_connection(("127.0.0.1", shop.port), timeout=20) for _ in range(120)]
    await until(lambda: shop.listener.connections == len(fleet))
    for register in fleet:
        register.close()


async def test_draining_answers_what_is_in_flight_and_sends_everybody_on(shop: Shop) -> None:
    busy, idle = await shop.till(), await shop.till("T-0002")
    shop.ledger.hold_back = True
    busy.send(redeem(5))
    await until(lambda: len(shop.ledger.taken) == 1)
    draining = asyncio.create_task(shop.listener.drain(10_000))
    farewell = await busy.receive()
    assert (farewell.reason, 1_000 <= farewell.reconnect_after_ms <= 2_000) == (Goodbye.DRAIN, True)
    assert await idle.farewell() == Goodbye.DRAIN
    with pytest.raises(OSError, match=r".*"):
        await asyncio.open_connection("127.0.0.1", shop.port)
    late = redeem(6)
    busy.send(late)
    error = await busy.receive()
    assert (error.request_id, error.code) == (late.request_id, ErrorCode.BUSY)
    assert not draining.done()
    shop.ledger.answer_all()
    assert (await busy.receive()).answer.points == 5
    with pytest.raises(EOFError):
        await busy.receive()
    for till in (busy, idle):
        till.writer.close()
    await draining
    assert shop.listener.connections == 0
    await shop.listener.drain(10_000)


async def test_a_drain_ends_even_if_an_answer_never_comes(shop: Shop) -> None:
    till = await shop.till()
    shop.ledger.hold_back = True
    till.send(redeem(5))
    await until(lambda: len(shop.ledger.taken) == 1)
    await shop.listener.drain(50)
    await shop.listener.stop()
    assert shop.listener.connections == 0
    # The answer that comes after all goes nowhere and breaks nothing.
    shop.ledger.answer_all()
