"""The one connection that journals a partition: holder of its advisory lock, committer of its batches."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import asyncpg

from ledger.journal.postgres import Postgres, transaction
from ledger.journal.statements import statement

#: First key of the advisory locks that partitions are owned by; the second is the partition.
LOCK_CLASS = 7411
_ENTRY_REQUEST_INDEX = "entry_request"
_MERGE_IN_INDEX = "entry_merge_in"
_MERGE_IN = 48
_OP, _REQUEST_ID, _TARGET = 3, 4, 18
_ENTRY_COLUMNS = 30
_DEADLOCKS_MAX = 5

Row = tuple[Any, ...]
#: Makes Redis forget accounts.
Forget = Callable[[set[int]], Awaitable[None]]


class Fenced(Exception):  # noqa: N818 - it is a state, not an error in this code
    """Another owner has begun a later epoch; nothing of this commit was journaled."""


class JournalDown(Exception):  # noqa: N818 - it is a state, not an error in this code
    """PostgreSQL cannot be reached or refused; whether the last statement was committed is unknown."""


#: What a lost, refused or stopped PostgreSQL raises through asyncpg.
DOWN = (
    OSError,
    asyncio.TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.PostgresSystemError,
    asyncpg.InvalidTransactionStateError,
    # A database that lives and lets nobody in.
    asyncpg.ObjectNotInPrerequisiteStateError,
)


@dataclass(frozen=True, slots=True)
class CardChange:
    """A card as a decision leaves it: 16-byte token, account, status, and for a new one its kind and masked number.

    Status 4 says that the card leads to the account no more, and nowhere else.
    """

    token: bytes
    account: int
    status: int
    kind: int
    masked: str


@dataclass(slots=True)
class Batch:
    """What is committed together.

    `accounts` holds per account its change: account, seq and link before, seq and link now, balance, held, owed, due_ms
    (0 = never), packed state. `entries` holds rows of the type journal_row (ledger/sql/migrations): the columns of the
    table `entry` in their order, and behind them what the last entry of an account carries of its change, else None.
    `terminal_days` holds sums of points by (terminal, day). `mark` is the last outbox record inside.
    """

    mark: int
    accounts: dict[int, Row] = field(default_factory=dict)
    entries: list[Row] = field(default_factory=list)
    cards: list[CardChange] = field(default_factory=list)
    terminal_days: list[tuple[int, int, int, int]] = field(default_factory=list)

    def account_records(self) -> Iterator[Row]:
        """Return the accounts as COPY takes them: account_id, seq, link, balance, held, owed, due_ms, state."""
        for account, _, _, seq, link, balance, held, owed, due_ms, state in self.accounts.values():
            yield account, seq, link, balance, held, owed, due_ms or None, state

    def entry_records(self) -> Iterator[Row]:
        """Return the entries as COPY takes them: all columns of the table in their order."""
        return (row[:_ENTRY_COLUMNS] for row in self.entries)

    def without(self, refused: set[int]) -> Batch:
        """Return the batch less everything that concerns the refused accounts."""
        if not refused:
            return self
        return Batch(
            self.mark,
            {a: row for a, row in self.accounts.items() if a not in refused},
            [row for row in self.entries if row[0] not in refused],
            [change for change in self.cards if change.account not in refused],
            [day for day in self.terminal_days if day[0] not in refused],
        )


@dataclass(frozen=True, slots=True)
class Claim:
    """What PostgreSQL says of a partition at the begin of an epoch.

    `served` is the last epoch whose owner decided, `served_by` who that is, and `standby` whether it decides in
    its own memory.
    """

    epoch: int
    generation: int
    mark: int
    served: int
    served_by: str
    standby: bool


class _CardsTakenElsewhere(Exception):  # noqa: N818 - rolls the transaction back, never leaves this module
    def __init__(self, accounts: set[int]) -> None:
        super().__init__()
        self.accounts = accounts


class Writer:
    """Journals one partition. Open it with `try_open`; it is useless once it raised JournalDown or Fenced."""

    def __init__(self, connection: asyncpg.Connection, partition: int, timeout_s: float) -> None:
        self._connection = connection
        self._partition = partition
        self._timeout_s = timeout_s
        self._epoch = 0
        self._commit: Any = None

    @classmethod
    async def try_open(
        cls, postgres: Postgres, partition: int, *, timeout_s: float, idle_timeout_s: float
    ) -> Writer | None:
        """Connect and take the partition's lock, or return None when another process holds it.

        PostgreSQL ends the session, and with it the lock, when nothing is heard for `idle_timeout_s`: a worker that was
        stopped does not block its partition for ever.
        """
        settings = {
            "application_name": f"tillwire-writer-{partition}",
            "synchronous_commit": "on",
            "idle_session_timeout": str(int(idle_timeout_s * 1000)),
            "idle_in_transaction_session_timeout": str(int(idle_timeout_s * 1000)),
            "statement_timeout": str(int(timeout_s * 1000)),
        }
        kept = connection = None
        try:
            connection = await postgres.connect(timeout_s=timeout_s, settings=settings)
            lock = "SELECT pg_try_advisory_lock($1, $2)"
            if await connection.fetchval(lock, LOCK_CLASS, partition):
                kept = cls(connection, partition, timeout_s)
            else:
                await connection.close(timeout=timeout_s)
        except DOWN as error:
            raise JournalDown(str(error)) from error
        finally:
            # Also when it was cancelled: a connection that is forgotten keeps its lock until it is collected.
            if connection is not None and kept is None:
                connection.terminate()
        return kept

    @property
    def disconnected(self) -> bool:
        """Return whether the connection is known to be lost, and the lock with it."""
        return bool(self._connection.is_closed())

    async def claim(self, owner: str) -> Claim:
        """Begin a new epoch, so that no former owner can commit any more."""
        try:
            row = await self._connection.fetchrow(statement("own_partition"), self._partition, owner)
            if self._commit is None:
                self._commit = await self._connection.prepare(statement("commit"))
        except DOWN as error:
            raise JournalDown(str(error)) from error
        self._epoch = row["epoch"]
        return Claim(**row)

    async def void_generation(self) -> int:
        """Declare void what Redis remembers of this partition; return the new generation."""
        try:
            generation = await self._connection.fetchval(statement("void_generation"), self._partition, self._epoch)
        except DOWN as error:
            raise JournalDown(str(error)) from error
        if generation is None:
            raise Fenced
        return int(generation)

    async def begin(self, *, standby: bool) -> str:
        """Note that this owner decides from now on, on `standby` without Redis; return who wants the partition."""
        try:
            wanted_by = await self._connection.fetchval(
                statement("serve_partition"), self._partition, self._epoch, standby
            )
        except DOWN as error:
            raise JournalDown(str(error)) from error
        if wanted_by is None:
            raise Fenced
        return str(wanted_by)

    async def wanted_by(self) -> str:
        """Return the address of the worker that this partition belongs to by plan and that asks for it, or ''."""
        try:
            return str(
                await self._connection.fetchval(
                    "SELECT wanted_by FROM partition WHERE partition_id = $1", self._partition
                )
            )
        except DOWN as error:
            raise JournalDown(str(error)) from error

    async def commit(self, batch: Batch, forget: Forget) -> set[int]:
        """Journal a batch; return the accounts that PostgreSQL vetoed, of which nothing was journaled.

        `forget` is awaited with accounts before the commit that leaves them out: Redis must not remember what they were
        decided to be, because once the mark is committed nobody who comes after a crash could tell any more.

        Vetoed are: an account whose head is not the named predecessor, an entry whose request id is journaled already,
        a MERGE_IN of what is taken in already, a card that by now belongs elsewhere. Raises Fenced (nothing was
        journaled) and JournalDown (unknown).
        """
        vetoed: set[int] = set()
        deadlocks = 0
        try:
            while True:
                try:
                    return vetoed | await self._try(batch.without(vetoed))
                except asyncpg.UniqueViolationError as error:
                    conflicting = await self._conflicting(error.constraint_name, batch.without(vetoed).entries)
                    if not conflicting:
                        raise
                    await forget(conflicting)
                    vetoed |= conflicting
                except _CardsTakenElsewhere as taken:
                    await forget(taken.accounts)
                    vetoed |= taken.accounts
                except asyncpg.DeadlockDetectedError as error:
                    # A card that replaces another in one partition and is activated in another makes the two writers
                    # wait for each other; PostgreSQL has undone one of them, and nothing of it was journaled.
                    deadlocks += 1
                    if deadlocks == _DEADLOCKS_MAX:
                        raise JournalDown(str(error)) from error
        except DOWN as error:
            raise JournalDown(str(error)) from error
        except asyncio.CancelledError:
            # Perhaps between BEGIN and COMMIT. What was said to be committed in there would not be.
            self._connection.terminate()
            raise

    async def close(self) -> None:
        """Give the lock back and disconnect."""
        try:
            await self._connection.close(timeout=self._timeout_s)
        except DOWN:
            self._connection.terminate()

    def terminate(self) -> None:
        """Drop the connection without a word."""
        self._connection.terminate()

    async def _try(self, batch: Batch) -> set[int]:
        # All of it has one bound, BEGIN and ROLLBACK too.
        async with asyncio.timeout(self._timeout_s):
            return await self._transact(batch)

    async def _transact(self, batch: Batch) -> set[int]:
        if self._connection.is_closed() or self._connection.is_in_transaction():
            raise asyncpg.InterfaceError("closed, or in a transaction that is open: nothing would be committed")
        if not batch.cards and not batch.terminal_days:
            return await self._journal(batch)
        async with transaction(self._connection):
            vetoed = await self._journal(batch)
            taken = batch.without(vetoed)
            if taken.cards:
                await self._change_cards(taken.cards)
            if taken.terminal_days:
                await self._add_terminal_days(taken.terminal_days)
            return vetoed

    async def _journal(self, batch: Batch) -> set[int]:
        fenced_in, taken = await self._commit.fetchrow(batch.mark, self._partition, self._epoch, batch.entries)
        if not fenced_in:
            raise Fenced
        return set() if len(taken) == len(batch.accounts) else batch.accounts.keys() - set(taken)

    async def _conflicting(self, index: str | None, entries: Sequence[Row]) -> set[int]:
        """Return the accounts of entries that a unique index refuses: for what is journaled, or stands twice here."""
        if index == _ENTRY_REQUEST_INDEX:
            keys = [(row[0], row[_REQUEST_ID]) for row in entries if row[_REQUEST_ID] is not None]
            name, column = "find_requests", "request_id"
        elif index == _MERGE_IN_INDEX:
            keys = [(row[0], row[_TARGET]) for row in entries if row[_OP] == _MERGE_IN]
            name, column = "find_merges", "target"
        else:
            return set()
        rows = await self._connection.fetch(statement(name), [key for _, key in keys])
        known = {row[column] for row in rows}
        conflicting = set()
        for account, key in keys:
            if key in known:
                conflicting.add(account)
            known.add(key)
        return conflicting

    async def _change_cards(self, cards: Sequence[CardChange]) -> None:
        owners: dict[bytes, int] = {}
        for change in cards:
            owners.setdefault(change.token, change.account)
        late = {change.account for change in cards if owners[change.token] != change.account}
        if late:
            raise _CardsTakenElsewhere(late)
        last = last_words(cards)
        rows = [(c.token, c.account, c.status, c.kind, c.masked) for c in last.values()]
        taken = await self._connection.fetch(statement("change_cards"), *_columns(rows, 5))
        missing = last.keys() - {row["token"] for row in taken}
        if missing:
            raise _CardsTakenElsewhere({change.account for change in cards if change.token in missing})

    async def _add_terminal_days(self, terminal_days: Iterable[tuple[int, int, int, int]]) -> None:
        sums: dict[tuple[int, int], int] = {}
        for _, terminal, day, points in terminal_days:
            sums[terminal, day] = sums.get((terminal, day), 0) + points
        rows = [(terminal, day, points) for (terminal, day), points in sorted(sums.items())]
        await self._connection.execute(statement("add_terminal_days"), *_columns(rows, 3))


def last_words(cards: Iterable[CardChange]) -> dict[bytes, CardChange]:
    """Return by token the last change of each card, since ON CONFLICT cannot touch a row twice.

    What kind of card it is and how it is shown only the change says by which it came.
    """
    last: dict[bytes, CardChange] = {}
    for change in cards:
        before = last.get(change.token)
        named = change if before is None or change.kind else replace(change, kind=before.kind, masked=before.masked)
        last[change.token] = named
    return last


def _columns(rows: Iterable[Row], width: int) -> list[tuple[Any, ...]]:
    return list(zip(*rows, strict=True)) or [()] * width
