"""Manual adjustments as rows: who asked for what and why, who decided, whether the ledger has done it."""

from __future__ import annotations

from dataclasses import dataclass

from ledger.registry.registry import Row, Transaction
from ledger.registry.statements import statements


@dataclass(frozen=True, slots=True)
class Asked:
    """An adjustment to make: minor points (negative takes), days since 1970 (0: never), which actor asks and why.

    `asked_person` is who is behind that actor.
    `state` is "approved" for one that its actor may make alone, else "waiting".
    """

    account: int
    points: int
    expiry_day: int
    reason: str
    request_id: bytes
    state: str
    asked_by: str
    asked_person: str
    asked_ms: int


async def add(transaction: Transaction, asked: Asked) -> Row:
    """Add an adjustment, or find the one that was asked for under the same request id; return its row."""
    await transaction.execute(
        statements("adjustments")["add"], asked.account, asked.points, asked.expiry_day, asked.reason,
        asked.request_id, asked.state, asked.asked_by, asked.asked_person, asked.asked_ms,
    )  # fmt: skip
    row: Row = await transaction.fetchrow(statements("adjustments")["by_request"], asked.request_id)
    return row


async def made_alone(transaction: Transaction, asked: Asked, since_ms: int) -> int:
    """Return the minor points that the same person gave and took on the same account without a second one.

    This request itself does not count. Of several requests at once the later ones wait until the transaction ends.
    """
    found = statements("adjustments")
    await transaction.execute(found["one_at_a_time"], f"adjustments of {asked.account} by {asked.asked_person}")
    points = await transaction.fetchval(
        found["made_alone"], asked.account, asked.asked_person, since_ms, asked.request_id
    )
    return int(points)


async def adjustment(transaction: Transaction, adjustment_id: int) -> Row | None:
    """Return one adjustment."""
    row: Row | None = await transaction.fetchrow(statements("adjustments")["adjustment"], adjustment_id)
    return row


async def for_change(transaction: Transaction, adjustment_id: int) -> Row | None:
    """Return one adjustment and keep others from changing it until the transaction ends."""
    row: Row | None = await transaction.fetchrow(statements("adjustments")["for_change"], adjustment_id)
    return row


async def listed(
    transaction: Transaction, before: int, state: str | None, account: int | None, count: int
) -> list[Row]:
    """Return adjustments with an id below `before`, newest first."""
    return list(await transaction.fetch(statements("adjustments")["list"], before, state, account, count))


async def decide(
    transaction: Transaction, adjustment_id: int, state: str, *, actor: str, person: str, now_ms: int
) -> None:
    """Approve or decline a waiting one; `person` is behind the actor. Raises Conflict if that is who asked for it."""
    await transaction.execute(statements("adjustments")["decide"], adjustment_id, state, actor, person, now_ms)


async def settle(transaction: Transaction, adjustment_id: int, state: str) -> None:
    """Note what the ledger said to an approved one: "done" or "declined"."""
    await transaction.execute(statements("adjustments")["settle"], adjustment_id, state)


async def approved(transaction: Transaction, before_ms: int, count: int) -> list[Row]:
    """Return adjustments that were approved before a moment and not heard of since, oldest first."""
    return list(await transaction.fetch(statements("adjustments")["approved"], before_ms, count))
