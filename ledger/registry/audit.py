"""The audit log: who did what, in the same transaction as the deed where there is one."""

from __future__ import annotations

from typing import Any

import orjson

from ledger.registry.registry import Transaction
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
