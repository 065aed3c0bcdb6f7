"""The programme of a load test: one partner, network and store, and terminals that share one secret."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from ledger.journal.onboarding import Onboarding
from ledger.journal.writer import DOWN, JournalDown
from ledger.programme import Rules
from protocol.codes import Message
from server.errors import OperatorError
from server.population.history import EARN_RATE_BP
from server.population.specimen import Origin
from server.programme_setup import credentials_of, new_secret

CURRENCY = "EUR"
TERMINAL_PREFIX = "load-"
_NAME = "Load"
_RULES = Rules(valid_from_ms=0, earn_rate_bp=EARN_RATE_BP)
_EVERYTHING = tuple(int(op) for op in Message if Message.BALANCE <= op <= Message.REPLACE)
_TABLES_OF_ACCOUNTS = "account, card, entry, personal.member, terminal_day"
_TABLES_OF_PROGRAMME = "terminal, store, rules, network, partner"


@dataclass(frozen=True, slots=True)
class Founded:
    """Where the accounts have their past, and the secret of all terminals."""

    origin: Origin
    secret: str = field(repr=False)


async def found(postgres_url: str, terminals: int) -> Founded:
    """Create the programme with so many terminals. Raises OperatorError when anything is there already, JournalDown."""
    async with _connected(postgres_url) as connection, connection.transaction():
        # Whoever else wants to fill the same database waits here, and then finds it taken.
        await connection.execute("LOCK TABLE partner IN EXCLUSIVE MODE")
        if await connection.fetchval("SELECT EXISTS (SELECT FROM partner) OR EXISTS (SELECT FROM account)"):
            raise OperatorError("the programme is not empty: a population goes into a database of its own")
        to = Onboarding(connection)
        partner_id = await to.partner(_NAME)
        network_id = await to.network(partner_id, _NAME, CURRENCY)
        await to.rules(network_id, _RULES)
        store_id = await to.store(network_id, _NAME)
        secret = new_secret()
        credentials = credentials_of(secret)
        ids = [
            await to.terminal(store_id, f"{TERMINAL_PREFIX}{number}", _EVERYTHING, credentials)
            for number in range(terminals)
        ]
        return Founded(Origin(ids[0], network_id, partner_id, CURRENCY, _RULES), secret)


async def abandon(postgres_url: str) -> None:
    """Empty a database whose filling failed. Raises JournalDown."""
    async with _connected(postgres_url) as connection:
        await connection.execute(f"TRUNCATE {_TABLES_OF_ACCOUNTS}, {_TABLES_OF_PROGRAMME} RESTART IDENTITY")


@asynccontextmanager
async def _connected(postgres_url: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    try:
        connection = await asyncpg.connect(postgres_url)
        try:
            yield connection
        finally:
            await connection.close()
    except DOWN as error:
        raise JournalDown(str(error)) from error
