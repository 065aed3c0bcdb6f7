"""The client's side of the PostgreSQL model: what the product uses of asyncpg's connections and pools."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg

from tests.simulator.loop import Handle, Process, current_process
from tests.simulator.postgres_model import Command, PostgresModel, Session
from tests.simulator.postgres_tables import Record
from tests.simulator.redis_model import settle


class SimulatedPostgres:
    """`ledger.journal.postgres.Postgres` on the model."""

    def __init__(self, server: PostgresModel) -> None:
        self._server = server

    async def connect(self, *, timeout_s: float, settings: Mapping[str, str]) -> Connection:
        """Return a connection. Raises OSError and TimeoutError."""
        connection = Connection(self._server, current_process(), timeout_s)
        async with asyncio.timeout(timeout_s):
            await connection.open(dict(settings))
        return connection

    async def pool(self, *, connections_max: int, timeout_s: float, application_name: str) -> Pool:
        """Return a pool that connects when it is used."""
        return Pool(self, connections_max, timeout_s, application_name)


class Connection:
    """`asyncpg.Connection`: one statement at a time, each with a time-out, its own or the connection's."""

    def __init__(self, server: PostgresModel, process: Process | None, command_timeout_s: float) -> None:
        self._server = server
        self._process = process
        self._command_timeout_s = command_timeout_s
        self._session: Session | None = None
        self._waiting: asyncio.Future[list[Record]] | None = None
        self._closed = False
        self._last_arrival_s = 0.0
        self._cancel_request: Handle | None = None
        #: A command was given up, so that a pool lends the connection no more.
        self.cut_short = False

    async def open(self, settings: dict[str, str]) -> None:
        """Connect, which takes several messages to and fro."""
        ready = self._server.loop.create_future()

        def arrived() -> None:
            if self._server.faults.frozen:
                self._server.faults.frozen_work.append(arrived)
                return
            try:
                session = self._server.open(settings, self._lost, self._process)
            except OSError as error:
                self._server.tell(settle, ready, None, error)
                return
            if ready.done():
                session.end()
            else:
                self._server.tell(settle, ready, session, None)

        try:
            self._later(3 * self._server.latency_s(), arrived)
            self._session = await ready
        except BaseException:
            # The server notices that nobody is there any more.
            ready.add_done_callback(lambda _: None)
            if ready.done() and not ready.cancelled() and ready.exception() is None:
                ready.result().end()
            raise
        if self._process is not None:
            self._process.endings.append(self.terminate)

    def is_closed(self) -> bool:
        """Return whether it is of no more use."""
        return self._closed

    def is_in_transaction(self) -> bool:
        """Return whether a transaction is open."""
        return self._session is not None and self._session.in_transaction

    async def fetch(self, text: str, *args: Any, timeout: float | None = None) -> list[Record]:
        """Return all rows."""
        return await self._call(text, args, timeout)

    async def fetchrow(self, text: str, *args: Any, timeout: float | None = None) -> Record | None:
        """Return the first row, or None."""
        rows = await self._call(text, args, timeout)
        return rows[0] if rows else None

    async def fetchval(self, text: str, *args: Any, timeout: float | None = None) -> Any:
        """Return the first value of the first row, or None."""
        rows = await self._call(text, args, timeout)
        return rows[0][0] if rows else None

    async def execute(self, text: str, *args: Any, timeout: float | None = None) -> None:
        """Execute a statement."""
        await self._call(text, args, timeout)

    async def prepare(self, text: str, *, timeout: float | None = None) -> PreparedStatement:
        """Return a prepared statement."""
        await self._call("prepare", (), timeout)
        return PreparedStatement(self, text)

    def transaction(self) -> Transaction:
        """Return a transaction that has not begun."""
        return Transaction(self)

    async def close(self, *, timeout: float | None = None) -> None:
        """Say goodbye and wait until the server has dropped the connection."""
        if self._closed:
            return
        try:
            await self._call("close", (), timeout)
        finally:
            self._end()

    def terminate(self) -> None:
        """Drop the connection; the server finds out when it has executed what it was sent."""
        if not self._closed:
            session = self._session
            self._end()
            if session is not None:
                self._send(session, Command("close", (), _nobody))

    async def _call(self, text: str, args: Sequence[Any], timeout: float | None) -> list[Record]:
        if self._closed or self._session is None:
            raise asyncpg.InterfaceError("connection is closed")
        if self._waiting is not None:
            raise asyncpg.InterfaceError("cannot perform operation: another operation is in progress")
        waiting = self._waiting = self._server.loop.create_future()

        def reply(rows: list[Record] | None, error: BaseException | None) -> None:
            settle(waiting, rows, error)

        self._send(self._session, Command(text, args, reply))
        loop = self._server.loop
        timeout_s = self._command_timeout_s if timeout is None else timeout
        timer = loop.at(loop.time() + timeout_s, self._process, settle, waiting, None, TimeoutError())
        try:
            return await waiting  # type: ignore[no-any-return]
        except (asyncio.CancelledError, TimeoutError):
            self.cut_short = True
            self._cancel_request = self._later(self._server.latency_s(), self._session.cancel)
            raise
        finally:
            self._waiting = None
            timer.cancel()

    def _send(self, session: Session, command: Command) -> None:
        loop = self._server.loop
        self._last_arrival_s = max(self._last_arrival_s, loop.time() + self._server.latency_s())
        loop.at(self._last_arrival_s, None, session.take, command)

    def _later(self, delay_s: float, callback: Any) -> Handle:
        return self._server.loop.after(delay_s, callback)

    def _lost(self) -> None:
        """Learn that the server has ended the session."""
        waiting = self._waiting
        if waiting is not None:
            error = asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")
            settle(waiting, None, error)
        self._end()

    def _end(self) -> None:
        self._closed = True
        if self._cancel_request is not None:
            self._cancel_request.cancel()
        if self._process is not None and self.terminate in self._process.endings:
            self._process.endings.remove(self.terminate)


class Transaction:
    """`asyncpg.transaction.Transaction`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def start(self) -> None:
        """Begin it."""
        await self._connection.execute("begin")

    async def commit(self) -> None:
        """Make it last."""
        await self._connection.execute("commit")

    async def rollback(self) -> None:
        """Undo it."""
        await self._connection.execute("rollback")


class PreparedStatement:
    """`asyncpg.prepared_stmt.PreparedStatement`."""

    def __init__(self, connection: Connection, text: str) -> None:
        self._connection = connection
        self._text = text

    async def fetchrow(self, *args: Any, timeout: float | None = None) -> Record | None:
        """Return the first row, or None."""
        return await self._connection.fetchrow(self._text, *args, timeout=timeout)


class Pool:
    """`asyncpg.Pool`: some connections, made when they are needed."""

    def __init__(self, postgres: SimulatedPostgres, connections_max: int, timeout_s: float, name: str) -> None:
        self._postgres = postgres
        self._room = asyncio.Semaphore(connections_max)
        self._timeout_s = timeout_s
        self._settings = {"application_name": name}
        self._free: deque[Connection] = deque()
        self._busy: list[Connection] = []
        self._closed = False

    def acquire(self, *, timeout: float) -> _Lent:
        """Return what lends a connection for a block."""
        return _Lent(self, timeout)

    async def lend(self, timeout: float) -> Connection:
        """Return a connection, when there is room for one. Raises what connecting raises."""
        if self._closed:
            raise asyncpg.InterfaceError("pool is closed")
        if self._room.locked():
            async with asyncio.timeout(timeout):
                await self._room.acquire()
        else:
            await self._room.acquire()
        try:
            while self._free:
                found = self._free.pop()
                if not found.is_closed():
                    break
            else:
                found = await self._postgres.connect(timeout_s=self._timeout_s, settings=self._settings)
        except BaseException:
            self._room.release()
            raise
        self._busy.append(found)
        return found

    def take_back(self, connection: Connection) -> None:
        """Keep a connection for the next one, if it is still good."""
        self._room.release()
        if connection in self._busy:
            self._busy.remove(connection)
        if self._closed or connection.cut_short:
            connection.terminate()
        elif not connection.is_closed():
            self._free.append(connection)

    def terminate(self) -> None:
        """Drop all connections."""
        self._closed = True
        for connection in [*self._free, *self._busy]:
            connection.terminate()
        self._free.clear()


class _Lent:
    """The block for which a connection is lent."""

    def __init__(self, pool: Pool, timeout: float) -> None:
        self._pool = pool
        self._timeout = timeout
        self._connection: Connection

    async def __aenter__(self) -> Connection:
        self._connection = await self._pool.lend(self._timeout)
        return self._connection

    async def __aexit__(self, *_: object) -> None:
        self._pool.take_back(self._connection)


def _nobody(rows: list[Record] | None, error: BaseException | None) -> None:
    """Take the reply to somebody who has gone."""
