"""What relays had approved while they were alone and headquarters then declined: the list that people work through."""

from __future__ import annotations

from dataclasses import dataclass

from ledger.registry.registry import Row, Transaction
from ledger.registry.statements import statements


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which conflicts; None wants all."""

    partner_id: int | None = None
    network_id: int | None = None
    store_id: int | None = None
    relay_id: int | None = None
    account: int | None = None
    conflict_id: int | None = None
    settled: bool | None = None
    request_id: bytes | None = None


async def find(transaction: Transaction, wanted: Wanted, *, before: int, rows_max: int) -> list[Row]:
    """Return conflicts with ids before one, the newest first.

    Fields: those of office.conflict, and relay and terminal (codes), store_id, store, network_id, network, partner_id.
    """
    rows = await transaction.fetch(
        statements("conflicts")["find"],
        before, rows_max, wanted.partner_id, wanted.network_id, wanted.store_id, wanted.relay_id, wanted.account,
        wanted.conflict_id, wanted.settled, wanted.request_id,
    )  # fmt: skip
    return list(rows)


async def count_open(transaction: Transaction, partner_id: int | None) -> int:
    """Return how many of a partner's, or of all, nobody has settled."""
    return int(await transaction.fetchval(statements("conflicts")["open"], partner_id))


async def settle(transaction: Transaction, conflict_id: int, *, actor: str, now_ms: int, note: str) -> bool:
    """Note that somebody dealt with it; return False if that was done before."""
    return bool(await transaction.fetchval(statements("conflicts")["settle"], conflict_id, actor, now_ms, note))
