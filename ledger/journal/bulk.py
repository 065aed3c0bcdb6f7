"""Whole accounts with cards and journal, written past every worker into a database that nobody serves: by COPY."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from ledger.journal.enrolment import Enrolled
from ledger.journal.writer import DOWN, Batch, JournalDown, Row

_ACCOUNT_COLUMNS = ("account_id", "seq", "link", "balance", "held", "owed", "due_ms", "state")
_CARD_COLUMNS = ("token", "account_id", "kind", "masked", "status")
_OF_ACCOUNTS = ("account", "card", "entry")
_BESIDE_ACCOUNTS = (
    "personal.member", "personal.lookup", "personal.change", "office.member_token", "office.adjustment", "office.merge",
    "office.conflict",
    "terminal_day",
)  # fmt: skip
#: What refers to others comes first. Users and tokens may belong to a partner and stay, so these are not truncated.
_OF_PROGRAMME = ("relay", "terminal", "store", "rules_version", "rules", "network", "partner")
_NUMBERED = ("terminal", "store", "network", "partner")


class BulkWriter:
    """A connection that only fills: what it wrote last may be lost when PostgreSQL dies, and can be made again."""

    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        self._connection = connection

    @classmethod
    async def open(cls, postgres_url: str) -> BulkWriter:
        """Connect. Raises JournalDown."""
        async with _told():
            return cls(await asyncpg.connect(postgres_url, server_settings={"synchronous_commit": "off"}))

    async def close(self) -> None:
        """Disconnect."""
        await self._connection.close()

    async def add(self, batches: Iterable[Batch], cards: Iterable[Enrolled]) -> None:
        """Write new accounts with all their entries and their cards in one transaction. Raises JournalDown."""
        accounts: list[Row] = []
        entries: list[Row] = []
        for batch in batches:
            accounts.extend(batch.account_records())
            entries.extend(batch.entry_records())
        of_cards = [(e.card.token, e.account, e.card.kind, e.card.masked, e.card.status) for e in cards]
        copy = self._connection.copy_records_to_table
        async with _told(), self._connection.transaction():
            await copy("account", columns=_ACCOUNT_COLUMNS, records=accounts)
            await copy("card", columns=_CARD_COLUMNS, records=of_cards)
            await copy("entry", records=entries)

    async def settle(self) -> None:
        """Leave a database at rest, not one that was filled a moment ago and has its housekeeping before it."""
        async with _told():
            await self._connection.execute(
                "SELECT setval(pg_get_serial_sequence('account', 'account_id'), (SELECT max(account_id) FROM account))"
            )
            for table in _OF_ACCOUNTS:
                await self._connection.execute(f"VACUUM (ANALYZE) {table}")
            await self._connection.execute("CHECKPOINT")

    async def clear(self) -> None:
        """Remove the programme and all accounts. Raises JournalDown."""
        async with _told(), self._connection.transaction():
            await self._connection.execute(f"TRUNCATE {', '.join(_OF_ACCOUNTS + _BESIDE_ACCOUNTS)} RESTART IDENTITY")
            for table in _OF_PROGRAMME:
                await self._connection.execute(f"DELETE FROM {table}")  # noqa: S608 - the names are ours
            for table in _NUMBERED:
                await self._connection.execute(f"ALTER TABLE {table} ALTER COLUMN {table}_id RESTART")


@asynccontextmanager
async def _told() -> AsyncIterator[None]:
    try:
        yield
    except (*DOWN, asyncpg.PostgresError) as error:
        raise JournalDown(str(error)) from error
