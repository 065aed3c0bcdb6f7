"""Merges of accounts as rows: how far each has come, so that whoever is alive can go on."""

from __future__ import annotations

from dataclasses import dataclass

from ledger.registry.registry import Row, Transaction
from ledger.registry.statements import statements


@dataclass(frozen=True, slots=True)
class Asked:
    """A merge to make, with the request ids of its two entries, who asks and why."""

    source: int
    target: int
    request_out: bytes
    request_in: bytes
    reason: str
    asked_by: str
    asked_ms: int


async def add(transaction: Transaction, asked: Asked) -> Row:
    """Add a merge, unless the source is part of one already; return the source's."""
    await transaction.execute(
        statements("merges")["add"], asked.source, asked.target, asked.request_out, asked.request_in, asked.reason,
        asked.asked_by, asked.asked_ms,
    )  # fmt: skip
    row: Row = await transaction.fetchrow(statements("merges")["of_source"], asked.source)
    return row


async def of_source(transaction: Transaction, source: int) -> Row | None:
    """Return the merge in which an account is given up."""
    row: Row | None = await transaction.fetchrow(statements("merges")["of_source"], source)
    return row


async def for_change(transaction: Transaction, source: int) -> Row | None:
    """Return the same, and keep others from changing it until the transaction ends."""
    row: Row | None = await transaction.fetchrow(statements("merges")["of_source_for_change"], source)
    return row


async def step(transaction: Transaction, source: int, state: str, following: str, done_ms: int | None = None) -> None:
    """Go on from one state ("asked", "out") to the next one ("out", "done", "declined")."""
    await transaction.execute(statements("merges")["step"], source, state, following, done_ms)


async def unfinished(transaction: Transaction, before_ms: int, count: int) -> list[Row]:
    """Return merges that were asked for before a moment and are not at their end, oldest first."""
    return list(await transaction.fetch(statements("merges")["open"], before_ms, count))


async def is_open_target(transaction: Transaction, account: int) -> bool:
    """Return whether something is being merged into the account."""
    return bool(await transaction.fetchval(statements("merges")["is_open_target"], account))
