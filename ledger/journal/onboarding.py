"""New partners, networks, stores, terminals, rules and cards: plain rows, effective in every worker within a second."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from ledger.clock import SystemClock
from ledger.journal.enrolment import Enrolled, NewCard, enrol
from ledger.journal.writer import DOWN, JournalDown
from ledger.programme import Rules
from ledger.registry import coalition, relays, terminals
from ledger.registry import rules as registered_rules
from ledger.registry.registry import Conflict
from ledger.registry.terminals import Credentials
from ledger.rules_check import BadRules


class NotOnboarded(Exception):  # noqa: N818 - it says what is the matter
    """A name is taken, a value is out of range, or rules contradict themselves. Nothing of the transaction was kept."""


class Onboarding:
    """Adds to the programme inside one transaction."""

    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        self._connection = connection

    async def partner(self, name: str) -> int:
        """Add a partner; return its id."""
        return await coalition.add_partner(self._connection, name)

    async def network(self, partner_id: int, name: str, currency: str) -> int:
        """Add a partner's network with the ISO 4217 code of its money; return its id."""
        return await coalition.add_network(self._connection, partner_id, name, currency)

    async def rules(self, network_id: int, rules: Rules) -> None:
        """Add rules that hold in a network from `rules.valid_from_ms` on."""
        now_ms = SystemClock().now_ms()
        await registered_rules.add(self._connection, network_id, rules, note="", now_ms=now_ms, made_by="system")

    async def store(self, network_id: int, name: str) -> int:
        """Add a store; return its id."""
        return await coalition.add_store(self._connection, network_id, name)

    async def terminal(self, store_id: int, code: str, permitted: Iterable[int], credentials: Credentials) -> int:
        """Add a terminal with the operation codes that it may use; return its id."""
        return await terminals.add(self._connection, store_id, code, permitted, credentials)

    async def relay(
        self,
        store_id: int,
        code: str,
        permitted: Iterable[int],
        credentials: Credentials,
        *,
        allowance_points: int,
        allowance_ms: int,
    ) -> int:
        """Give a store its relay, a terminal with these operation codes; return its id. Raises Conflict."""
        return await relays.give_to_store(
            self._connection, store_id, code, permitted, credentials,
            allowance_points=allowance_points, allowance_ms=allowance_ms,
        )  # fmt: skip

    async def renew(self, code: str, credentials: Credentials) -> bool:
        """Replace a terminal's credentials; return whether there is such a terminal."""
        return await terminals.renew(self._connection, code, credentials)

    async def time_zone(self, name: str) -> None:
        """Set the IANA name of the time zone in which days begin and end."""
        await coalition.set_time_zone(self._connection, name)

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
        return await coalition.partner_named(self._connection, name)

    async def network_named(self, name: str) -> int | None:
        """Return a network's id."""
        return await coalition.network_named(self._connection, name)

    async def has_store(self, store_id: int) -> bool:
        """Return whether there is such a store."""
        return bool(await coalition.stores(self._connection, rows_max=1, store_id=store_id))

    async def network_of(self, store_id: int) -> int | None:
        """Return the network of a store, None if there is no such store."""
        found = await coalition.stores(self._connection, rows_max=1, store_id=store_id)
        # The list begins at an id; a store that is not there leaves it empty.
        return int(found[0]["network_id"]) if found else None

    async def accounts_in_use(self) -> int:
        """Return how many accounts have a journal."""
        return int(await self._connection.fetchval("SELECT count(*) FROM entry WHERE seq = 1"))


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
    except (BadRules, Conflict) as error:
        raise NotOnboarded(str(error)) from error
    except asyncpg.UniqueViolationError as error:
        raise NotOnboarded(f"it exists already: {error.detail}") from error
    except asyncpg.CheckViolationError as error:
        raise NotOnboarded(f"a value is out of its range: {error.constraint_name}") from error
    except DOWN as error:
        raise JournalDown(str(error)) from error
