"""Reads everything that leaves, in order, from one snapshot and in parts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import asyncpg

from ledger.journal.moving import told
from ledger.registry import audit
from ledger.registry.statements import statements

_ROWS_AT_ONCE = 5_000


class Leaving:
    """One consistent reading of the whole database: open, read each subject, close."""

    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        self._connection = connection
        self._transaction = connection.transaction(isolation="repeatable_read", readonly=True)

    @classmethod
    async def open(cls, postgres_url: str) -> Leaving:
        """Take the snapshot. Raises JournalDown."""
        async with told():
            leaving = cls(await asyncpg.connect(postgres_url, server_settings={"application_name": "tillwire-export"}))
            await leaving._transaction.start()
            return leaving

    async def close(self) -> None:
        """Give the snapshot back."""
        await self._connection.close()

    async def columns(self, subject: str) -> list[str]:
        """Return what the columns of a statement are called. Raises JournalDown."""
        async with told():
            prepared = await self._connection.prepare(statements("export")[subject])
            return [attribute.name for attribute in prepared.get_attributes()]

    async def rows(self, subject: str) -> AsyncIterator[Mapping[str, Any]]:
        """Yield the rows of a statement of ledger/sql/registry/export.sql; memory is bounded. Raises JournalDown."""
        async with told():
            async for row in self._connection.cursor(statements("export")[subject], prefetch=_ROWS_AT_ONCE):
                yield row


async def note_export(postgres_url: str, now_ms: int, *, personal: bool) -> None:
    """Write into the audit log that everything is about to leave. Raises JournalDown."""
    async with told():
        connection = await asyncpg.connect(postgres_url)
        try:
            await audit.record(
                connection, at_ms=now_ms, actor="system", actor_name="tillwire export", address="",
                action="export.personal" if personal else "export", subject="everything",
            )  # fmt: skip
        finally:
            await connection.close()
