"""Everything that stands in a database, for tests that look for what must not stand there."""

from __future__ import annotations

import asyncpg


async def every_text(postgres_url: str) -> list[str]:
    """Return every row of every table as text; bytes both as they are and as what they spell."""
    connection = await asyncpg.connect(postgres_url)
    try:
        tables = await connection.fetch(
            "SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables"
            " WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        )
        found = []
        for table in tables:
            # The names are those of the database itself.
            rows = await connection.fetch(f"SELECT * FROM {table['name']}")  # noqa: S608
            found += [table["name"] + " " + " ".join(_spelled(value) for value in row.values()) for row in rows]
        return found
    finally:
        await connection.close()


def _spelled(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
