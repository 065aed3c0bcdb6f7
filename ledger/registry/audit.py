"""The audit log: who did what, in the same transaction as the deed where there is one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from ledger.registry.registry import Row, Transaction
from ledger.registry.statements import statements


async def record(
    transaction: Transaction,
    *,
    at_ms: int,
    actor: str,
    actor_name: str,
    address: str,
    action: str,
    subject: str,
    account: int | None = None,
    partner_id: int | None = None,
    store_id: int | None = None,
    request_id: bytes | None = None,
    detail: dict[str, Any] | None = None,
) -> None:
    """Add an entry. `action` is a verb with its object ("card.block"), `detail` holds no personal data."""
    await transaction.execute(
        statements("audit")["record"],
        at_ms, actor, actor_name, action, subject, account, partner_id, store_id, request_id, address,
        orjson.dumps(detail or {}).decode(),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries; None wants all. `until_ms` is excluded; `action` may be its first part ("card")."""

    from_ms: int | None = None
    until_ms: int | None = None
    actor: str | None = None
    action: str | None = None
    account: int | None = None
    request_id: bytes | None = None
    subject: str | None = None
    partner_id: int | None = None


async def find(transaction: Transaction, wanted: Wanted, *, before: int, rows_max: int) -> list[Row]:
    """Return entries with ids before one, the newest first; `detail` is JSON text."""
    rows = await transaction.fetch(
        statements("audit")["find"],
        wanted.from_ms, wanted.until_ms, wanted.actor, wanted.action, wanted.account, wanted.request_id,
        wanted.subject, wanted.partner_id, before, rows_max,
    )  # fmt: skip
    return list(rows)
