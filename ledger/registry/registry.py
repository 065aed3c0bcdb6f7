"""The way to the registry's tables: short transactions from a small pool, and what can go wrong in them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Any, TypeAlias

import asyncpg

from ledger.journal.postgres import Postgres, transaction
from ledger.journal.writer import DOWN, JournalDown

#: What the modules of this package take as their first argument; nobody above calls it.
Transaction: TypeAlias = Any
#: A row as PostgreSQL gives it: fields by name.
Row: TypeAlias = Mapping[str, Any]


class Conflict(Exception):  # noqa: N818 - it says what is the matter
    """The database refused: a name is taken, a value is out of its range, something refers to what is not there."""


#: Most filters of a list are null, and a plan for all of them looks through whole tables: each call gets its own.
_SESSION = {"plan_cache_mode": "force_custom_plan"}

#: The transaction of `Registry.together` that this task is in.
_joined: ContextVar[Transaction | None] = ContextVar("joined", default=None)


@contextmanager
def taken(what: str) -> Iterator[None]:
    """Raise Conflict with words for people where a name is given a second time; `what` is as in "the name 'Anna'"."""
    try:
        yield
    except asyncpg.UniqueViolationError as error:
        raise Conflict(f"{what} is taken") from error


class Registry:
    """Opens transactions.

    All kinds raise JournalDown when PostgreSQL does not answer; if that is at its end, the transaction may be committed
    all the same.
    """

    def __init__(self, postgres: Postgres, *, connections_max: int, timeout_s: float) -> None:
        self._postgres = postgres
        self._connections_max = connections_max
        self._timeout_s = timeout_s
        self._pool: asyncpg.Pool | None = None
        self._connecting = asyncio.Lock()

    async def close(self) -> None:
        """Disconnect; may be called twice."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.terminate()

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[Transaction]:
        """Open a transaction that is committed when the block ends well. Raises Conflict."""
        async with self._transaction(readonly=False) as transaction:
            yield transaction

    @asynccontextmanager
    async def together(self) -> AsyncIterator[Transaction]:
        """Open a transaction like `writing`, of which all others of this task become part until the block ends.

        So functions that open their own are committed as one, or not at all.
        """
        async with self._transaction(readonly=False) as transaction:
            before = _joined.set(transaction)
            try:
                yield transaction
            finally:
                _joined.reset(before)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Transaction]:
        """Open a transaction that sees one moment and changes nothing."""
        async with self._transaction(readonly=True) as transaction:
            yield transaction

    async def _connected(self) -> asyncpg.Pool:
        """Return the pool; the first requests of all may come together, and must make one."""
        async with self._connecting:
            if self._pool is None:
                self._pool = await self._postgres.pool(
                    connections_max=self._connections_max,
                    timeout_s=self._timeout_s,
                    application_name="tillwire-admin",
                    settings=_SESSION,
                )
            return self._pool

    @asynccontextmanager
    async def _transaction(self, *, readonly: bool) -> AsyncIterator[Transaction]:
        joined = _joined.get()
        try:
            if joined is not None:
                # A savepoint: what fails in here and is dealt with outside undoes no more than this block.
                async with transaction(joined):
                    yield joined
                return
            isolation = "repeatable_read" if readonly else "read_committed"
            async with (
                (await self._connected()).acquire(timeout=self._timeout_s) as connection,
                transaction(connection, isolation=isolation, readonly=readonly),
            ):
                yield connection
        except asyncpg.UniqueViolationError as error:
            raise Conflict(f"it exists already: {error.constraint_name}") from error
        except asyncpg.ForeignKeyViolationError as error:
            raise Conflict(f"there is no such thing, or something depends on it: {error.constraint_name}") from error
        except (asyncpg.CheckViolationError, asyncpg.NumericValueOutOfRangeError) as error:
            raise Conflict(f"a value is out of its range: {error.constraint_name or error}") from error
        except asyncpg.DataError as error:
            raise Conflict("a value is none that can be stored") from error
        except asyncpg.TransactionRollbackError as error:
            # Two transactions stood in each other's way; the same again will do.
            raise JournalDown(str(error)) from error
        except DOWN as error:
            mistaken = isinstance(error, asyncpg.InterfaceError) and isinstance(error, ValueError)
            if mistaken and not isinstance(error, asyncpg.exceptions.ClientConfigurationError):
                # The driver's own word for a number or a text that PostgreSQL could not even be sent.
                raise Conflict("a value is out of its range") from error
            raise JournalDown(str(error)) from error
