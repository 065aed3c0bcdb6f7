"""Figures of a whole server: what workers answer and what the journal says come to be where operators look."""

import asyncio
from pathlib import Path

import asyncpg

from protocol.codes import Message, Outcome
from tests.rigs.server_rig import CARDS, card, receipt, set_up
from tests.rigs.site_rig import site_on


async def test_what_workers_answer_becomes_figures_and_a_drain_loses_none(
    postgres_url: str, valkey_url: str, tmp_path: Path
) -> None:
    await set_up(postgres_url)
    db = await asyncpg.connect(postgres_url)
    async with site_on(postgres_url, valkey_url, tmp_path) as site:
        await site.until_ready()
        async with site.tills(4) as tills:
            await asyncio.gather(*(tills[number % 4].earn(card(number), receipt(1_000)) for number in range(CARDS)))
            declined = await tills[0].redeem(card(0), 1_000_000, receipt(5_000_000))
            assert declined.outcome == Outcome.INSUFFICIENT
        async with asyncio.timeout(60):
            while await db.fetchval("SELECT sum(receipts) FROM office.network_flow") != CARDS:
                await asyncio.sleep(0.1)
            while not await db.fetchval("SELECT count(*) FROM office.sample WHERE figures ? 'lag_ms'"):
                await asyncio.sleep(0.1)
        assert await db.fetchval("SELECT sum(earned) FROM office.flow WHERE store_id = 1") == CARDS * 1_000
        # What the workers counted in their last seconds leaves with them.
    rows = await db.fetch(
        "SELECT op, outcome, sum(count) FROM office.tally WHERE store_id = 1 GROUP BY 1, 2 ORDER BY 1"
    )
    await db.close()
    assert [tuple(row) for row in rows] == [
        (Message.REDEEM, Outcome.INSUFFICIENT, 1),
        (Message.EARN, Outcome.APPROVED, CARDS),
    ]
