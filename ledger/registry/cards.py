"""Cards as rows: where they lead, new ones with accounts of their own, batches. What changes a card is the ledger's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ledger.journal.enrolment import NewCard
from ledger.registry.registry import Conflict, Row, Transaction
from ledger.registry.statements import statements
from ledger.states import first_state

#: So many cards go to PostgreSQL in one statement.
_AT_ONCE = 5_000


@dataclass(frozen=True, slots=True)
class NewBatch:
    """A batch of cards to make: `status` (0 issued, 1 active) is that of its cards, `actor` whoever makes it."""

    name: str
    kind: int
    count: int
    status: int
    made_ms: int
    actor: str


async def by_tokens(transaction: Transaction, tokens: Sequence[bytes]) -> list[Row]:
    """Return token, account_id, kind, masked, status, made_ms, batch_id, batch_name, pristine and taken of cards."""
    return list(await transaction.fetch(statements("cards")["by_tokens"], tokens))


async def of_accounts(transaction: Transaction, accounts: Sequence[int]) -> list[Row]:
    """Return the cards of accounts, oldest first; rows like those of `by_tokens`, without the last two."""
    return list(await transaction.fetch(statements("cards")["of_accounts"], accounts))


async def has_account(transaction: Transaction, account: int) -> bool:
    """Return whether there is such an account."""
    return bool(await transaction.fetchval(statements("cards")["has_account"], account))


async def known(transaction: Transaction, tokens: Sequence[bytes]) -> set[bytes]:
    """Return which of the tokens are cards already."""
    found: set[bytes] = set()
    for start in range(0, len(tokens), _AT_ONCE):
        rows = await transaction.fetch(statements("cards")["known_tokens"], tokens[start : start + _AT_ONCE])
        found.update(row["token"] for row in rows)
    return found


async def open_account(transaction: Transaction, card: NewCard | None, now_ms: int) -> int:
    """Add an account, with a card or without any; return its id. Raises Conflict if the card exists."""
    cards = () if card is None else (card,)
    if cards:
        return (await add(transaction, cards, None, now_ms))[0]
    (account,) = await _open(transaction, [()])
    return account


async def add(transaction: Transaction, cards: Sequence[NewCard], batch_id: int | None, now_ms: int) -> list[int]:
    """Add an account for each card; return their ids. Raises Conflict if one of the cards exists.

    Other than `ledger.journal.enrolment.enrol` it does not lock the table, so that registers' cards go on changing
    while many are made.
    """
    accounts: list[int] = []
    for start in range(0, len(cards), _AT_ONCE):
        part = cards[start : start + _AT_ONCE]
        opened = await _open(transaction, [(card,) for card in part])
        added = await transaction.fetch(
            statements("cards")["add_cards"],
            [card.token for card in part], opened, [card.kind for card in part], [card.masked for card in part],
            [card.status for card in part], batch_id, now_ms,
        )  # fmt: skip
        if len(added) < len(part):
            raise Conflict(f"{len(part) - len(added)} of the cards exist already")
        accounts += opened
    return accounts


async def _open(transaction: Transaction, cards_of_each: Sequence[Sequence[NewCard]]) -> list[int]:
    rows = await transaction.fetch(statements("cards")["new_account_ids"], len(cards_of_each))
    accounts = [row["account_id"] for row in rows]
    records = [
        (account, first_state(account, [(card.token, card.status) for card in cards]))
        for account, cards in zip(accounts, cards_of_each, strict=True)
    ]
    await transaction.copy_records_to_table("account", columns=("account_id", "state"), records=records)
    return accounts


async def add_batch(transaction: Transaction, batch: NewBatch) -> int:
    """Add a batch without its series; return its id, to which the series' encryption is bound."""
    return int(
        await transaction.fetchval(
            statements("cards")["add_batch"],
            batch.name, batch.kind, batch.count, batch.status, b"", batch.made_ms, batch.actor,
        )
    )  # fmt: skip


async def set_series(transaction: Transaction, batch_id: int, encrypted: bytes) -> None:
    """Note what the numbers of a batch are made from."""
    await transaction.execute(statements("cards")["name_batch_numbers"], batch_id, encrypted)


async def batches(transaction: Transaction, before: int, count: int) -> list[Row]:
    """Return batches with an id below `before`, newest first, with counts of their cards by status."""
    return list(await transaction.fetch(statements("cards")["batches"], before, count, None))


async def batch(transaction: Transaction, batch_id: int) -> Row | None:
    """Return a batch like those of `batches`."""
    row: Row | None = await transaction.fetchrow(statements("cards")["batches"], batch_id + 1, 1, batch_id)
    return row
