"""Relays: computers of stores that speak for their registers over MQTT."""

from __future__ import annotations

from collections.abc import Iterable

from ledger.registry import terminals
from ledger.registry.registry import Conflict, Row, Transaction
from ledger.registry.statements import statements
from ledger.registry.terminals import Credentials


async def add(
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

    Nobody knows the secret of `credentials`. Raises Conflict if the code is taken, or the store has a relay.
    """
    found = statements("relays")
    await transaction.execute(found["lock_store"], store_id)
    standing = await transaction.fetchval(found["standing"], store_id)
    if standing is not None:
        raise Conflict(f"the store has the relay {standing}: give that one a new key, or revoke it first")
    terminal_id = await terminals.add(transaction, store_id, code, permitted, credentials)
    await transaction.execute(found["add"], terminal_id, allowance_points, allowance_ms)
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


async def change(
    transaction: Transaction, relay_id: int, *, allowance_points: int | None, allowance_ms: int | None
) -> bool:
    """Set what a relay may reserve for a card and for how long; None leaves it. Return False if it is revoked."""
    statement = statements("relays")["change"]
    return bool(await transaction.fetchval(statement, relay_id, allowance_points, allowance_ms))


async def rotate(transaction: Transaction, relay_id: int) -> int | None:
    """Return the generation of the relay's key from now on; the key before opens nothing. None if it is revoked."""
    generation: int | None = await transaction.fetchval(statements("relays")["rotate"], relay_id)
    return generation
