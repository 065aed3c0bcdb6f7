"""Imports a file: rows go to processes by whose they are, bad ones to a file of their own, totals are proved."""

from __future__ import annotations

import asyncio
import csv
import os
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, ProcessPoolExecutor, wait
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from ledger.journal.moving import ImportRunning, MovingIn, Overtaken, ServerStarted
from ledger.journal.writer import JournalDown
from ledger.registry import audit
from server.errors import OperatorError, UsageError
from server.moving import maker, values
from server.moving.columns import REJECT_COLUMNS, Columns, Kind, mapped
from server.moving.formulas import guarded
from server.moving.reading import RawRow, Table, as_text, opened
from server.moving.report import Report, Tally
from server.secrets import Secrets

_ROWS_AT_ONCE = 2_000
#: Parts that wait at a process beside the one that it works on.
_QUEUED = 2
_SOURCE_CHARACTERS_MAX = 40
Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command line asks for; None is found out."""

    kind: Kind
    file: Path
    mapping: Path | None = None
    reject: Path | None = None
    encoding: str | None = None
    delimiter: str | None = None
    sheet: str | None = None
    source: str = ""
    dry_run: bool = False
    processes: int = field(default_factory=lambda: os.cpu_count() or 1)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A file that can be read and whose columns are known."""

    table: Table
    columns: Columns
    report: Report


def prepare(wanted: Wanted) -> Prepared:
    """Open the file and find its columns. Raises OperatorError."""
    if len(wanted.source) > _SOURCE_CHARACTERS_MAX or not wanted.source.isprintable():
        raise UsageError(f"--source is a name of at most {_SOURCE_CHARACTERS_MAX} printable characters")
    if wanted.file.is_dir():
        raise UsageError(f"{wanted.file} is a folder: name a file")
    if _reject_file(wanted).resolve() == wanted.file.resolve():
        raise UsageError("the file of rejected rows would overwrite the file that is imported: name another")
    table = opened(wanted.file, encoding=wanted.encoding, delimiter=wanted.delimiter, sheet=wanted.sheet)
    columns = mapped(wanted.kind, table.header, wanted.mapping)
    report = Report(str(wanted.kind), str(wanted.file), table.description, columns.shown(), wanted.dry_run)
    return Prepared(table, columns, report)


def run(wanted: Wanted, prepared: Prepared, postgres_url: str, secrets: Secrets, progress: Progress) -> Report:
    """Import; `progress` is told rows. Raises OperatorError: what was written until then stays, and is known again."""
    began_s = time.monotonic()
    try:
        with asyncio.Runner() as runner:
            moving = runner.run(MovingIn.begin(postgres_url, writing=not wanted.dry_run))
            try:
                order = maker.Order(
                    postgres_url, prepared.columns, wanted.source, moving.standing, wanted.dry_run, maker.now_ms(),
                    secrets.token_key, secrets.seal_key, secrets.personal_key,
                )  # fmt: skip
                if wanted.dry_run:
                    # Nothing is changed, so no worker has to wait.
                    runner.run(moving.end())
                _distribute(wanted, prepared, order, progress)
                if not wanted.dry_run:
                    runner.run(_note(moving, prepared.report))
            finally:
                runner.run(moving.end())
    except ImportRunning:
        raise OperatorError("another import runs in this database: wait for its end") from None
    except ServerStarted:
        raise OperatorError(
            "a server began to own the accounts while they were changed: run the import again, it goes on where it was"
        ) from None
    except BrokenExecutor:
        raise OperatorError("a process of the import was killed: run it again, it goes on where it was") from None
    except (JournalDown, Overtaken) as error:
        raise OperatorError(f"the import stopped and can be run again, it goes on where it was: {error}") from None
    prepared.report.elapsed_s = round(time.monotonic() - began_s, 3)
    return prepared.report


def _distribute(wanted: Wanted, prepared: Prepared, order: maker.Order, progress: Progress) -> None:
    report = prepared.report
    with ExitStack() as stack:
        rejects = stack.enter_context(_Rejects(_reject_file(wanted), prepared.columns, prepared.table.delimiter))
        makers = [stack.enter_context(_Process(order)) for _ in range(wanted.processes)]
        under_way: dict[Future[Tally], int] = {}

        def take(futures: set[Future[Tally]]) -> None:
            for future in futures:
                del under_way[future]
                tally = future.result()
                rejects.add(tally)
                report.add(tally)
                progress(report.imported + report.already + report.rejected)

        for number, rows in _shares(prepared, len(makers)):
            report.rows += len(rows)
            report.points_in_file += _points_in(rows, prepared.columns)
            while list(under_way.values()).count(number) > _QUEUED:
                take(wait(under_way, return_when=FIRST_COMPLETED).done)
            under_way[makers[number].pool.submit(maker.make, rows)] = number
        while under_way:
            take(wait(under_way, return_when=FIRST_COMPLETED).done)
        if not wanted.dry_run:
            for counted in [process.pool.submit(maker.count) for process in makers]:
                report.counted.add(counted.result())
        report.reject_file = rejects.written


def _points_in(rows: list[RawRow], columns: Columns) -> int:
    """Return the minor points of rows, read apart from those who import them, so that the sums can disagree."""
    at = columns.positions.get("points")
    total = 0
    for row in rows:
        with suppress(values.BadValue):
            if not row.fault and columns.kind is Kind.BALANCES:
                cell = columns.constants["points"] if at is None else row.cells[at]
                total += values.points(cell, columns.format)
    return total


class _Process(AbstractContextManager["_Process"]):
    """One process of its own, so that all rows of a person go the same way."""

    def __init__(self, order: maker.Order) -> None:
        # Started anew and not forked, so that this process may have threads and connections.
        self.pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=maker.begin, initargs=(order,))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Whoever imports next must not meet a part that is still under way.
        self.pool.shutdown(wait=True, cancel_futures=True)


def _shares(prepared: Prepared, processes: int) -> Iterator[tuple[int, list[RawRow]]]:
    """Yield parts of the file with the number of the process that has to make them."""
    positions = prepared.columns.positions
    whose = [positions[name] for name in ("external_id", "number") if name in positions]
    shares: list[list[RawRow]] = [[] for _ in range(processes)]
    for row in prepared.table.rows():
        name = "" if row.fault else next(filter(None, (as_text(row.cells[at]) for at in whose)), "")
        number = zlib.crc32(" ".join(name.split()).encode("utf-8", "replace")) % processes
        shares[number].append(row)
        if len(shares[number]) == _ROWS_AT_ONCE:
            yield number, shares[number]
            shares[number] = []
    for number, rows in enumerate(shares):
        if rows:
            yield number, rows


def _reject_file(wanted: Wanted) -> Path:
    return wanted.reject or wanted.file.with_name(f"{wanted.file.name}.rejected.csv")


class _Rejects(AbstractContextManager["_Rejects"]):
    """The file of rejected rows, readable by its owner alone; there is none without such a row."""

    def __init__(self, file: Path, columns: Columns, delimiter: str) -> None:
        self._file = file
        self._delimiter = delimiter
        self._header = columns.header
        self._stream: TextIO | None = None

    def __enter__(self) -> Self:
        # What an earlier attempt rejected is not rejected by this one, unless it is again.
        try:
            self._file.unlink(missing_ok=True)
        except OSError as error:
            raise OperatorError(f"{self._file} cannot be replaced: {error.strerror}") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stream is not None:
            self._stream.close()

    @property
    def written(self) -> str | None:
        """Where the rows are, or None."""
        if self._stream is None:
            return None
        self._stream.flush()
        return str(self._file)

    def add(self, tally: Tally) -> None:
        """Write the rejected rows of a part as they were, with the place and the reason behind them."""
        if not tally.rejects:
            return
        if self._stream is None:
            self._stream = self._opened()
            header = [*map(guarded, self._header), *REJECT_COLUMNS]
            csv.writer(self._stream, delimiter=self._delimiter).writerow(header)
        width = len(self._header)
        for reject in tally.rejects:
            cells = [guarded(cell if isinstance(cell, str) else as_text(cell)) for cell in reject.cells]
            # A row of another width stays whole; the place of its own columns is what was wrong with it.
            cells += [""] * (width - len(cells))
            place = reject.line, guarded(reject.column), guarded(reject.reason)
            csv.writer(self._stream, delimiter=self._delimiter).writerow([*cells, *place])

    def _opened(self) -> TextIO:
        try:
            number = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            raise OperatorError(f"{self._file} cannot be written: {error.strerror}") from None
        # Bytes that could not be read go out as they came in. Without the mark a spreadsheet does not see UTF-8.
        return os.fdopen(number, "w", encoding="utf-8-sig", errors="surrogateescape", newline="")


async def _note(moving: MovingIn, report: Report) -> None:
    async with moving.writing() as transaction:
        await audit.record(
            transaction, at_ms=maker.now_ms(), actor="system", actor_name="tillwire import", address="",
            action=f"import.{report.kind}", subject=Path(report.file).name[:200],
            detail={
                "rows": report.rows, "imported": report.imported, "already": report.already,
                "rejected": report.rejected, "points": report.points_imported,
            },
        )  # fmt: skip
