"""Rules of networks, every version of them: who saved it, when, from when on it holds, and what it was copied from."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

import orjson

from ledger.programme import Rules
from ledger.registry.registry import Row, Transaction
from ledger.registry.statements import statements
from ledger.rules_check import check

_NAMES = frozenset(field.name for field in fields(Rules))


@dataclass(frozen=True, slots=True)
class Version:
    """One version. Times are ms since 1970; `valid_until_ms` is None where nothing follows, or once it is withdrawn."""

    version: int
    rules: Rules
    note: str
    made_ms: int
    made_by: str
    copy_of: int | None
    valid_until_ms: int | None
    withdrawn_ms: int | None
    withdrawn_by: str | None


async def network(transaction: Transaction, network_id: int) -> Row | None:
    """Return network_id, partner_id, name and currency; nobody else changes its rules until the transaction ends."""
    row: Row | None = await transaction.fetchrow(statements("rules")["network"], network_id)
    return row


async def add(
    transaction: Transaction,
    network_id: int,
    rules: Rules,
    *,
    note: str,
    now_ms: int,
    made_by: str,
    copy_of: int | None = None,
) -> int:
    """Save rules that hold from `rules.valid_from_ms` on; return their version. Raises BadRules.

    A network's first rules hold since ever. So one that has none gets those that it lived by, the defaults, before any
    others.
    """
    check(rules)
    statement = statements("rules")["add"]
    if rules.valid_from_ms and not await transaction.fetchval(statements("rules")["has_any"], network_id):
        await transaction.fetchval(statement, network_id, 0, _packed(Rules(0)), "defaults", now_ms, "system", None)
    return int(
        await transaction.fetchval(
            statement, network_id, rules.valid_from_ms, _packed(rules), note, now_ms, made_by, copy_of
        )
    )


async def in_force(transaction: Transaction, network_id: int, at_ms: int) -> tuple[int | None, Rules]:
    """Return version and rules of a moment; the defaults, without a version, if the network has none."""
    row = await transaction.fetchrow(statements("rules")["in_force"], network_id, at_ms)
    return (None, Rules(0)) if row is None else (row["version"], _rules(row))


async def versions(
    transaction: Transaction, network_id: int, *, before: int, rows_max: int, version: int | None = None
) -> list[Version]:
    """Return versions below a number, newest first; with `version` only that one."""
    rows = await transaction.fetch(statements("rules")["versions"], network_id, before, rows_max, version)
    return [
        Version(
            row["version"], _rules(row), row["note"], row["made_ms"], row["made_by"], row["copy_of"],
            row["valid_until_ms"], row["withdrawn_ms"], row["withdrawn_by"],
        )
        for row in rows
    ]  # fmt: skip


async def withdraw(transaction: Transaction, network_id: int, version: int, *, now_ms: int, actor: str) -> None:
    """Take back a version that never came into force; it stays among the versions as withdrawn."""
    await transaction.execute(statements("rules")["withdraw"], network_id, version, now_ms, actor)


def _packed(rules: Rules) -> str:
    kept: dict[str, Any] = asdict(rules)
    del kept["valid_from_ms"]
    return orjson.dumps(kept).decode()


def _rules(row: Row) -> Rules:
    # What a later release added has its default in versions from before.
    kept = {name: value for name, value in orjson.loads(row["rules"]).items() if name in _NAMES}
    return Rules(**{**kept, "slip": tuple(kept.get("slip", ())), "valid_from_ms": row["valid_from_ms"]})
