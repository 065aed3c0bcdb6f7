"""New partners, networks, stores, terminals and rules: plain rows, effective in every worker within a second."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import asyncpg

from ledger.programme import Rules


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the server keeps of a terminal's secret (RFC 5802, section 3): nothing that logs in."""

    salt: bytes
    iterations: int
    stored_key: bytes
    server_key: bytes


class Onboarding:
    """Adds to the programme through one connection; wrap several calls in its transaction to have all or none."""

    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        self._connection = connection

    async def partner(self, name: str) -> int:
        """Add a partner; return its id."""
        return await self._insert("INSERT INTO partner (name) VALUES ($1) RETURNING partner_id", name)

    async def network(self, partner_id: int, name: str, currency: str) -> int:
        """Add a partner's network with the ISO 4217 code of its money; return its id."""
        return await self._insert(
            "INSERT INTO network (partner_id, name, currency) VALUES ($1, $2, $3) RETURNING network_id",
            partner_id,
            name,
            currency,
        )

    async def rules(self, network_id: int, rules: Rules) -> None:
        """Add rules that hold in a network from `rules.valid_from_ms` on."""
        columns = {"network_id": network_id, **asdict(rules)}
        names = ", ".join(columns)
        places = ", ".join(f"${i}" for i in range(1, len(columns) + 1))
        # The names are the fields of a class of ours, not input.
        await self._connection.execute(f"INSERT INTO rules ({names}) VALUES ({places})", *columns.values())  # noqa: S608

    async def store(self, network_id: int, name: str) -> int:
        """Add a store; return its id."""
        return await self._insert(
            "INSERT INTO store (network_id, name) VALUES ($1, $2) RETURNING store_id", network_id, name
        )

    async def terminal(self, store_id: int, code: str, permitted: Iterable[int], credentials: Credentials) -> int:
        """Add a terminal with the operation codes that it may use; return its id."""
        return await self._insert(
            "INSERT INTO terminal (code, store_id, permitted, salt, iterations, stored_key, server_key)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING terminal_id",
            code,
            store_id,
            sorted(permitted),
            credentials.salt,
            credentials.iterations,
            credentials.stored_key,
            credentials.server_key,
        )

    async def greeting(self, account: int, encrypted_name: bytes) -> None:
        """Set the name a member is greeted with, encrypted by ledger/greetings.py."""
        await self._connection.execute(
            "INSERT INTO personal.member (account_id, greeting) VALUES ($1, $2)"
            " ON CONFLICT (account_id) DO UPDATE SET greeting = excluded.greeting",
            account,
            encrypted_name,
        )

    async def _insert(self, sql: str, *args: Any) -> int:
        return int(await self._connection.fetchval(sql, *args))
