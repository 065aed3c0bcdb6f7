"""Reads the whole journal, in order, from one snapshot."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import asyncpg

from ledger.journal.statements import statement
from ledger.journal.writer import DOWN, JournalDown

_ENTRIES_AT_ONCE = 5_000
_LAST_ACCOUNT = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Part:
    """Consecutive accounts and an iterator over their entries; read the entries before asking for the next part."""

    accounts: list[asyncpg.Record]
    entries: AsyncIterator[asyncpg.Record]


class Scan:
    """One consistent reading of accounts and journal: open, iterate `parts`, close."""

    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        self._connection = connection
        self._transaction = connection.transaction(isolation="repeatable_read", readonly=True)

    @classmethod
    async def open(cls, postgres_url: str) -> Scan:
        """Take the snapshot. Raises JournalDown."""
        try:
            scan = cls(await asyncpg.connect(postgres_url))
            await scan._transaction.start()
        except DOWN as error:
            raise JournalDown(str(error)) from error
        return scan

    async def close(self) -> None:
        """Give the snapshot back."""
        await self._connection.close()

    async def partitions(self) -> list[tuple[int, int]]:
        """Return generation and committed mark of each partition in use."""
        rows = await self._connection.fetch(
            "SELECT o.generation, o.mark FROM partition o, programme p WHERE o.partition_id < p.partitions"
            " ORDER BY o.partition_id"
        )
        return [(row["generation"], row["mark"]) for row in rows]

    async def count(self) -> int:
        """Return the number of accounts."""
        return int(await self._connection.fetchval("SELECT count(*) FROM account"))

    async def parts(self, accounts_at_once: int) -> AsyncIterator[Part]:
        """Yield all accounts in order; behind the last one, entries without an account, if any."""
        last = 0
        while True:
            accounts = await self._connection.fetch(statement("scan_accounts"), last, accounts_at_once)
            up_to = accounts[-1]["account_id"] if len(accounts) == accounts_at_once else _LAST_ACCOUNT
            yield Part(accounts, self._entries(last, up_to))
            if up_to == _LAST_ACCOUNT:
                return
            last = up_to

    async def _entries(self, last: int, up_to: int) -> AsyncIterator[asyncpg.Record]:
        cursor = self._connection.cursor(statement("scan_entries"), last, up_to, prefetch=_ENTRIES_AT_ONCE)
        async for entry in cursor:
            yield entry


async def links_at(postgres_url: str, accounts: dict[int, int]) -> dict[int, int]:
    """Return the link of entry `seq` of each account (account -> seq), where there is such an entry, as of now."""
    try:
        connection = await asyncpg.connect(postgres_url)
        try:
            rows = await connection.fetch(
                "SELECT e.account_id, e.link FROM entry e"
                " JOIN unnest($1::bigint[], $2::bigint[]) AS n (account_id, seq)"
                " USING (account_id, seq) UNION ALL SELECT account_id, 0 FROM unnest($1::bigint[], $2::bigint[])"
                " AS n (account_id, seq) WHERE seq = 0",
                list(accounts),
                list(accounts.values()),
            )
        finally:
            await connection.close()
    except DOWN as error:
        raise JournalDown(str(error)) from error
    return {row["account_id"]: row["link"] for row in rows}
