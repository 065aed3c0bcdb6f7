"""Tokens of members: each opens one account to the member's own eyes, and nothing else."""

from __future__ import annotations

from ledger.registry.registry import Transaction
from ledger.registry.statements import statements
from ledger.registry.tokens import hashed, new_token

PREFIX = "twm"
#: So many expired ones go with each new one: more than come, and never a long statement.
_REMOVED_AT_ONCE_MAX = 10


async def by_token(transaction: Transaction, token: str, now_ms: int) -> int | None:
    """Return the account of a token that is in force."""
    account: int | None = await transaction.fetchval(statements("member_tokens")["by_hash"], hashed(token), now_ms)
    return account


async def account_lives(transaction: Transaction, account: int) -> bool | None:
    """Return whether an account may have tokens: not after erasing or merging; None if there is none."""
    lives: bool | None = await transaction.fetchval(statements("member_tokens")["account"], account)
    return lives


async def add(transaction: Transaction, *, account: int, created_by: str, now_ms: int, expires_ms: int) -> str:
    """Add a token for an account and return it; it is kept nowhere. Removes some that have expired."""
    token = new_token(PREFIX)
    await transaction.execute(statements("member_tokens")["remove_expired"], now_ms, _REMOVED_AT_ONCE_MAX)
    await transaction.execute(
        statements("member_tokens")["add"], hashed(token), account, created_by, now_ms, expires_ms
    )
    return token


async def remove(transaction: Transaction, account: int) -> int:
    """Remove all tokens of an account; return how many there were."""
    return len(await transaction.fetch(statements("member_tokens")["remove_of_account"], account))
