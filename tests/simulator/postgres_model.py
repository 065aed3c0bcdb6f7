"""A PostgreSQL of its own making: sessions that execute statements one after another, locks, commits that take time.

It has the faults that the ledger must survive. What a session was sent is executed even if the client has long gone, as
a real backend does that finds its statements in the socket's buffer; a commit that is under way is not cancelled.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, NamedTuple

import asyncpg

from tests.simulator.loop import Handle, Loop, Process
from tests.simulator.postgres_statements import statements
from tests.simulator.postgres_tables import Key, MustWait, Record, Tables, View

#: Takes a result or an error.
Reply = Callable[[list[Record] | None, BaseException | None], None]
_NO_ROWS: list[Record] = []


@dataclass
class Pace:
    """Latencies in seconds: one way to the server, and of a commit."""

    latency_s: tuple[float, float] = (0.00005, 0.0005)
    commit_s: tuple[float, float] = (0.0002, 0.003)


class Command(NamedTuple):
    """What a client has sent: a statement, or 'begin', 'commit', 'rollback', 'close'."""

    text: str
    args: Sequence[Any]
    reply: Reply


@dataclass
class Faults:
    """What is wrong with the server now. Counters say how many times more something happens."""

    refusing: bool = False
    frozen: bool = False
    disk_full: bool = False
    #: Commits whose session breaks before, or after, they took effect; the client hears neither.
    lost_before_commit: int = 0
    lost_after_commit: int = 0
    #: Commits, and commits behind a refused one, whose client dies when they took effect, before it hears of it.
    deadly_commits: int = 0
    deadly_refusals: int = 0
    frozen_work: list[Callable[[], None]] = field(default_factory=list)


class Session:
    """One backend of the server."""

    def __init__(
        self, server: PostgresModel, settings: dict[str, str], lost: Callable[[], None], client: Process | None
    ) -> None:
        self.over = False
        self.client = client
        #: A unique index has refused something since the last commit.
        self.refused = False
        self.random = server.dice.random
        self._server = server
        self._lost = lost
        self._inbox: deque[Command] = deque()
        self._busy = False
        self._waiting: Key | None = None
        self._view: View | None = None
        self._failed = False
        self._explicit = False
        self._advisory: list[tuple[int, ...]] = []
        self._idle_max_s = int(settings.get("idle_session_timeout", "0")) / 1000
        self._statement_max_s = int(settings.get("statement_timeout", "0")) / 1000
        self._active_s = server.loop.time()
        self._statement_timer: Handle | None = None
        if self._idle_max_s:
            server.loop.after(self._idle_max_s, self._check_idleness)

    def take(self, command: Command) -> None:
        """Receive what a client sent."""
        if self._server.faults.frozen:
            self._server.faults.frozen_work.append(lambda: self.take(command))
        elif not self.over:
            self._inbox.append(command)
            if not self._busy:
                self._next()

    def cancel(self) -> None:
        """Take the client's request to cancel: a commit that is under way is not undone by it."""
        if not self.over and self._waiting is not None:
            self._fail(asyncpg.QueryCanceledError("canceling statement due to user request"))

    def end(self) -> None:
        """End the session as a crash or an administrator does; what is not committed is undone."""
        if not self.over:
            self.over = True
            self._inbox.clear()
            self._roll_back()
            for key in self._advisory:
                self._server.advisory.pop(key, None)
            self._server.sessions.pop(self, None)
            self._server.tell(self._lost)

    def try_advisory_lock(self, key: tuple[int, ...]) -> bool:
        """Take a lock of the session unless another one has it."""
        holder = self._server.advisory.setdefault(key, self)
        if holder is self and key not in self._advisory:
            self._advisory.append(key)
        return holder is self

    @property
    def waits_for(self) -> Session | None:
        """Return whose lock this session waits for."""
        holder = self._server.locks.get(self._waiting) if self._waiting is not None else None
        return None if holder is None else holder.session

    # ---- one command after another

    def _next(self) -> None:
        self._active_s = self._server.loop.time()
        if self._inbox and not self.over:
            self._busy = True
            if self._statement_max_s:
                self._statement_timer = self._server.loop.after(self._statement_max_s, self._time_out)
            self.go_on()

    def go_on(self) -> None:
        """Execute the present command, perhaps once more after waiting for a lock."""
        if self._server.faults.frozen:
            self._server.faults.frozen_work.append(self.go_on)
            return
        if self.over or not self._inbox:
            return
        command = self._inbox[0]
        self._waiting = None
        try:
            self._execute(command)
        except MustWait as must:
            assert self._view is not None
            self._view.statement.clear()
            self._waiting = must.key
            if self._deadlocked():
                self._fail(asyncpg.DeadlockDetectedError("deadlock detected"))
            else:
                self._server.wait(must.key, self)
        except asyncpg.PostgresError as error:
            self.refused |= isinstance(error, asyncpg.UniqueViolationError)
            self._fail(error)

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction was begun and has not ended."""
        return self._explicit

    def go_on_after(self, key: Key) -> None:
        """Try again, if it is still this lock that the session waits for."""
        if self._waiting == key:
            self.go_on()

    def _execute(self, command: Command) -> None:
        text = command.text
        if text == "close":
            self.end()
            command.reply(_NO_ROWS, None)
        elif text == "begin":
            self._view, self._explicit, self._failed = self._server.view(self), True, False
            self._done(_NO_ROWS)
        elif text == "rollback" or (text == "commit" and self._failed):
            self._roll_back()
            self._done(_NO_ROWS)
        elif text == "commit":
            self._commit(_NO_ROWS)
        elif text == "prepare":
            self._done(_NO_ROWS)
        elif self._failed:
            raise asyncpg.InFailedSQLTransactionError("current transaction is aborted")
        else:
            if self._view is None:
                self._view = self._server.view(self)
            execute = statements().get(text)
            assert execute is not None, f"the model does not know this statement: {text}"
            rows = execute(self._view, command.args)
            if self._view.statement and self._server.faults.disk_full:
                raise asyncpg.DiskFullError("could not extend file: No space left on device")
            self._view.finish_statement()
            if self._explicit:
                self._done(rows)
            else:
                self._commit(rows)

    def _commit(self, rows: list[Record]) -> None:
        view = self._view
        if view is None or not view.written:
            self._roll_back()
            self._done(rows)
            return
        faults = self._server.faults
        if faults.lost_before_commit:
            faults.lost_before_commit -= 1
            self._server.counts["commits lost before"] += 1
            self.end()
            return
        low, high = self._server.pace.commit_s
        self._server.loop.after(low + (high - low) * self._server.dice.random(), self._committed, view, rows)

    def _committed(self, view: View, rows: list[Record]) -> None:
        if self._server.faults.frozen:
            self._server.faults.frozen_work.append(lambda: self._committed(view, rows))
            return
        if self.over or self._view is not view:
            return
        self._server.tables.apply(view.changes())
        self._roll_back()
        self._server.committed(self)
        if self._server.faults.lost_after_commit:
            self._server.faults.lost_after_commit -= 1
            self._server.counts["commits lost after"] += 1
            self.end()
        else:
            self._done(rows)

    def _roll_back(self) -> None:
        view, self._view = self._view, None
        self._explicit = self._failed = False
        self._waiting = None
        if view is not None:
            self._server.wake(view.release())

    def _fail(self, error: BaseException) -> None:
        self._waiting = None
        if self._explicit:
            self._failed = True
            assert self._view is not None
            self._view.statement.clear()
            # The locks of a failed transaction go with its roll-back; nobody may see what it wrote.
        else:
            self._roll_back()
        self._finish(None, error)

    def _done(self, rows: list[Record]) -> None:
        self._finish(rows, None)

    def _finish(self, rows: list[Record] | None, error: BaseException | None) -> None:
        if self._statement_timer is not None:
            self._statement_timer.cancel()
            self._statement_timer = None
        self._busy = False
        command = self._inbox.popleft()
        self._server.tell(command.reply, rows, error)
        self._next()

    def _deadlocked(self) -> bool:
        other = self.waits_for
        for _ in range(len(self._server.sessions)):
            if other is None:
                return False
            if other is self:
                return True
            other = other.waits_for
        return False

    def _time_out(self) -> None:
        if not self.over and self._waiting is not None:
            self._fail(asyncpg.QueryCanceledError("canceling statement due to statement timeout"))

    def _check_idleness(self) -> None:
        if self.over:
            return
        if self._server.faults.frozen:
            self._server.faults.frozen_work.append(self._check_idleness)
            return
        now = self._server.loop.time()
        if not self._busy and now - self._active_s >= self._idle_max_s:
            self._server.counts["sessions ended for idleness"] += 1
            self.end()
        else:
            self._server.loop.after(max(0.001, self._active_s + self._idle_max_s - now), self._check_idleness)


class PostgresModel:
    """The server."""

    def __init__(self, loop: Loop, dice: Random, counts: dict[str, int], tables: Tables) -> None:
        self.loop = loop
        self.dice = dice
        self.counts = counts
        self.tables = tables
        #: How fast it is while nothing is wrong.
        self.usual_pace = Pace(commit_s=dice.choice(((0.0002, 0.003), (0.0002, 0.003), (0.005, 0.03))))
        self.pace = self.usual_pace
        self.faults = Faults()
        self.locks: dict[Key, View] = {}
        self.advisory: dict[tuple[int, ...], Session] = {}
        self.sessions: dict[Session, None] = {}
        #: What kills a process so that somebody starts it again.
        self.kill: Callable[[Process], None] = Process.kill
        self._waiters: dict[Key, list[Session]] = {}

    def latency_s(self) -> float:
        """Draw how long a message takes one way."""
        low, high = self.pace.latency_s
        return low + (high - low) * self.dice.random()

    def tell(self, callback: Callable[..., None], *args: Any) -> None:
        """Send something to a client."""
        self.loop.after(self.latency_s(), callback, *args)

    def view(self, session: Session) -> View:
        """Begin a transaction."""
        return View(self.tables, self.locks, session)

    def committed(self, session: Session) -> None:
        """Let a client die at the worst moment, if it is time for that."""
        faults = self.faults
        deadly = faults.deadly_commits > 0
        faults.deadly_commits -= deadly
        if session.refused and faults.deadly_refusals:
            deadly, faults.deadly_refusals = True, faults.deadly_refusals - 1
        session.refused = False
        if deadly and session.client is not None:
            self.counts["clients killed at a commit"] += 1
            # A moment later or not at all: the answer may be under way, and what follows upon it.
            self.loop.after(self.dice.choice((0.0, 0.001, 0.003)), self.kill, session.client)

    def open(self, settings: dict[str, str], lost: Callable[[], None], client: Process | None) -> Session:
        """Start a session; `lost` is called when it has ended. Raises what connecting raises."""
        if self.faults.refusing:
            raise ConnectionRefusedError(111, "PostgreSQL is down")
        session = Session(self, settings, lost, client)
        self.sessions[session] = None
        return session

    def wait(self, key: Key, session: Session) -> None:
        """Have a session go on when a lock is given back."""
        self._waiters.setdefault(key, []).append(session)

    def wake(self, released: list[Key]) -> None:
        """Let those go on who wait for locks that are free now."""
        for key in released:
            for session in self._waiters.pop(key, ()):
                self.loop.soon(None, session.go_on_after, key)

    # ---- faults

    def crash(self) -> None:
        """Die as by SIGKILL, and stay down."""
        self.faults.refusing = True
        self.faults.frozen = False
        self.faults.frozen_work.clear()
        self.end_sessions()

    def end_sessions(self) -> None:
        """End all sessions, as `pg_terminate_backend` does."""
        for session in list(self.sessions):
            session.end()

    def freeze(self) -> None:
        """Stop every backend, as SIGSTOP does."""
        self.faults.frozen = True

    def thaw(self) -> None:
        """Go on after having been frozen, with what was left lying."""
        self.faults.frozen = False
        work, self.faults.frozen_work = self.faults.frozen_work, []
        for each in work:
            self.loop.soon(None, each)

    def heal(self) -> None:
        """Be well again."""
        self.thaw()
        self.faults = Faults()
        self.pace = self.usual_pace
