"""Relays: stores' own computers, each with the terminal that it is, its key's generation, and what it may reserve."""

from __future__ import annotations

from ledger.registry.registry import Transaction
from ledger.registry.statements import statements


async def add(transaction: Transaction, terminal_id: int, allowance_points: int, allowance_ms: int) -> int:
    """Make a terminal a relay; return the generation of its first key. Raises Conflict if a value is out of range.

    `allowance_points` is what it may reserve for a card (minor units, 0 = nothing), to be spent within `allowance_ms`.
    """
    return int(await transaction.fetchval(statements("relays")["add"], terminal_id, allowance_points, allowance_ms))


async def rotate(transaction: Transaction, terminal_id: int) -> int | None:
    """Give a relay another key: return its generation, or None if there is no such relay or it is revoked."""
    generation = await transaction.fetchval(statements("relays")["rotate"], terminal_id)
    return None if generation is None else int(generation)


async def set_allowance(transaction: Transaction, terminal_id: int, allowance_points: int, allowance_ms: int) -> bool:
    """Set what a relay may reserve for a card; return False if there is no such relay."""
    statement = statements("relays")["set_allowance"]
    return bool(await transaction.fetchval(statement, terminal_id, allowance_points, allowance_ms))
