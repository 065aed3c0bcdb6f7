"""New partners, networks, stores, terminals, rules and cards: plain rows, effective in every worker within a second."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any

import asyncpg

from ledger.journal.enrolment import Enrolled, NewCard, enrol
from ledger.journal.writer import DOWN, JournalDown
from ledger.programme import Rules


class NotOnboarded(Exception):  # noqa: N818 - it says what is the matter
    """The database refused: a name is taken or a value is out of its range. Nothing of the transaction was kept."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the server keeps of a terminal's secret (RFC 5802, section 3): nothing that logs in."""

    salt: bytes
    iterations: int
    stored_key: bytes
    server_key: bytes


class Onboarding:
    """Adds to the programme inside one transaction."""

    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        self._connection = connection

    async def partner(self, name: str) -> int:
        """Add a partner; return its id."""
        return await self._number("INSERT INTO partner (name) VALUES ($1) RETURNING partner_id", name)

    async def network(self, partner_id: int, name: str, currency: str) -> int:
        """Add a partner's network with the ISO 4217 code of its money; return its id."""
        return await self._number(
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
        return await self._number(
            "INSERT INTO store (network_id, name) VALUES ($1, $2) RETURNING store_id", network_id, name
        )

    async def terminal(self, store_id: int, code: str, permitted: Iterable[int], credentials: Credentials) -> int:
        """Add a terminal with the operation codes that it may use; return its id."""
        return await self._number(
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

    async def renew(self, code: str, credentials: Credentials) -> bool:
        """Replace a terminal's credentials; return whether there is such a terminal."""
        return bool(
            await self._connection.fetchval(
                "UPDATE terminal SET salt = $2, iterations = $3, stored_key = $4, server_key = $5 WHERE code = $1"
                " RETURNING true",
                code,
                credentials.salt,
                credentials.iterations,
                credentials.stored_key,
                credentials.server_key,
            )
        )

    async def time_zone(self, name: str) -> None:
        """Set the IANA name of the time zone in which days begin and end."""
        await self._connection.execute("UPDATE programme SET time_zone = $1, version = version + 1", name)

    async def cards(self, cards: Sequence[NewCard]) -> list[Enrolled]:
        """Add an account for each card that does not exist; return those."""
        return await enrol(self._connection, cards)

    async def greeting(self, account: int, encrypted_name: bytes) -> None:
        """Set the name a member is greeted with, encrypted by ledger/greetings.py."""
        await self._connection.execute(
            "INSERT INTO personal.member (account_id, greeting) VALUES ($1, $2)"
            " ON CONFLICT (account_id) DO UPDATE SET greeting = excluded.greeting",
            account,
            encrypted_name,
        )

    async def has_partners(self) -> bool:
        """Return whether there is a programme at all."""
        return bool(await self._connection.fetchval("SELECT EXISTS (SELECT FROM partner)"))

    async def is_empty(self) -> bool:
        """Return whether there is neither a programme nor an account; nobody else can begin one in the meantime."""
        await self._connection.execute("LOCK TABLE partner IN EXCLUSIVE MODE")
        return not await self._connection.fetchval(
            "SELECT EXISTS (SELECT FROM partner) OR EXISTS (SELECT FROM account)"
        )

    async def partner_named(self, name: str) -> int | None:
        """Return a partner's id."""
        return await self._found("SELECT partner_id FROM partner WHERE name = $1", name)

    async def network_named(self, name: str) -> int | None:
        """Return a network's id."""
        return await self._found("SELECT network_id FROM network WHERE name = $1", name)

    async def has_store(self, store_id: int) -> bool:
        """Return whether there is such a store."""
        return await self._found("SELECT store_id FROM store WHERE store_id = $1", store_id) is not None

    async def accounts_in_use(self) -> int:
        """Return how many accounts have a journal."""
        return await self._number("SELECT count(*) FROM entry WHERE seq = 1")

    async def _number(self, sql: str, *args: Any) -> int:
        return int(await self._connection.fetchval(sql, *args))

    async def _found(self, sql: str, *args: Any) -> int | None:
        found = await self._connection.fetchval(sql, *args)
        return None if found is None else int(found)


@asynccontextmanager
async def onboarding(postgres_url: str) -> AsyncIterator[Onboarding]:
    """Open a transaction that is committed when the block ends well. Raises NotOnboarded and JournalDown."""
    try:
        connection = await asyncpg.connect(postgres_url)
        try:
            async with connection.transaction():
                yield Onboarding(connection)
        finally:
            await connection.close()
    except asyncpg.UniqueViolationError as error:
        raise NotOnboarded(f"it exists already: {error.detail}") from error
    except asyncpg.CheckViolationError as error:
        raise NotOnboarded(f"a value is out of its range: {error.constraint_name}") from error
    except DOWN as error:
        raise JournalDown(str(error)) from error
