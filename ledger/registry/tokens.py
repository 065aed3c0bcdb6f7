"""Tokens of programs: what PostgreSQL keeps of one opens nothing."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable

from ledger.registry.registry import Row, Transaction
from ledger.registry.statements import statements

_TOKEN_BYTES = 32


def new_token(prefix: str) -> str:
    """Return a random token; `prefix` tells people, and scanners for leaked secrets, what it is."""
    return f"{prefix}_{secrets.token_urlsafe(_TOKEN_BYTES)}"


def hashed(token: str) -> bytes:
    """Return what is stored of a token. It is random and long, so a plain hash is as good as a slow one."""
    return hashlib.sha256(token.encode()).digest()


async def by_token(transaction: Transaction, token: str, now_ms: int) -> Row | None:
    """Return token_id, name, permissions, partner_id, person and used_ms of a token that is in force."""
    row: Row | None = await transaction.fetchrow(statements("tokens")["token_by_hash"], hashed(token), now_ms)
    return row


async def add(
    transaction: Transaction,
    *,
    name: str,
    permissions: Iterable[str],
    partner_id: int | None,
    created_by: str,
    person: str,
    now_ms: int,
    expires_ms: int,
) -> tuple[int, str]:
    """Add a token; return its id and the token itself, which is kept nowhere.

    `created_by` is an actor, and `person` who is behind that actor.
    """
    token = new_token("tw")
    token_id = await transaction.fetchval(
        statements("tokens")["add_token"],
        hashed(token), name, sorted(permissions), partner_id, created_by, person, now_ms,
        expires_ms,
    )  # fmt: skip
    return int(token_id), token


async def touch(transaction: Transaction, token_id: int, now_ms: int, *, at_most_every_ms: int) -> None:
    """Note that a token was used, unless that was noted a moment ago."""
    await transaction.execute(statements("tokens")["touch_token"], token_id, now_ms, now_ms - at_most_every_ms)


async def listed(transaction: Transaction, *, partner_id: int | None, before: int, rows_max: int) -> list[Row]:
    """Return tokens without what opens anything, the newest first; only those bound to a partner if one is given."""
    return list(await transaction.fetch(statements("tokens")["list_tokens"], partner_id, before, rows_max))


async def by_id(transaction: Transaction, token_id: int) -> Row | None:
    """Return one of what `listed` returns."""
    row: Row | None = await transaction.fetchrow(statements("tokens")["token"], token_id)
    return row


async def revoke(transaction: Transaction, token_id: int, now_ms: int) -> None:
    """End a token for good."""
    await transaction.execute(statements("tokens")["revoke_token"], token_id, now_ms)


async def revoke_made_by(transaction: Transaction, actor: str, now_ms: int, *, keep: Iterable[str]) -> list[int]:
    """End the tokens that an actor made, and those made with them, unless they permit no more than `keep`."""
    rows = await transaction.fetch(statements("tokens")["revoke_tokens_of"], actor, now_ms, sorted(keep))
    return [row["token_id"] for row in rows]


async def standing(transaction: Transaction, token_id: int, now_ms: int) -> int | None:
    """Return when a token expires, None if it is not in force; nobody revokes it until the transaction ends."""
    expires_ms: int | None = await transaction.fetchval(statements("tokens")["standing_token"], token_id, now_ms)
    return expires_ms
