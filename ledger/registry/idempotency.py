"""Which POST requests were made under which Idempotency-Key, and what they were answered."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass

from ledger.registry.registry import Row, Transaction
from ledger.registry.statements import statements

#: So many rows that are too old go with each new one: more than come, and never a long statement.
_REMOVED_AT_ONCE_MAX = 10
_CLAIM_BITS = 62
_LOCK_BYTES = 8


@dataclass(frozen=True, slots=True)
class Key:
    """An Idempotency-Key, which is its actor's own."""

    actor: str
    key: str

    def digest(self, size: int) -> bytes:
        """Return so many bytes that stand for it."""
        # The length makes the two parts one unambiguous text.
        text = f"{len(self.actor)}:{self.actor}{self.key}"
        return hashlib.blake2b(text.encode(), digest_size=size, person=b"idempotency-key").digest()


async def lock(transaction: Transaction, key: Key) -> bool:
    """Return whether the transaction has the key for itself until it ends; does not wait."""
    number = int.from_bytes(key.digest(_LOCK_BYTES), "big", signed=True)
    return bool(await transaction.fetchval(statements("idempotency")["lock"], number))


async def find(transaction: Transaction, key: Key, *, oldest_ms: int) -> Row | None:
    """Return fingerprint, claimed_ms, status and answer (both None while it is not answered) of a request."""
    row: Row | None = await transaction.fetchrow(statements("idempotency")["find"], key.actor, key.key, oldest_ms)
    return row


async def claim(transaction: Transaction, key: Key, fingerprint: bytes, *, now_ms: int, oldest_ms: int) -> int:
    """Put a row there, or take over the one that is there; return the claim. Removes some rows that are too old."""
    await transaction.execute(statements("idempotency")["remove_old"], oldest_ms, _REMOVED_AT_ONCE_MAX)
    drawn = secrets.randbits(_CLAIM_BITS)
    await transaction.execute(statements("idempotency")["claim"], key.actor, key.key, fingerprint, now_ms, drawn)
    return drawn


async def finish(transaction: Transaction, key: Key, claimed: int, status: int, answer: bytes) -> None:
    """Remember the answer."""
    await transaction.execute(statements("idempotency")["finish"], key.actor, key.key, claimed, status, answer)


async def keep(transaction: Transaction, key: Key, claimed: int, *, now_ms: int) -> None:
    """Say that the work is still under way."""
    await transaction.execute(statements("idempotency")["keep"], key.actor, key.key, claimed, now_ms)


async def release(transaction: Transaction, key: Key, claimed: int) -> None:
    """Let a repetition do the work again."""
    await transaction.execute(statements("idempotency")["release"], key.actor, key.key, claimed)


async def remove(transaction: Transaction, key: Key, claimed: int) -> None:
    """Forget the request: it had no effect."""
    await transaction.execute(statements("idempotency")["remove"], key.actor, key.key, claimed)
