"""The one thread that touches the store's file. What gathers while it commits is its next transaction."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from server.observation.logs import get_log
from server.relay.store_errors import StoreFailed, StoreFull
from server.relay.store_file import lock, open_store
from server.relay.store_rows import StoreLimits

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

_ERASE_AFTER_S: Final = 0.5
"""How long the thread must have nothing to do before it takes erased rows out of the log, and at most waits."""
_ERASE_AT_LAST_S: Final = 10.0

_log = get_log("relay store")


@dataclass(slots=True)
class _Job:
    """One piece of work, its result or error, and who waits for it."""

    work: Work[Any]
    writes: bool
    erases: bool
    then: Callable[[Any], None] | None
    future: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None


class StoreThread:
    """Runs work on the file for one event loop. Work that writes is durable when its future is done.

    `failing` says why the last transaction failed, None as soon as one succeeds. Of a group that fails nothing is
    stored; a piece of work that raises takes back only itself.
    """

    def __init__(self, folder: Path, limits: StoreLimits) -> None:
        """Take the running loop; `start` begins."""
        self._folder = folder
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._changed = threading.Condition()
        self._jobs: deque[_Job] = deque()
        self._waiting = 0
        self._closing = False
        self._erase_from: float | None = None
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(target=self._live, name=f"relay store {folder.name}", daemon=True)
        self.failing: str | None = None

    async def start(self) -> None:
        """Open the file. Raises StoreUnusable."""
        self._thread.start()
        await self._opened

    async def close(self) -> None:
        """Finish what was given, then close the file and let go of the folder; may be called twice."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread.ident is not None:
            await asyncio.shield(self._ended)
            self._thread.join()

    def read(self, work: Work[T]) -> asyncio.Future[T]:
        """Run work that only reads; it sees everything that was written before it was given."""
        return self._give(_Job(work, False, False, None, self._loop.create_future()))

    def write(
        self, work: Work[T], then: Callable[[T], None] | None = None, *, erases: bool = False
    ) -> asyncio.Future[T]:
        """Run work in the next transaction; after its commit `then` is called, whoever still waits.

        `erases`: what it deletes shall be gone from the disk soon, log included.
        """
        return self._give(_Job(work, True, erases, then, self._loop.create_future()))

    def _give(self, job: _Job) -> asyncio.Future[Any]:
        if self._waiting >= self._limits.jobs_max:
            raise StoreFull("too much waits for the relay's disk")
        with self._changed:
            if self._closing:
                raise StoreFailed("the relay's store is closed")
            self._jobs.append(job)
            self._changed.notify()
        self._waiting += 1
        return job.future

    def _deliver(self, jobs: list[_Job], failing: str | None) -> None:
        """Tell whoever waits; runs on the loop."""
        self._waiting -= len(jobs)
        if failing != self.failing and any(job.writes for job in jobs):
            self.failing = failing
            if failing is None:
                _log.info("the relay's store can be written again")
            else:
                _log.error("the relay's store cannot be written", reason=failing)
        for job in jobs:
            if job.error is None and job.then is not None:
                job.then(job.result)
            if job.future.cancelled():
                continue
            if job.error is None:
                job.future.set_result(job.result)
            else:
                job.future.set_exception(job.error)

    # What follows runs in the thread.

    def _post(self, call: Callable[..., None], *arguments: Any) -> None:
        # A loop that is closed waits for nothing any more.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call, *arguments)

    def _live(self) -> None:
        held = -1
        try:
            held = lock(self._folder)
            connection = open_store(self._folder)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the opener must hear it
            if held >= 0:
                os.close(held)
            self._post(_settle, self._opened, error)
        else:
            self._post(_settle, self._opened, None)
            try:
                self._serve(connection)
            finally:
                connection.close()
                os.close(held)
        finally:
            self._give_up()

    def _serve(self, connection: sqlite3.Connection) -> None:
        while (jobs := self._gather()) is not None:
            writes = [job for job in jobs if job.writes]
            failing = self._transact(connection, writes) if writes else None
            for job in jobs:
                if not job.writes:
                    _run(job, connection)
            if jobs:
                self._post(self._deliver, jobs, failing)
            if self._erase_from is None and any(job.erases and job.error is None for job in writes):
                self._erase_from = time.monotonic()
            self._erase(connection, idle=not jobs)
        self._erase_from = self._erase_from or time.monotonic()
        self._erase(connection, idle=True)

    def _give_up(self) -> None:
        """Leave nobody waiting: at the end there is nothing left, unless the thread ends of a bug."""
        with self._changed:
            self._closing = True
            left, self._jobs = list(self._jobs), deque()
        for job in left:
            job.error = StoreFailed("the relay's store is closed")
        self._post(self._deliver, left, "closed")
        self._post(_settle, self._ended, None)

    def _gather(self) -> list[_Job] | None:
        """Wait for work; an empty list is a moment to erase, None is the end."""
        with self._changed:
            if not self._jobs and not self._closing:
                self._changed.wait(None if self._erase_from is None else _ERASE_AFTER_S)
            if self._closing and not self._jobs:
                return None
            return [self._jobs.popleft() for _ in range(min(len(self._jobs), self._limits.group_max))]

    def _transact(self, connection: sqlite3.Connection, jobs: list[_Job]) -> str | None:
        """Run the jobs in one transaction; return why it failed, None if it is on the disk."""
        try:
            connection.execute("BEGIN IMMEDIATE")
            for job in jobs:
                connection.execute("SAVEPOINT job")
                _run(job, connection)
                if isinstance(job.error, sqlite3.Error) and not isinstance(job.error, sqlite3.IntegrityError):
                    raise job.error
                if job.error is not None:
                    connection.execute("ROLLBACK TO job")
                connection.execute("RELEASE job")
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            with contextlib.suppress(sqlite3.Error):
                # SQLite may have taken it back itself.
                connection.execute("ROLLBACK")
            for job in jobs:
                job.error = StoreFailed(f"the relay's store could not be written: {error}")
            return str(error)
        return None

    def _erase(self, connection: sqlite3.Connection, *, idle: bool) -> None:
        """Empty the log, where deleted rows would stay readable. Not at once: each time costs two flushes."""
        since = self._erase_from
        if since is None or not (idle or time.monotonic() - since > _ERASE_AT_LAST_S):
            return
        with contextlib.suppress(sqlite3.Error):
            (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            # Busy: somebody reads the status just now. Then the next time.
            if not busy:
                self._erase_from = None


def _run(job: _Job, connection: sqlite3.Connection) -> None:
    try:
        job.result = job.work(connection)
    except sqlite3.Error as error:
        job.error = error if job.writes else StoreFailed(f"the relay's store could not be read: {error}")
    except Exception as error:  # noqa: BLE001 - it belongs to whoever gave the work
        job.error = error


def _settle(future: asyncio.Future[None], error: BaseException | None) -> None:
    if future.cancelled():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
