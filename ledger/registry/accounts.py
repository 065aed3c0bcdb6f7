"""Accounts as people read them: head, entries with the names of places, what became of requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ledger.journal.statements import statement
from ledger.registry.registry import Row, Transaction
from ledger.registry.statements import statements
from ledger.truth import Standing, standing


@dataclass(frozen=True, slots=True)
class EntryFilter:
    """Which entries of an account are wanted; None wants any. Times are ms since 1970, the second one exclusive."""

    from_ms: int | None = None
    before_ms: int | None = None
    op: int | None = None
    store_id: int | None = None
    terminal_id: int | None = None
    request_id: bytes | None = None
    reference: str | None = None


async def head(transaction: Transaction, account: int) -> Row | None:
    """Return account_id, seq, state (packed) and merged_into."""
    row: Row | None = await transaction.fetchrow(statements("accounts")["head"], account)
    return row


async def entries(
    transaction: Transaction, account: int, wanted: EntryFilter, before_seq: int | None, count: int
) -> list[Row]:
    """Return entries of an account, newest first, with the names of partner, network, store and terminal."""
    reference = None if wanted.reference is None else _escaped(wanted.reference)
    return list(
        await transaction.fetch(
            statements("accounts")["entries"], account, before_seq, wanted.from_ms, wanted.before_ms, wanted.op,
            wanted.store_id, wanted.terminal_id, wanted.request_id, reference, count,
        )
    )  # fmt: skip


async def places(transaction: Transaction, request_ids: Sequence[bytes]) -> dict[bytes, Row]:
    """Return at_ms, network, terminal and store of entries by their request ids."""
    rows = await transaction.fetch(statements("accounts")["store_of_terminal"], request_ids)
    return {row["request_id"]: row for row in rows}


async def stores(transaction: Transaction, account: int) -> list[Row]:
    """Return store_id, store and network of the stores in which entries of an account were made, by name."""
    return list(await transaction.fetch(statements("accounts")["stores_of_account"], account))


async def requests(transaction: Transaction, request_ids: Sequence[bytes]) -> dict[bytes, Row]:
    """Return account_id, seq, op and at_ms of what is journaled under request ids."""
    rows = await transaction.fetch(statements("accounts")["accounts_of_requests"], request_ids)
    return {row["request_id"]: row for row in rows}


async def askers(transaction: Transaction, request_ids: Sequence[bytes]) -> dict[bytes, Row]:
    """Return actor, actor_name, action and detail (JSON) of operators' requests."""
    rows = await transaction.fetch(statements("accounts")["askers"], request_ids)
    return {row["request_id"]: row for row in rows}


async def families(transaction: Transaction, request_ids: Sequence[bytes]) -> dict[bytes, list[Row]]:
    """Return each journaled request with all entries that target it, as ledger/sql/family.sql does."""
    found: dict[bytes, list[Row]] = {}
    for row in await transaction.fetch(statement("family"), request_ids):
        found.setdefault(row["original"], []).append(row)
    return found


async def standings(transaction: Transaction, request_ids: Sequence[bytes], now_ms: int) -> dict[bytes, Standing]:
    """Return what became of requests that are journaled."""
    found = await families(transaction, request_ids)
    return {request_id: standing(family, now_ms) for request_id, family in found.items()}


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
