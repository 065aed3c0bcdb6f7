"""Adjustments: the admin process asks the owner of an account and owns none; asked when it died, they are made once."""

import asyncio
import os
import signal
from contextlib import suppress
from dataclasses import replace

import asyncpg
import httpx
import pytest

from ledger.clock import SystemClock
from ledger.operator_desk import Decided, OperatorDesk, Undecided
from ledger.submission import Refusal
from protocol.answers import Answer
from protocol.codes import Outcome
from tests.rigs.server_rig import PARTITIONS, card, receipt
from tests.rigs.site_rig import Site, execute, site, until

__all__ = ["site"]


async def patient(desk: OperatorDesk, account: int, points: int = 700, request_id: bytes | None = None) -> Decided:
    """Adjust an account, again while its partition has no owner that is known yet."""
    while True:
        try:
            return await desk.adjust(request_id or os.urandom(16), account, points, 0, "goodwill")
        except Undecided as error:
            if error.refusal is not Refusal.BUSY:
                raise
        await asyncio.sleep(0.02)


async def test_an_observer_asks_the_owner_and_owns_nothing(site: Site) -> None:
    async with site.observer() as ledger, site.tills(1) as tills:
        desk = OperatorDesk(ledger, SystemClock(), patience_s=20.0)
        await tills[0].earn(card(1), receipt(1_000))
        connection = await asyncpg.connect(site.postgres_url)
        try:
            accounts = [row["account_id"] for row in await connection.fetch("SELECT account_id FROM account")]
            owners = "SELECT partition_id, owner, epoch FROM partition ORDER BY partition_id"
            before = await connection.fetch(owners)
            # More than one for each partition, so that both workers are asked.
            for account in accounts[: 2 * PARTITIONS]:
                adjusted = await patient(desk, account)
                assert Answer.from_body(adjusted.body).outcome == Outcome.APPROVED
            assert await connection.fetch(owners) == before
        finally:
            await connection.close()
        assert ledger.health() == {"ready": True, "partitions": {}}


async def test_what_nobody_owns_is_refused_as_busy(site: Site) -> None:
    async with site.observer() as ledger:
        ledger._owners = {}
        ledger._limits = replace(ledger._limits, refresh_interval_s=3_600)
        with pytest.raises(Undecided) as refused:
            await OperatorDesk(ledger, SystemClock(), patience_s=1.0).adjust(os.urandom(16), 1, 100, 0, "x")
        assert refused.value.refusal is Refusal.BUSY


async def test_what_was_asked_when_the_admin_process_died_is_done_once(site: Site) -> None:
    ids = [os.urandom(16) for _ in range(50)]
    async with site.observer() as ledger:
        desk = OperatorDesk(ledger, SystemClock(), patience_s=20.0)
        await patient(desk, 1)
        asking = [asyncio.create_task(desk.adjust(one, 1, 10, 0, "goodwill")) for one in ids]
        await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
        for link in list(site.peers._outgoing.values()):
            link.close()
        answered = await asyncio.gather(*asking, return_exceptions=True)
    doubts = {answer.refusal for answer in answered if isinstance(answer, Undecided)}
    assert doubts <= {Refusal.UNAVAILABLE}
    async with site.observer() as ledger:
        desk = OperatorDesk(ledger, SystemClock(), patience_s=20.0)
        again = [await patient(desk, 1, 10, one) for one in ids]
        last = await patient(desk, 1, 1)
    told = {one.body for one in answered if isinstance(one, Decided)}
    assert told <= {one.body for one in again}
    balance = Answer.from_body(last.body).balance
    assert balance is not None
    assert balance.available == 700 + 50 * 10 + 1


async def test_adjustments_under_way_when_the_admin_process_is_killed_are_made_once(site: Site) -> None:
    async with site.client() as client, site.tills(1) as tills:

        async def adjust(number: int) -> httpx.Response:
            asked = {"points": 10, "reason": "goodwill"}
            return await client.post(
                "/v1/accounts/1/adjustments", json=asked, headers={"idempotency-key": f"adjustment-{number}"}
            )

        async def made(number: int) -> bool:
            with suppress(httpx.TransportError):
                answer = await adjust(number)
                assert answer.status_code in (201, 409, 503), answer.text
                return answer.status_code == 201
            return False

        await until(lambda: made(0))
        asking = [asyncio.create_task(adjust(number)) for number in range(1, 30)]
        await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
        os.kill(site.admin["pid"], signal.SIGKILL)
        assert (await tills[0].balance(card(1))).outcome == Outcome.APPROVED
        await asyncio.gather(*asking, return_exceptions=True)
        # As if it were so late that what the dead process had begun is given up.
        await execute(site, "UPDATE office.idempotency SET claimed_ms = 0 WHERE status IS NULL")
        for number in range(1, 30):
            await until(lambda number=number: made(number))
        account = await client.get("/v1/accounts/1")
        assert account.status_code == 200, account.text
        assert (account.json()["balance"]["available"], account.json()["entries"]) == (300, 30)
