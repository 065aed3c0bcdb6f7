"""The calls that each client offers: every operation, connecting, closing, and what a caller may do meanwhile."""

import asyncio
import socket
from collections.abc import Callable

import pytest

from protocol.blocking import BlockingClient
from protocol.client import Client
from protocol.codes import ErrorCode, Message
from protocol.requests import Card, EarnRequest
from protocol.steady_clock import SteadyClock
from protocol.ticket import InDoubt, NoAnswer, Rejected
from tests.rigs.clients_rig import CARD, QUICK, RECEIPT, MemoryStore, new_redeem, server
from tests.rigs.misbehaving_server import PROFILE, SECRET, MisbehavingServer

__all__ = ["server"]


async def test_every_operation_of_the_asyncio_client(server: MisbehavingServer) -> None:
    async with Client("127.0.0.1", server.port, "T-0001", SECRET, timing=QUICK) as till:
        assert (await till.balance(CARD)).greeting == "Anna"
        held = await till.hold(CARD, 500, RECEIPT, hold_ms=1_000)
        await till.redeem(CARD, 500, RECEIPT, allow_partial=True)
        await till.capture(CARD, held.request_id, 0, RECEIPT)
        await till.release(CARD, held.request_id)
        await till.earn(CARD, RECEIPT)
        sold = await till.sale(CARD, RECEIPT, 500)
        await till.refund(CARD, sold.request_id, RECEIPT)
        await till.reverse(CARD, sold.request_id)
        await till.status(CARD, sold.request_id)
        await till.activate(CARD)
        await till.block(CARD, 1)
        await till.replace(CARD, Card(5, "wallet-7Hq2ZkP0"))
        assert till.profile == PROFILE
        assert till.connected
    operations = [m for m in Message if Message.BALANCE <= m < Message.ANSWER]
    assert sorted(request.op for request in server.requests) == operations
    earn = next(request for request in server.requests if isinstance(request, EarnRequest))
    assert abs(earn.sale_time_ms - SteadyClock()() - 60_000) < 30_000, "the server's clock is a minute ahead"


def test_every_operation_of_the_blocking_client(server: MisbehavingServer) -> None:
    with BlockingClient("127.0.0.1", server.port, "T-0001", SECRET, timing=QUICK) as till:
        assert till.balance(CARD).greeting == "Anna"
        held = till.hold(CARD, 500, RECEIPT, hold_ms=1_000)
        till.redeem(CARD, 500, RECEIPT, allow_partial=True)
        till.capture(CARD, held.request_id, 0, RECEIPT)
        till.release(CARD, held.request_id)
        till.earn(CARD, RECEIPT)
        sold = till.sale(CARD, RECEIPT, 500)
        till.refund(CARD, sold.request_id, RECEIPT)
        till.reverse(CARD, sold.request_id)
        till.status(CARD, sold.request_id)
        till.activate(CARD)
        till.block(CARD, 1)
        till.replace(CARD, Card(5, "wallet-7Hq2ZkP0"))
        assert till.profile == PROFILE
        assert till.connected
    operations = [m for m in Message if Message.BALANCE <= m < Message.ANSWER]
    assert sorted(request.op for request in server.requests) == operations


def test_a_line_that_died_between_two_calls_is_noticed_before_sending(server: MisbehavingServer) -> None:
    with BlockingClient("127.0.0.1", server.port, "T-0001", SECRET, timing=QUICK) as till:
        till.balance(CARD)
        server.tills[0].hang_up()
        till.keep_alive()
        assert not till.connected
        assert till.balance(CARD).approved
    assert len(server.requests) == 2


def test_connecting_without_a_request(server: MisbehavingServer) -> None:
    with BlockingClient("127.0.0.1", server.port, "T-0001", SECRET, timing=QUICK) as till:
        assert till.connect(30_000) == PROFILE
        assert till.connect(30_000) == PROFILE
    assert (server.connections, server.requests) == (1, [])
    stranger = BlockingClient("127.0.0.1", server.port, "T-0001", "another secret", timing=QUICK)
    with stranger, pytest.raises(Rejected):
        stranger.connect(30_000)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with BlockingClient("127.0.0.1", port, "T-0001", SECRET, timing=QUICK) as till:
        assert till.connect(50) is None


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


async def test_closing_twice_and_with_requests_under_way(server: MisbehavingServer) -> None:
    server.script = [lambda _till, _request: None] * 100
    store = MemoryStore()
    till = Client("127.0.0.1", server.port, "T-0001", SECRET, timing=QUICK, store=store)
    async with till:
        request = new_redeem()
        asking = asyncio.ensure_future(till.request(request))
        await _until(lambda: bool(server.requests))
        await till.close()
        with pytest.raises(InDoubt):
            await asking
        await till.close()
    assert [held.op for held in store.held.values()] == [Message.REVERSE]
    with pytest.raises(NoAnswer):
        await till.request(new_redeem())


async def test_a_caller_that_is_cancelled_leaves_the_request_under_way(server: MisbehavingServer) -> None:
    server.script = [lambda till, request: till.refuse(request, ErrorCode.BUSY, 30)]
    store = MemoryStore()
    async with Client("127.0.0.1", server.port, "T-0001", SECRET, timing=QUICK, store=store) as till:
        asking = asyncio.ensure_future(till.request(new_redeem()))
        await _until(lambda: bool(server.requests))
        asking.cancel()
        await _until(lambda: not store.held)
    assert len(server.effects) == 1
