"""What people and programs are called, whom rows name as "user:3" or "token:7"."""

from __future__ import annotations

from collections.abc import Iterable

from ledger.registry.registry import Transaction
from ledger.registry.statements import statements

_TABLES = {"user": "users", "token": "tokens"}


async def of_actors(transaction: Transaction, actors: Iterable[str]) -> dict[str, str]:
    """Return the names of those of the actors that are people or programs."""
    ids: dict[str, list[int]] = {}
    for actor in actors:
        kind, _, number = actor.partition(":")
        if kind in _TABLES and number.isdigit():
            ids.setdefault(kind, []).append(int(number))
    found = {}
    for kind, numbers in ids.items():
        for row in await transaction.fetch(statements("names")[_TABLES[kind]], numbers):
            found[f"{kind}:{row['id']}"] = row["name"]
    return found
