"""Members as rows: personal data (encrypted), lookups (hashed), the log of changes, erasing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ledger.registry.personal import Hash
from ledger.registry.registry import Row, Transaction
from ledger.registry.statements import statements


@dataclass(frozen=True, slots=True)
class Stored:
    """Personal data as they are stored."""

    data: bytes
    greeting: bytes | None


@dataclass(frozen=True, slots=True)
class Change:
    """Who changed which fields and in which store; `before` (encrypted) is what they were."""

    at_ms: int
    actor: str
    store_id: int | None
    fields: Sequence[str]
    before: bytes | None


async def member(transaction: Transaction, account: int) -> Row | None:
    """Return account_id, data, greeting, version, created_ms, changed_ms and erased_ms."""
    return await _row(transaction, "member", account)


async def member_for_change(transaction: Transaction, account: int) -> Row | None:
    """Return the same, and keep others from changing it until the transaction ends."""
    return await _row(transaction, "member_for_change", account)


async def members(transaction: Transaction, accounts: Sequence[int]) -> list[Row]:
    """Return account_id, data, greeting and erased_ms of those accounts that have a member."""
    return list(await transaction.fetch(statements("members")["members"], accounts))


async def add(transaction: Transaction, account: int, stored: Stored, now_ms: int) -> bool:
    """Add a member to an account; False if it has one, or had one that was erased."""
    row = await _row(transaction, "add_member", account, stored.data, stored.greeting, now_ms)
    return row is not None


async def change(transaction: Transaction, account: int, stored: Stored, now_ms: int) -> int:
    """Replace the data of a member; return the new version."""
    row = await _row(transaction, "change_member", account, stored.data, stored.greeting, now_ms)
    return 0 if row is None else int(row["version"])


async def swap_lookups(transaction: Transaction, account: int, before: Sequence[Hash], after: Sequence[Hash]) -> None:
    """Let a member be found by other things; what came from an account that was merged into it stays."""
    for name, hashes in (("remove_lookups", before), ("add_lookups", after)):
        if hashes:
            kinds, values = [kind for kind, _ in hashes], [value for _, value in hashes]
            await transaction.execute(statements("members")[name], account, kinds, values)


async def find(transaction: Transaction, hashes: Sequence[Hash], count: int) -> list[int]:
    """Return accounts of members that are found by one of the hashes."""
    kinds, values = [kind for kind, _ in hashes], [value for _, value in hashes]
    rows = await transaction.fetch(statements("members")["find"], kinds, values, count)
    return [row["account_id"] for row in rows]


async def note_change(transaction: Transaction, account: int, made: Change) -> None:
    """Add to the log of changes."""
    await transaction.execute(
        statements("members")["add_change"], account, made.at_ms, made.actor, made.store_id, list(made.fields),
        made.before,
    )  # fmt: skip


async def changes(transaction: Transaction, account: int, count: int) -> list[Row]:
    """Return the last changes, newest first, with the names of store and actor as far as they are known."""
    return list(await transaction.fetch(statements("members")["changes"], account, count))


async def phone_cards(transaction: Transaction, account: int) -> list[Row]:
    """Return token, status and masked of the account's phone numbers, whether they work or not, locked."""
    return list(await transaction.fetch(statements("members")["phone_cards"], account))


async def erase(transaction: Transaction, account: int, now_ms: int) -> None:
    """Forget what a member told, here and in the log of changes; the journal knows none of it."""
    sql = statements("members")
    await transaction.execute(sql["erase_member"], account, now_ms)
    for name in ("erase_lookups", "erase_changes", "erase_masked", "erase_tokens"):
        await transaction.execute(sql[name], account)


async def move_lookups(transaction: Transaction, source: int, target: int) -> None:
    """Let the source's member, who is the target's, be found there."""
    await transaction.execute(statements("members")["move_lookups"], source, target)


async def end_tokens(transaction: Transaction, account: int) -> None:
    """End the tokens with which a site or an app shows the account."""
    await transaction.execute(statements("members")["erase_tokens"], account)


async def remove(transaction: Transaction, account: int) -> None:
    """Remove a member, with all by which it was found."""
    await transaction.execute(statements("members")["remove_member"], account)


async def _row(transaction: Transaction, name: str, *args: Any) -> Row | None:
    row: Row | None = await transaction.fetchrow(statements("members")[name], *args)
    return row
