"""Terminals: cash registers, what each may do, and what is kept of its secret."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Protocol

from ledger.registry.registry import Row, Transaction, taken
from ledger.registry.statements import statements

_KEY_BYTES = 32
_SALT_BYTES = 16


class Credentials(Protocol):
    """What is kept of a terminal's secret (RFC 5802, section 3): nothing that logs in."""

    @property
    def salt(self) -> bytes:
        """The salt of the secret."""

    @property
    def iterations(self) -> int:
        """How often it was hashed."""

    @property
    def stored_key(self) -> bytes:
        """StoredKey."""

    @property
    def server_key(self) -> bytes:
        """ServerKey."""


async def add(
    transaction: Transaction, store_id: int, code: str, permitted: Iterable[int], credentials: Credentials
) -> int:
    """Add a terminal with the operation codes that it may use; return its id. Raises Conflict."""
    kept = credentials
    with taken(f"the terminal code {code!r}"):
        added = await transaction.fetchval(
            statements("terminals")["add"],
            code, store_id, sorted(set(permitted)), kept.salt, kept.iterations, kept.stored_key, kept.server_key,
        )  # fmt: skip
    return int(added)


async def find(
    transaction: Transaction,
    *,
    after: int = 0,
    rows_max: int,
    partner_id: int | None = None,
    network_id: int | None = None,
    store_id: int | None = None,
    terminal_id: int | None = None,
    code: str | None = None,
    state: str | None = None,
    relay: bool | None = None,
) -> list[Row]:
    """Return terminals by id; `code` is a part of the code, `state` is active, suspended or revoked.

    `relay` wants relays, or everything else.

    Fields: terminal_id, code, store_id, store, network_id, network, partner_id, permitted, revoked_ms, state, works,
    relay.
    """
    return list(
        await transaction.fetch(
            statements("terminals")["find"],
            after, rows_max, partner_id, network_id, store_id, terminal_id, code, state, relay,
        )
    )  # fmt: skip


async def permitted_in(transaction: Transaction, partner_id: int) -> set[int]:
    """Return the operation codes that any terminal of a partner may use."""
    return {row["code"] for row in await transaction.fetch(statements("terminals")["permitted_in"], partner_id)}


async def lock(transaction: Transaction, store_id: int) -> list[int]:
    """Return the terminals of a store that are not revoked; nobody else changes them until the transaction ends."""
    return [row["terminal_id"] for row in await transaction.fetch(statements("terminals")["lock"], store_id)]


async def set_permitted(transaction: Transaction, terminal_id: int, permitted: Iterable[int]) -> bool:
    """Set what a terminal may do; return False if it is revoked."""
    statement = statements("terminals")["set_permitted"]
    return bool(await transaction.fetchval(statement, terminal_id, sorted(set(permitted))))


async def set_active(transaction: Transaction, terminal_ids: Sequence[int], *, active: bool) -> list[int]:
    """Suspend terminals, or let them work again; return those of them that are not revoked."""
    rows = await transaction.fetch(statements("terminals")["set_active"], terminal_ids, active)
    return [row["terminal_id"] for row in rows]


async def renew(transaction: Transaction, code: str, credentials: Credentials) -> bool:
    """Replace a terminal's keys; return False if there is no such terminal or it is revoked."""
    kept = credentials
    statement = statements("terminals")["renew"]
    return bool(
        await transaction.fetchval(statement, code, kept.salt, kept.iterations, kept.stored_key, kept.server_key)
    )


async def revoke(transaction: Transaction, terminal_id: int, now_ms: int) -> bool:
    """Shut a terminal out for ever; return False if that was done before."""
    noise = (os.urandom(_SALT_BYTES), os.urandom(_KEY_BYTES), os.urandom(_KEY_BYTES))
    return bool(await transaction.fetchval(statements("terminals")["revoke"], terminal_id, now_ms, *noise))
