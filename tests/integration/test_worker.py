"""A whole server: supervisor, two workers with a peer link, real engines, registers over TCP."""

import asyncio
import os
import signal
import socket
from pathlib import Path

import asyncpg

from protocol.codes import Message, Outcome
from server.observation.metrics import added_up
from server.workers.peer_address import new_address
from tests.rigs.server_rig import CARDS, TERMINALS, Server, card, receipt, server

__all__ = ["server"]


async def test_points_are_right_whichever_worker_a_register_is_on(server: Server) -> None:
    async with server.tills(TERMINALS) as tills:
        for round_ in range(3):
            earned = await asyncio.gather(
                *(tills[(number + round_) % TERMINALS].earn(card(number), receipt(1_000)) for number in range(CARDS))
            )
            assert {reply.outcome for reply in earned} == {Outcome.APPROVED}
        spent = await asyncio.gather(
            *(tills[n % TERMINALS].redeem(card(n), 100 + n, receipt(5_000)) for n in range(CARDS))
        )
        assert [reply.points for reply in spent] == [100 + number for number in range(CARDS)]
        balances = await asyncio.gather(*(tills[-1 - n % TERMINALS].balance(card(n)) for n in range(CARDS)))
        assert [reply.balance.available for reply in balances] == [2_900 - number for number in range(CARDS)]
        assert balances[0].slip == ("Balance 29.00",)
    # With two workers and four partitions some registers were on the wrong one; the workers report it a little later.
    async with asyncio.timeout(30):
        while not any(worker["detail"]["links_in"] for worker in server.supervisor.health()["workers"]):
            await asyncio.sleep(0.05)


async def test_the_numbers_of_all_workers_are_added_up(server: Server) -> None:
    async with server.tills(4) as tills:
        for till in tills:
            await till.balance(card(1))
    counted = b'tillwire_answers_total{operation="BALANCE",outcome="APPROVED"} 4.0'
    async with asyncio.timeout(20):
        while counted not in added_up(server.supervisor.metrics_folder):
            await asyncio.sleep(0.05)
    assert b"tillwire_connections " in added_up(server.supervisor.metrics_folder)


async def test_a_killed_worker_is_replaced_and_no_point_is_lost(server: Server) -> None:
    async with server.tills(4) as tills:
        await asyncio.gather(*(tills[number % 4].earn(card(number), receipt(1_000)) for number in range(CARDS)))
        victim = server.supervisor.health()["workers"][0]["pid"]
        asking = [
            asyncio.create_task(tills[number % 4].redeem(card(number), 100, receipt(5_000))) for number in range(CARDS)
        ]
        await asyncio.sleep(0)
        os.kill(victim, signal.SIGKILL)
        replies = await asyncio.gather(*asking)
        assert {reply.outcome for reply in replies} == {Outcome.APPROVED}
        await server.until_ready()
        balances = await asyncio.gather(*(tills[number % 4].balance(card(number)) for number in range(CARDS)))
        assert {reply.balance.available for reply in balances} == {900}


async def test_stopping_under_load_answers_what_was_begun_and_exits_cleanly(server: Server, postgres_url: str) -> None:
    async with server.tills(4) as tills:
        await asyncio.gather(*(tills[number % 4].earn(card(number), receipt(1_000)) for number in range(CARDS)))
        asking = [
            asyncio.create_task(tills[number % 4].redeem(card(number % CARDS), 1, receipt(5_000)))
            for number in range(5 * CARDS)
        ]
        await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
        server.supervisor.stop()
        assert await server.running == 0
        replies = await asyncio.gather(*asking, return_exceptions=True)
    heard = sum(1 for reply in replies if not isinstance(reply, BaseException) and reply.outcome == Outcome.APPROVED)
    connection = await asyncpg.connect(postgres_url)
    try:
        journaled = await connection.fetchval("SELECT count(*) FROM entry WHERE op = $1", int(Message.REDEEM))
    finally:
        await connection.close()
    assert heard == journaled > 0


def test_an_address_is_new_each_time_private_and_short(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120)
    for data_dir in (tmp_path, deep):
        first, second = (Path(new_address(data_dir, 3)) for _ in range(2))
        assert first != second
        assert first.name.startswith("3-")
        assert first.parent.stat().st_mode & 0o777 == 0o700
        assert len(str(first)) <= 103


def test_what_a_dead_worker_left_is_removed_and_a_living_ones_is_not(tmp_path: Path) -> None:
    left = Path(new_address(tmp_path, 3))
    left.write_bytes(b"")
    with socket.socket(socket.AF_UNIX) as living:
        path = new_address(tmp_path, 4)
        living.bind(path)
        living.listen()
        new_address(tmp_path, 4)
        assert Path(path).exists()
        assert left.exists()
    new_address(tmp_path, 3)
    new_address(tmp_path, 4)
    assert not left.exists()
    assert not Path(path).exists()
