"""One process of an import: reads the rows it is given, writes them part by part, and counts them at the end."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from multiprocessing import parent_process
from typing import TypeVar
from zoneinfo import ZoneInfo

import uvloop

from ledger.business_day import BusinessDay
from ledger.card_tokens import token_hash
from ledger.journal.moving import MovingWriter, Overtaken, Standing
from ledger.registry.personal import PersonalData
from server.moving import part
from server.moving.columns import Columns, Kind
from server.moving.deciding import Decider
from server.moving.openings import RequestIds
from server.moving.reading import RawRow
from server.moving.report import Counted, Reject, Tally
from server.moving.rows import BadRow, BalanceRow, CardRow, MemberRow, RowReader
from server.moving.running import RunningServer

_TRIES = 8
_PAUSE_S = 0.05
_COUNTED_AT_ONCE = 20_000
Row = MemberRow | CardRow | BalanceRow
R = TypeVar("R", MemberRow, CardRow, BalanceRow)


@dataclass(frozen=True, slots=True)
class Order:
    """What is imported, and with which keys."""

    postgres_url: str = field(repr=False)
    columns: Columns
    source: str
    standing: Standing
    dry_run: bool
    now_ms: int
    token_key: bytes = field(repr=False)
    seal_key: bytes = field(repr=False)
    personal_key: bytes = field(repr=False)


class Maker:
    """Keeps what one process needs between its parts. A person's rows all come to the same one, in their order."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        days = BusinessDay(ZoneInfo(order.standing.time_zone))
        today = days.day(order.now_ms)
        # A dry run changes nothing, so it need not keep anybody out.
        standing = replace(order.standing, alone=order.standing.alone and not order.dry_run)
        self._writer = self._runner.run(MovingWriter.open(order.postgres_url, standing))
        self._personal = PersonalData(order.personal_key)
        self._shop = part.Workshop(
            writer=self._writer,
            decider=Decider(order.seal_key, days),
            personal=self._personal,
            personal_key=order.personal_key,
            ids=RequestIds(order.personal_key, order.source),
            source=order.source,
            today=today,
            now_ms=order.now_ms,
            alone=standing.alone,
            dry_run=order.dry_run,
        )
        token_of = partial(token_hash, token_key=order.token_key)
        self._reader = RowReader(order.columns, token_of, order.source, today)
        self._server: RunningServer | None = None
        #: By what a row is about the line where it came first.
        self._seen: dict[bytes, int] = {}
        self._taken: set[bytes] = set()
        self._points = 0

    def make(self, raw: Sequence[RawRow]) -> Tally:
        """Take a part of the file. Raises JournalDown, ServerStarted and Overtaken."""
        return self._runner.run(self._make(raw))

    def count(self) -> Counted:
        """Ask PostgreSQL afresh for all that was taken here. Raises JournalDown."""
        return self._runner.run(self._count())

    def close(self) -> None:
        """Disconnect."""
        with self._runner:
            if self._server is not None:
                self._runner.run(self._server.close())
            self._runner.run(self._writer.close())

    async def _make(self, raw: Sequence[RawRow]) -> Tally:
        match self._order.columns.kind:
            case Kind.MEMBERS:
                return await self._part(raw, self._reader.member, partial(part.members, self._shop))
            case Kind.CARDS:
                return await self._part(raw, self._reader.card, partial(part.cards, self._shop))
            case Kind.BALANCES:
                work = partial(part.balances, self._shop, own_ids=self._seen.keys())
                return await self._part(raw, self._reader.balance, work)

    async def _part(
        self,
        raw: Sequence[RawRow],
        read: Callable[[RawRow], R],
        work: Callable[[Sequence[R]], Awaitable[part.Sorted[R]]],
    ) -> Tally:
        tally = Tally()
        rows: list[R] = []
        cells = {row.line: row.cells for row in raw}
        for one in raw:
            try:
                row = read(one)
                self._expect_new(row)
                rows.append(row)
            except BadRow as bad:
                self._reject(tally, one.line, cells, bad)
        done: part.Sorted[R] = await self._write(rows, work)
        for row in done.imported:
            tally.imported += 1
            tally.points_imported += _points(row)
        for row in done.already:
            tally.already += 1
            tally.points_already += _points(row)
        for row, fault in done.bad:
            fault.points = _points(row)
            self._reject(tally, row.line, cells, fault)
        for taken in [*done.imported, *done.already]:
            if not isinstance(taken, BalanceRow) or taken.points:
                self._taken.add(self._about(taken))
                self._points += _points(taken)
        return tally

    async def _write(self, rows: list[R], work: Callable[[Sequence[R]], Awaitable[part.Sorted[R]]]) -> part.Sorted[R]:
        done = await self._attempt(rows, work)
        if done.asked:
            await self._running().ask([change for _, asked in done.asked for change in asked])
            done.settle()
        return done

    async def _attempt(self, rows: list[R], work: Callable[[Sequence[R]], Awaitable[part.Sorted[R]]]) -> part.Sorted[R]:
        for attempt in range(1, _TRIES):
            try:
                async with self._writer.part():
                    return await work(rows)
            except Overtaken:
                # It is all undone: what the other one wrote is found the next time.
                await asyncio.sleep(_PAUSE_S * attempt)
        async with self._writer.part():
            return await work(rows)

    def _running(self) -> RunningServer:
        if self._server is None:
            self._server = RunningServer(self._writer, self._order.standing.partitions)
        return self._server

    def _expect_new(self, row: Row) -> None:
        about = self._about(row)
        first = self._seen.setdefault(about, row.line)
        if first != row.line:
            what, column = {
                MemberRow: ("member", "external_id"), CardRow: ("card", "number"), BalanceRow: ("lot", "points"),
            }[type(row)]  # fmt: skip
            raise BadRow(column, f"is doubled: the same {what} as in line {first}", points=_points(row))

    def _about(self, row: Row) -> bytes:
        """Return what tells a row's subject from all others."""
        if isinstance(row, MemberRow):
            return self._personal.external(row.external_id, self._order.source)[1]
        return row.card.token if isinstance(row, CardRow) else self._shop.ids.of_lot(row)

    def _reject(self, tally: Tally, line: int, cells: dict[int, Sequence[object]], bad: BadRow) -> None:
        column = self._order.columns.column_of(bad.column) if bad.column else ""
        tally.rejects.append(Reject(line, column, bad.reason, bad.conflict, cells[line]))
        if self._order.columns.kind is Kind.BALANCES:
            tally.points_rejected += bad.points or 0
            tally.unread += bad.points is None

    async def _count(self) -> Counted:
        taken = list(self._taken)
        counted = Counted(len(taken), 0, self._points, 0)
        for start in range(0, len(taken), _COUNTED_AT_ONCE):
            some = taken[start : start + _COUNTED_AT_ONCE]
            match self._order.columns.kind:
                case Kind.MEMBERS:
                    counted.found += await self._writer.count_people(some)
                case Kind.CARDS:
                    counted.found += await self._writer.count_cards(some)
                case Kind.BALANCES:
                    found, points = await self._writer.count_openings(some)
                    counted.found += found
                    counted.points_found += points
        return counted


def _points(row: Row) -> int:
    return row.points if isinstance(row, BalanceRow) else 0


_given: Order


def begin(order: Order) -> None:
    """Begin a process of the pool."""
    global _given  # noqa: PLW0603 - the pool has no other place for what a process keeps
    # Ctrl-C reaches the whole group; the parent alone decides what to do about it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _given = order


@cache
def _maker() -> Maker:
    # With the first part and not with the process: what fails here is told by a future.
    return Maker(_given)


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def make(raw: Sequence[RawRow]) -> Tally:
    """Take a part, in a process of the pool."""
    return _maker().make(raw)


def count() -> Counted:
    """Count what was taken, in a process of the pool."""
    return _maker().count()


def now_ms() -> int:
    """Return milliseconds since 1970."""
    return time.time_ns() // 1_000_000
