"""People who sign in: who they are, what proves it, and the links by which they come to choose a password."""

from __future__ import annotations

from ledger.registry.registry import Row, Transaction
from ledger.registry.statements import statements
from ledger.registry.tokens import hashed, new_token

INVITATION_PREFIX = "twi"


async def add(
    transaction: Transaction,
    *,
    email: str,
    name: str,
    role: str,
    partner_id: int | None,
    language: str,
    now_ms: int,
) -> int:
    """Add a user who cannot sign in yet; return the id. The transaction raises Conflict when the e-mail is taken."""
    user_id = await transaction.fetchval(statements("users")["add"], email, name, role, partner_id, language, now_ms)
    return int(user_id)


async def by_email(transaction: Transaction, email: str) -> Row | None:
    """Return all fields of a user by the e-mail, whatever its case."""
    row: Row | None = await transaction.fetchrow(statements("users")["by_email"], email)
    return row


async def by_id(transaction: Transaction, user_id: int, *, to_change: bool = False) -> Row | None:
    """Return all fields of a user; `to_change` keeps everybody else from changing them."""
    row: Row | None = await transaction.fetchrow(statements("users")["locked_by_id" if to_change else "by_id"], user_id)
    return row


async def standing(transaction: Transaction, user_id: int) -> Row | None:
    """Return role and partner_id of a user who is not suspended; nobody changes them until the transaction ends."""
    row: Row | None = await transaction.fetchrow(statements("users")["standing"], user_id)
    return row


async def listed(transaction: Transaction, *, partner_id: int | None, after: int, rows_max: int) -> list[Row]:
    """Return users without what proves them; only those of a partner if one is given."""
    return list(await transaction.fetch(statements("users")["list"], partner_id, after, rows_max))


async def change(
    transaction: Transaction,
    user_id: int,
    *,
    name: str,
    role: str,
    partner_id: int | None,
    language: str,
    active: bool,
) -> None:
    """Change what is not a proof."""
    await transaction.execute(statements("users")["change"], user_id, name, role, partner_id, language, active)


async def owners_able(transaction: Transaction) -> list[int]:
    """Return the owners who can sign in; nobody else changes them until the transaction ends."""
    return [row["user_id"] for row in await transaction.fetch(statements("users")["owners"])]


async def owner_can_sign_in(transaction: Transaction) -> bool:
    """Return whether any owner can sign in."""
    return bool(await transaction.fetchval(statements("users")["owner_can_sign_in"]))


# ---- proofs


async def count_attempt(
    transaction: Transaction, user_id: int, now_ms: int, *, failures_max: int, lockout_s: int
) -> bool:
    """Count an attempt to sign in as a failure until it is known to be none; return False when the user is locked."""
    until_ms = now_ms + lockout_s * 1_000
    counted = await transaction.fetchval(statements("users")["count_attempt"], user_id, now_ms, failures_max, until_ms)
    return counted is not None


async def take_step(transaction: Transaction, user_id: int, step: int) -> bool:
    """Return whether the code of a step may be used; it may be once, and none before it afterwards."""
    return await transaction.fetchval(statements("users")["take_step"], user_id, step) is not None


async def signed_in(transaction: Transaction, user_id: int) -> None:
    """Forget failures."""
    await transaction.execute(statements("users")["signed_in"], user_id)


async def rehash(transaction: Transaction, user_id: int, old: str, new: str) -> None:
    """Store the same password with today's parameters, unless it was changed meanwhile."""
    await transaction.execute(statements("users")["rehash"], user_id, old, new)


async def set_credentials(
    transaction: Transaction, user_id: int, *, password_hash: str, totp_secret: bytes, step: int
) -> None:
    """Let a user sign in with these from now on."""
    await transaction.execute(statements("users")["set_credentials"], user_id, password_hash, totp_secret, step)


# ---- links


async def invite(transaction: Transaction, user_id: int, *, now_ms: int, expires_ms: int) -> str:
    """Return a new link's token, which is kept nowhere; earlier ones of the user work no longer."""
    token = new_token(INVITATION_PREFIX)
    await transaction.execute(statements("users")["void_invitations"], user_id)
    await transaction.execute(statements("users")["add_invitation"], hashed(token), user_id, now_ms, expires_ms)
    return token


async def void_invitations(transaction: Transaction, user_id: int) -> None:
    """Let no link of the user work any more."""
    await transaction.execute(statements("users")["void_invitations"], user_id)


async def invitation(transaction: Transaction, token: str, now_ms: int) -> Row | None:
    """Return whom a link in force is for."""
    row: Row | None = await transaction.fetchrow(statements("users")["invitation"], hashed(token), now_ms)
    return row


async def use_invitation(transaction: Transaction, token: str, now_ms: int) -> int | None:
    """Use a link up; return its user, or None when it is used, expired or void."""
    user_id: int | None = await transaction.fetchval(statements("users")["use_invitation"], hashed(token), now_ms)
    return user_id
