"""Sessions of people who signed in: what PostgreSQL keeps of one opens nothing."""

from __future__ import annotations

from ledger.registry.registry import Row, Transaction
from ledger.registry.statements import statements
from ledger.registry.tokens import hashed, new_token

PREFIX = "tws"
_AGENT_CHARACTERS_MAX = 200
#: So many that have ended go with each new one: more than come, and never a long statement.
_REMOVED_AT_ONCE_MAX = 20


async def add(
    transaction: Transaction,
    user_id: int,
    *,
    now_ms: int,
    idle_s: int,
    expires_ms: int,
    address: str,
    agent: str,
) -> str:
    """Begin a session and return its secret, which is kept nowhere. Removes some that have ended."""
    secret = new_token(PREFIX)
    oldest_ms = now_ms - idle_s * 1_000
    await transaction.execute(statements("sessions")["remove_old"], now_ms, oldest_ms, _REMOVED_AT_ONCE_MAX)
    await transaction.execute(
        statements("sessions")["add"],
        hashed(secret), user_id, now_ms, expires_ms, address, agent[:_AGENT_CHARACTERS_MAX],
    )  # fmt: skip
    return secret


async def by_secret(transaction: Transaction, secret: str, now_ms: int, *, idle_s: int) -> Row | None:
    """Return a session in force with its user's fields as they are now."""
    row: Row | None = await transaction.fetchrow(
        statements("sessions")["by_hash"], hashed(secret), now_ms, now_ms - idle_s * 1_000
    )
    return row


async def touch(transaction: Transaction, secret: str, now_ms: int) -> None:
    """Note a sign of life."""
    await transaction.execute(statements("sessions")["touch"], hashed(secret), now_ms)


async def of_user(transaction: Transaction, user_id: int, now_ms: int, *, idle_s: int) -> list[Row]:
    """Return hash, created_ms, seen_ms, expires_ms, address and agent of a user's sessions in force."""
    return list(await transaction.fetch(statements("sessions")["of_user"], user_id, now_ms, now_ms - idle_s * 1_000))


async def end(transaction: Transaction, session_hash: bytes) -> None:
    """End a session."""
    await transaction.execute(statements("sessions")["remove"], session_hash)


async def end_all(transaction: Transaction, user_id: int, *, but: bytes = b"") -> int:
    """End all sessions of a user, but perhaps one; return how many there were."""
    return len(await transaction.fetch(statements("sessions")["remove_of_user"], user_id, but))
