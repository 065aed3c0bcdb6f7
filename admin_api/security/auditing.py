"""Every write, and every look at personal data, leaves an entry in the audit log."""

from __future__ import annotations

from typing import Any

from admin_api.office import Records
from admin_api.security.actor import Actor
from ledger.registry import audit
from ledger.registry.registry import Transaction


async def audited(
    office: Records,
    actor: Actor,
    transaction: Transaction,
    action: str,
    subject: str,
    *,
    account: int | None = None,
    partner_id: int | None = None,
    store_id: int | None = None,
    request_id: bytes | None = None,
    detail: dict[str, Any] | None = None,
) -> None:
    """Add an entry to the audit log, in the transaction of the deed.

    `action` is a verb with its object ("card.block"), `subject` what it was done to ("card:12"), `detail` plain JSON
    without personal data. `partner_id` makes the entry visible to that partner's people.
    """
    await audit.record(
        transaction,
        at_ms=office.clock.now_ms(),
        actor=actor.name,
        actor_name=actor.shown,
        address=actor.address,
        action=action,
        subject=subject,
        account=account,
        partner_id=partner_id,
        store_id=store_id,
        request_id=request_id,
        detail=detail,
    )
