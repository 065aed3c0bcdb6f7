"""Rows of office.conflict as a bridge writes them, for those who read and settle them."""

from __future__ import annotations

import os
from typing import Any

import asyncpg

from ledger.operations import Operation, Outcome

MINUTE_MS = 60_000


async def add_conflict(postgres_url: str, relay_id: int, now_ms: int, **values: Any) -> int:
    """Add a conflict of terminal 1: an EARN of 25.00 an hour ago that was declined just now; return its id."""
    row = {
        "request_id": os.urandom(16), "relay_id": relay_id, "terminal_id": 1, "account_id": None,
        "op": int(Operation.EARN), "outcome": int(Outcome.CARD_BLOCKED), "masked": "****0015", "points": 0,
        "amount": 2_500, "currency": "EUR", "reference": "R-1042", "sale_ms": now_ms - 60 * MINUTE_MS, "at_ms": now_ms,
        **values,
    }  # fmt: skip
    marks = ", ".join(f"${number}" for number in range(1, len(row) + 1))
    statement = f"INSERT INTO office.conflict ({', '.join(row)}) VALUES ({marks}) RETURNING conflict_id"  # noqa: S608
    db = await asyncpg.connect(postgres_url)
    try:
        return int(await db.fetchval(statement, *row.values()))
    finally:
        await db.close()
