"""New accounts with their cards, many at once: rows without a journal yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from ledger.journal.writer import DOWN, JournalDown
from ledger.states import first_state


@dataclass(frozen=True, slots=True)
class NewCard:
    """A card to enrol: 16-byte token, kind (SPEC.md, cards), masked number, status (0 issued, 1 active)."""

    token: bytes
    kind: int
    masked: str
    status: int


@dataclass(frozen=True, slots=True)
class Enrolled:
    """An account that was created."""

    account: int
    card: NewCard


async def enrol(connection: asyncpg.Connection[Any], cards: Sequence[NewCard]) -> list[Enrolled]:
    """Create one account per card in one transaction; cards that exist already are left alone and not returned.

    Raises JournalDown.
    """
    try:
        async with connection.transaction():
            # Two enrolments at once would both find a card missing and then collide; one waits for the other.
            await connection.execute("LOCK TABLE card IN SHARE ROW EXCLUSIVE MODE")
            known = await connection.fetch(
                "SELECT token FROM card WHERE token = ANY ($1::bytea[])", [card.token for card in cards]
            )
            tokens = {row["token"] for row in known}
            new = {card.token: card for card in cards if card.token not in tokens}
            numbers = await connection.fetch(
                "SELECT nextval(pg_get_serial_sequence('account', 'account_id')) FROM generate_series(1, $1)", len(new)
            )
            enrolled = [Enrolled(row[0], card) for row, card in zip(numbers, new.values(), strict=True)]
            await connection.copy_records_to_table(
                "account",
                columns=("account_id", "state"),
                records=[(e.account, first_state(e.account, [(e.card.token, e.card.status)])) for e in enrolled],
            )
            await connection.copy_records_to_table(
                "card",
                columns=("token", "account_id", "kind", "masked", "status"),
                records=[(e.card.token, e.account, e.card.kind, e.card.masked, e.card.status) for e in enrolled],
            )
            return enrolled
    except DOWN as error:
        raise JournalDown(str(error)) from error
