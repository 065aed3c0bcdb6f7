"""Relays: stores' own computers, each a terminal of its store that nobody can sign on as."""

from __future__ import annotations

from ledger.registry.registry import Transaction
from ledger.registry.statements import statements


async def add(transaction: Transaction, terminal_id: int, allowance_points: int, allowance_ms: int) -> None:
    """Make a terminal a relay, which may reserve so many points for a card and let them be spent so long, in ms."""
    await transaction.execute(statements("relays")["add"], terminal_id, allowance_points, allowance_ms)
