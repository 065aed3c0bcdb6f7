"""The SQL statements, read from ledger/sql/ by name."""

from __future__ import annotations

from functools import cache
from importlib import resources


@cache
def statement(name: str) -> str:
    """Return the text of ledger/sql/NAME.sql."""
    return resources.files("ledger").joinpath("sql", f"{name}.sql").read_text("utf-8")
