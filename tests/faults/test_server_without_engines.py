"""A whole server whose engines go away under connected registers: what they hear, and what the operator sees."""

import asyncio
import os
from contextlib import AsyncExitStack
from pathlib import Path

from protocol.client import Client
from protocol.codes import Outcome
from protocol.requests import RedeemRequest
from server.engines.postgres import EmbeddedPostgres
from server.engines.valkey import EmbeddedValkey
from server.observation.metrics import added_up
from tests.rigs.server_rig import PARTITIONS, SECRET, Server, card, receipt, running_server


async def until_standby(server: Server, count: int) -> None:
    """Wait until the operator sees so many partitions on standby."""
    figure = f'tillwire_ledger{{figure="partitions_standby"}} {count}.0'.encode()
    async with asyncio.timeout(30):
        while True:
            workers = server.supervisor.health()["workers"]
            shown = sum(p["standby"] for w in workers for p in w["detail"].get("partitions", {}).values())
            if shown == count and figure in added_up(server.supervisor.metrics_folder):
                return
            await asyncio.sleep(0.05)


async def both_workers_know(server: Server, number: int) -> None:
    """Ask a balance on new lines until either worker has been asked: each remembers what it has seen."""

    def connections() -> list[int]:
        return [worker["detail"]["connections"] for worker in server.supervisor.health()["workers"]]

    before = connections()
    async with asyncio.timeout(30), AsyncExitStack() as lines:
        while not all(now > then for now, then in zip(connections(), before, strict=True)):
            line = await lines.enter_async_context(Client("127.0.0.1", server.port, "T-0", SECRET))
            await line.balance(card(number))
            # The workers report what they have at intervals.
            await asyncio.sleep(0.2)


async def test_registers_go_on_without_redis_and_see_balances_without_postgresql(
    own_postgres: EmbeddedPostgres, own_valkey: EmbeddedValkey, tmp_path: Path
) -> None:
    async with (
        running_server(own_postgres.url, own_valkey.url, tmp_path, redis_probe_ms=50, redis_steady_ms=100) as server,
        server.tills(4) as tills,
    ):
        await asyncio.gather(*(tills[n % 4].earn(card(n), receipt(1_000)) for n in range(8)))
        own_valkey.kill()
        replies = await asyncio.gather(*(tills[n % 4].redeem(card(n), 100, receipt(5_000)) for n in range(8)))
        assert {reply.outcome for reply in replies} == {Outcome.APPROVED}
        await until_standby(server, PARTITIONS)
        assert server.supervisor.health()["ready"]
        await asyncio.to_thread(own_valkey.start)
        await until_standby(server, 0)
        replies = await asyncio.gather(*(tills[n % 4].redeem(card(n), 100, receipt(5_000)) for n in range(8)))
        assert {reply.balance.available for reply in replies if reply.balance} == {800}

        await both_workers_know(server, 1)
        own_postgres.stop()
        told = await asyncio.gather(*(tills[n % 4].balance(card(n)) for n in range(8)))
        assert {(reply.balance.available, reply.provisional) for reply in told if reply.balance} == {(800, True)}
        assert [reply.slip for reply in told] == [()] * 8
        request = RedeemRequest(os.urandom(16), 0, card(1), 100, receipt(5_000), allow_partial=False)
        # With the usual patience it would be reversed when PostgreSQL takes its time to come back.
        redeem = asyncio.create_task(tills[0].request(request, patience_ms=60_000))
        async with asyncio.timeout(30):
            while b'tillwire_errors_total{code="UNAVAILABLE",operation="REDEEM"}' not in added_up(
                server.supervisor.metrics_folder
            ):
                await asyncio.sleep(0.05)
        async with asyncio.timeout(30):
            while server.supervisor.health()["ready"]:
                await asyncio.sleep(0.05)
        # One whose line breaks meanwhile is known, and let in again.
        async with Client("127.0.0.1", server.port, "T-0", SECRET) as again:
            assert (await again.balance(card(1))).provisional
        await asyncio.to_thread(own_postgres.start)
        await server.until_ready()
        # Its register has asked again and again with the same id.
        redeemed = await redeem
        assert (redeemed.outcome, redeemed.balance.available if redeemed.balance else None) == (Outcome.APPROVED, 700)
        told = await asyncio.gather(*(tills[n % 4].balance(card(n)) for n in range(2, 8)))
        assert {(reply.balance.available, reply.provisional) for reply in told if reply.balance} == {(800, False)}
