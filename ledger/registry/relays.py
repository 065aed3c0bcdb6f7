"""Relays: stores' own computers, each with the terminal that it is, its key's generation, and what it may reserve."""

from __future__ import annotations

from collections.abc import Iterable

from ledger.registry import terminals
from ledger.registry.registry import Conflict, Row, Transaction
from ledger.registry.statements import statements
from ledger.registry.terminals import Credentials


async def add(transaction: Transaction, terminal_id: int, allowance_points: int, allowance_ms: int) -> int:
    """Make a terminal a relay; return the generation of its first key. Raises Conflict if a value is out of range.

    `allowance_points` is what it may reserve for a card (minor units, 0 = nothing), to be spent within `allowance_ms`.
    """
    return int(await transaction.fetchval(statements("relays")["add"], terminal_id, allowance_points, allowance_ms))


async def rotate(transaction: Transaction, terminal_id: int) -> int | None:
    """Give a relay another key: return its generation, or None if there is no such relay or it is revoked."""
    generation = await transaction.fetchval(statements("relays")["rotate"], terminal_id)
    return None if generation is None else int(generation)


async def set_allowance(
    transaction: Transaction, terminal_id: int, allowance_points: int | None, allowance_ms: int | None
) -> bool:
    """Set what a relay may reserve for a card; None leaves it. Return False if it is none, or revoked."""
    statement = statements("relays")["set_allowance"]
    return bool(await transaction.fetchval(statement, terminal_id, allowance_points, allowance_ms))


async def give_to_store(
    transaction: Transaction,
    store_id: int,
    code: str,
    permitted: Iterable[int],
    credentials: Credentials,
    *,
    allowance_points: int,
    allowance_ms: int,
) -> int:
    """Give a store its relay, a terminal with these operation codes; return its id.

    Nobody knows a secret of `credentials`. Raises Conflict if the code is taken, or the store has a relay.
    """
    found = statements("relays")
    await transaction.execute(found["lock_store"], store_id)
    standing = await transaction.fetchval(found["standing"], store_id)
    if standing is not None:
        raise Conflict(f"the store has the relay {standing}: give that one a new key, or revoke it first")
    terminal_id = await terminals.add(transaction, store_id, code, permitted, credentials)
    await add(transaction, terminal_id, allowance_points, allowance_ms)
    return terminal_id


async def find(
    transaction: Transaction,
    *,
    after: int = 0,
    rows_max: int,
    partner_id: int | None = None,
    network_id: int | None = None,
    store_id: int | None = None,
    relay_id: int | None = None,
    text: str | None = None,
    silent_since_ms: int | None = None,
) -> list[Row]:
    """Return relays by id; `text` is a part of the code or of the store's name.

    Fields: relay_id, code, store_id, store, network_id, network, partner_id, revoked_ms, state, works, generation,
    allowance_points, allowance_ms, what it last told (software, heard_ms, queued, oldest_ms, offline_since_ms), and
    conflicts, of which nobody has settled so many.
    """
    return list(
        await transaction.fetch(
            statements("relays")["find"],
            after, rows_max, partner_id, network_id, store_id, relay_id, text, silent_since_ms,
        )
    )  # fmt: skip
