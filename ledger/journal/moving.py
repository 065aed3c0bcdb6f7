"""What moving in reads and writes: people by their old ids, cards, opening balances, many at once.

Accounts that nobody knows yet are written at any time, by COPY. An account that exists is its owner's; it is changed
here only while no worker owns any partition and none can come to own one, and what Redis remembers is void by then.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg

from ledger.hot_store import unpack
from ledger.journal.enrolment import NewCard
from ledger.journal.statements import statement
from ledger.journal.writer import DOWN, LOCK_CLASS, Batch, CardChange, JournalDown, Row, last_words
from ledger.operations import Operation
from ledger.registry.statements import statements

#: Nobody else imports at the same time: two imports would both find a person missing.
_IMPORT_LOCK = 7411_0002
_ACCOUNT_COLUMNS = ("account_id", "seq", "link", "balance", "held", "owed", "due_ms", "state")
_CARD_COLUMNS = ("token", "account_id", "kind", "masked", "status")
_MEMBER_COLUMNS = ("account_id", "data", "greeting", "created_ms", "changed_ms")


class Overtaken(Exception):  # noqa: N818 - it is a state
    """Somebody else wrote the same at the same time; nothing was written here, and it can be tried again."""


class ServerStarted(Exception):  # noqa: N818 - it is a state
    """A server came to own accounts while they were to be changed past it; nothing was written."""


class ImportRunning(Exception):  # noqa: N818 - it is a state
    """Another import runs in this database."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How an installation stands: number of partitions, time zone, sum of their epochs; `alone` if no worker runs."""

    partitions: int
    time_zone: str
    epochs: int
    alone: bool


@dataclass(frozen=True, slots=True)
class Person:
    """Whose an external id is, and the encrypted data that are known."""

    account: int
    data: bytes | None


@dataclass(frozen=True, slots=True)
class Head:
    """Where an account's journal stands, and its packed state."""

    seq: int
    link: int
    state: bytes


@dataclass(frozen=True, slots=True)
class NewMember:
    """Encrypted data and greeting of an account, and the (kind, hash) under which it is found."""

    account: int
    data: bytes
    greeting: bytes | None
    lookups: Sequence[tuple[int, bytes]]


class MovingIn:
    """The one session of an import as a whole: keeps others from importing, and workers from owning accounts."""

    def __init__(self, connection: asyncpg.Connection[Any], standing: Standing) -> None:
        self._connection = connection
        self.standing = standing

    @classmethod
    async def begin(cls, postgres_url: str, *, writing: bool) -> MovingIn:
        """Connect; if nobody owns an account, see to it that nobody will until `end`, and void what Redis remembers.

        With `writing` false nothing is voided. Raises JournalDown and ImportRunning.
        """
        sql = statements("moving")
        async with told():
            connection = await asyncpg.connect(postgres_url, server_settings={"application_name": "tillwire-import"})
            try:
                await _keep_others_out(connection)
                async with connection.transaction():
                    row = await connection.fetchrow(sql["installation"])
                    alone = await connection.fetchval(sql["take_session"], LOCK_CLASS, row["partitions"])
                    if alone and writing:
                        await connection.execute(sql["void"])
                    row = await connection.fetchrow(sql["installation"])
                if not alone:
                    # What was taken of them must not keep a worker from a partition that it is about to take over.
                    await connection.execute("SELECT pg_advisory_unlock_all()")
                    await _keep_others_out(connection)
            except BaseException:
                await connection.close()
                raise
            return cls(connection, Standing(row["partitions"], row["time_zone"], row["epochs"], bool(alone)))

    async def end(self) -> None:
        """Let workers own accounts again."""
        await self._connection.close()

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[asyncpg.Connection[Any]]:
        """Open a transaction for what the registry has to note. Raises JournalDown."""
        async with told(), self._connection.transaction():
            yield self._connection


class MovingWriter:
    """Reads and writes part after part of an import."""

    def __init__(self, connection: asyncpg.Connection[Any], standing: Standing) -> None:
        self._connection = connection
        self._standing = standing
        self._sql = statements("moving")

    @classmethod
    async def open(cls, postgres_url: str, standing: Standing) -> MovingWriter:
        """Connect. Raises JournalDown."""
        async with told():
            settings = {"application_name": "tillwire-import"}
            return cls(await asyncpg.connect(postgres_url, server_settings=settings), standing)

    async def close(self) -> None:
        """Disconnect."""
        await self._connection.close()

    @asynccontextmanager
    async def part(self) -> AsyncIterator[None]:
        """Open a transaction for one part. Raises Overtaken, ServerStarted and JournalDown."""
        async with told(), self._connection.transaction():
            if self._standing.alone:
                now = await self._connection.fetchrow(self._sql["installation"])
                taken = await self._connection.fetchval(self._sql["take"], LOCK_CLASS, now["partitions"])
                if not taken or (now["partitions"], now["epochs"]) != (
                    self._standing.partitions,
                    self._standing.epochs,
                ):
                    raise ServerStarted
            yield

    async def people(self, hashes: Iterable[bytes]) -> dict[bytes, list[Person]]:
        """Return whose these external ids are."""
        found: dict[bytes, list[Person]] = {}
        for row in await self._connection.fetch(self._sql["people"], list(hashes)):
            found.setdefault(row["hash"], []).append(Person(row["account_id"], row["data"]))
        return found

    async def members(self, accounts: Iterable[int]) -> dict[int, bytes | None]:
        """Return the encrypted data of those accounts that are members'."""
        rows = await self._connection.fetch(self._sql["members"], list(accounts))
        return {row["account_id"]: row["data"] for row in rows}

    async def cards(self, tokens: Iterable[bytes]) -> dict[bytes, tuple[int, int]]:
        """Return account and status of those cards that exist."""
        rows = await self._connection.fetch(self._sql["cards"], list(tokens))
        return {row["token"]: (row["account_id"], row["status"]) for row in rows}

    async def openings(self, request_ids: Iterable[bytes]) -> dict[bytes, tuple[int, int]]:
        """Return account and minor points of the opening balances that are journaled."""
        rows = await self._connection.fetch(self._sql["openings"], list(request_ids))
        return {row["request_id"]: (row["account_id"], row["earned"]) for row in rows}

    async def opened_lots(self, accounts: Iterable[int], reference: str) -> dict[tuple[int, int], list[bytes]]:
        """Return by account and last day the request ids under which it got an opening balance."""
        rows = await self._connection.fetch(self._sql["openings_of"], list(accounts), reference, int(Operation.ADJUST))
        found: dict[tuple[int, int], list[bytes]] = {}
        for row in rows:
            for until_day in unpack(row["moves"])[1::4]:
                found.setdefault((row["account_id"], until_day), []).append(row["request_id"])
        return found

    async def heads(self, accounts: Iterable[int]) -> dict[int, Head]:
        """Return the heads of accounts, which stay as they are until the part ends."""
        rows = await self._connection.fetch(self._sql["heads"], list(accounts))
        return {row["account_id"]: Head(row["seq"], row["link"], row["state"]) for row in rows}

    async def new_accounts(self, count: int) -> list[int]:
        """Return so many numbers of accounts to be."""
        return [row[0] for row in await self._connection.fetch(self._sql["new_accounts"], count)] if count else []

    async def add_accounts(self, states: Mapping[int, bytes]) -> None:
        """Add accounts without a journal."""
        records = [(account, 0, 0, 0, 0, 0, None, state) for account, state in states.items()]
        await self._copy("account", _ACCOUNT_COLUMNS, records)

    async def put_states(self, states: Mapping[int, bytes]) -> None:
        """Give accounts without a journal another state. Raises Overtaken."""
        if states:
            done = await self._connection.fetchval(self._sql["put_states"], list(states), list(states.values()))
            if done != len(states):
                raise Overtaken

    async def add_cards(self, cards: Iterable[tuple[int, NewCard]]) -> None:
        """Add cards that lead to accounts whose states have them."""
        records = [(card.token, account, card.kind, card.masked, card.status) for account, card in cards]
        await self._copy("card", _CARD_COLUMNS, sorted(records))

    async def add_members(self, members: Sequence[NewMember], now_ms: int) -> None:
        """Add what is known of members whose accounts had none."""
        records = [(m.account, m.data, m.greeting, now_ms, now_ms) for m in members]
        await self._copy("member", _MEMBER_COLUMNS, records, schema="personal")
        lookups = sorted((kind, hashed, m.account) for m in members for kind, hashed in m.lookups)
        await self._copy("lookup", ("kind", "hash", "account_id"), lookups, schema="personal")

    async def tell_members(self, members: Sequence[NewMember], now_ms: int) -> None:
        """Add what was not known of members."""
        rows = [(m.account, m.data, m.greeting, now_ms) for m in members]
        await self._connection.executemany(self._sql["tell_member"], rows)
        lookups = [(kind, hashed, m.account) for m in members for kind, hashed in m.lookups]
        await self._connection.executemany(self._sql["add_lookup"], lookups)

    async def journal(self, batch: Batch, new: set[int]) -> None:
        """Write what was decided: by COPY for accounts that are `new` in this part, in place for others.

        Raises Overtaken.
        """
        fresh: list[Row] = []
        known: list[Row] = []
        for row in batch.accounts.values():
            (fresh if row[0] in new else known).append(row)
        await self._copy("account", _ACCOUNT_COLUMNS, [_record(row) for row in fresh])
        if known:
            columns = [
                list(column) for column in zip(*((*row[:8], row[8] or None, row[9]) for row in known), strict=True)
            ]
            if await self._connection.fetchval(self._sql["move_on"], *columns) != len(known):
                raise Overtaken
        await self._copy("entry", None, list(batch.entry_records()))
        await self._change_cards(batch.cards)

    async def _change_cards(self, cards: Sequence[CardChange]) -> None:
        if not cards:
            return
        last = last_words(cards)
        columns = zip(*((c.token, c.account, c.status, c.kind, c.masked) for c in last.values()), strict=True)
        taken = await self._connection.fetch(statement("change_cards"), *(list(column) for column in columns))
        if len(taken) != len(last):
            raise Overtaken

    async def count_openings(self, request_ids: Sequence[bytes]) -> tuple[int, int]:
        """Return how many of these are journaled, and the minor points that came in by them."""
        async with told():
            row = await self._connection.fetchrow(self._sql["count_openings"], request_ids)
            return row["rows"], row["points"]

    async def count_people(self, hashes: Sequence[bytes]) -> int:
        """Return how many external ids lead to an account."""
        async with told():
            return int(await self._connection.fetchval(self._sql["count_people"], hashes))

    async def count_cards(self, tokens: Sequence[bytes]) -> int:
        """Return how many cards are known."""
        async with told():
            return int(await self._connection.fetchval(self._sql["count_cards"], tokens))

    async def owners(self) -> list[str]:
        """Return the address of each partition's owner, in their order."""
        async with told():
            return [row["owner"] for row in await self._connection.fetch(self._sql["owners"])]

    async def _copy(
        self, table: str, columns: Sequence[str] | None, records: Sequence[Any], schema: str | None = None
    ) -> None:
        if records:
            await self._connection.copy_records_to_table(table, columns=columns, records=records, schema_name=schema)


async def _keep_others_out(connection: asyncpg.Connection[Any]) -> None:
    if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", _IMPORT_LOCK):
        raise ImportRunning


def _record(row: Sequence[Any]) -> tuple[Any, ...]:
    account, _, _, seq, link, balance, held, owed, due_ms, state = row
    return account, seq, link, balance, held, owed, due_ms or None, state


@asynccontextmanager
async def told() -> AsyncIterator[None]:
    """Say what PostgreSQL says in the words of this module."""
    try:
        yield
    except (asyncpg.UniqueViolationError, asyncpg.DeadlockDetectedError, asyncpg.SerializationError) as error:
        raise Overtaken from error
    except DOWN as error:
        raise JournalDown(str(error)) from error
    except asyncpg.PostgresError as error:
        raise JournalDown(f"{type(error).__name__}: {error}") from error
