"""Headquarters whose rules changed a day ago, for what a relay approved before and after while it was alone."""

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ledger.programme import Rules
from protocol.requests import BalanceRequest
from tests.rigs.relay_rig import HandRelay, Headquarters, approved, card, new_id

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
NOW_MS = int(time.time() * 1000)
#: Until a day ago 5 % at once, since then 9 % after two days.
REDEEMING = {"redeem_min": 100, "redeem_max": 900, "share_bp": 5_000}
CHANGING = (
    Rules(0, earn_rate_bp=500, **REDEEMING),
    Rules(NOW_MS - DAY_MS, earn_rate_bp=900, activation_days=2, **REDEEMING),
)


@pytest.fixture
async def hq(postgres_url: str, valkey_url: str, broker_url: str, tmp_path: Path) -> AsyncIterator[Headquarters]:
    made = Headquarters(postgres_url, valkey_url, broker_url, tmp_path)
    await made.prepare(rules=CHANGING, allowance_points=2_000)
    yield made
    await made.verify()


async def available(relay: HandRelay, number: int = 0) -> int:
    answer = approved(await relay.ask(BalanceRequest(new_id(), 0, card(number)))).answer
    assert answer.balance is not None
    return answer.balance.available
