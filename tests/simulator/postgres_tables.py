"""The tables of ledger/sql/migrations as dictionaries, and what a transaction sees and has written of them.

Rows are never changed in place: a transaction keeps its own new rows until it commits, so a reader sees what is
committed, and a copy of the dictionaries is a snapshot.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import asyncpg

from ledger.hot_store import unpack

Key = tuple[str, Any]
Columns = dict[str, int]

ENTRY_COLUMNS = (
    "account_id", "seq", "link", "op", "request_id", "terminal_id", "network_id", "points", "held", "owed",
    "balance_after", "held_after", "owed_after", "spent", "earned", "refunded", "amount", "eligible", "target", "moves",
    "at_ms", "sale_ms", "rate_bp", "until_ms", "cards", "currency", "reference", "fingerprint", "answer", "seal",
)  # fmt: skip
_ENTRY: Columns = {name: i for i, name in enumerate(ENTRY_COLUMNS)}
_TARGET = _ENTRY["target"]
_MERGE_IN, _UNLINK = 48, 51


class Record:
    """A row of a result, like asyncpg's: by name, by position, as a mapping."""

    __slots__ = ("_columns", "_values")

    def __init__(self, columns: Columns, values: Sequence[Any]) -> None:
        self._columns = columns
        self._values = values

    def __getitem__(self, key: str | int) -> Any:
        return self._values[self._columns[key] if type(key) is str else key]  # type: ignore[index]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __eq__(self, other: object) -> bool:
        return tuple(self) == tuple(other)  # type: ignore[arg-type]

    __hash__ = None  # type: ignore[assignment]

    def keys(self) -> Iterator[str]:
        return iter(self._columns)

    def values(self) -> Iterator[Any]:
        return iter(self._values)

    def items(self) -> Iterator[tuple[str, Any]]:
        return zip(self._columns, self._values, strict=True)

    def get(self, key: str, default: Any = None) -> Any:
        return self[key] if key in self._columns else default


def columns(*names: str) -> Columns:
    """Return what records of these columns share."""
    return {name: i for i, name in enumerate(names)}


def entry_record(row: Sequence[Any]) -> Record:
    """Return a journal row as a record."""
    return Record(_ENTRY, row)


class Tables:
    """What is committed. `rows` holds each table by its primary key; entries are also found by request and target."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[Any, Any]] = {
            "programme": {True: {"version": 1, "time_zone": "UTC", "partitions": 0}},
            "network": {},
            "rules": {},
            "terminal": {},
            "terminal_day": {},
            "account": {},
            "card": {},
            "entry": {},
            "partition": {},
            "member": {},
        }
        self.requests: dict[bytes, tuple[Any, ...]] = {}
        self.targeting: dict[bytes, list[tuple[Any, ...]]] = {}
        #: Entries that took a card from its account, by the card.
        self.unlinked: dict[bytes, list[tuple[Any, ...]]] = {}

    def copy(self) -> Tables:
        """Return the tables as they are now, apart from what becomes of these."""
        copied = Tables()
        copied.rows = {name: dict(rows) for name, rows in self.rows.items()}
        copied.requests = dict(self.requests)
        copied.targeting = {target: list(rows) for target, rows in self.targeting.items()}
        copied.unlinked = {token: list(rows) for token, rows in self.unlinked.items()}
        return copied

    def apply(self, writes: dict[Key, Any]) -> None:
        """Make what a transaction wrote visible to everybody."""
        for (table, key), row in writes.items():
            if row is None:
                self.rows[table].pop(key, None)
                continue
            self.rows[table][key] = row
            if table == "entry":
                if row[4] is not None:
                    self.requests[row[4]] = row
                if row[18] is not None:
                    self.targeting.setdefault(row[18], []).append(row)
                if row[_ENTRY["op"]] == _UNLINK:
                    self.unlinked.setdefault(unpack(row[_ENTRY["cards"]])[0], []).append(row)

    def entries(self) -> list[tuple[Any, ...]]:
        """Return the journal, ordered by account and number."""
        rows = self.rows["entry"]
        return [rows[key] for key in sorted(rows)]


class MustWait(Exception):  # noqa: N818 - it is no error, the statement goes on later
    """A row is locked by another transaction."""

    def __init__(self, key: Key) -> None:
        super().__init__()
        self.key = key


class View:
    """The tables as one transaction sees them, with what its present statement writes.

    A statement that must wait for a lock is run again from its beginning; the locks that it has are kept.
    """

    def __init__(self, tables: Tables, locks: dict[Key, View], session: Any) -> None:
        self.tables = tables
        self.session = session
        self.written: dict[Key, Any] = {}
        self.statement: dict[Key, Any] = {}
        self.held: list[Key] = []
        self._locks = locks

    def get(self, table: str, key: Any) -> Any:
        """Return a row, or None."""
        full = (table, key)
        if full in self.statement:
            return self.statement[full]
        if full in self.written:
            return self.written[full]
        return self.tables.rows[table].get(key)

    def lock(self, table: str, key: Any) -> None:
        """Lock a row until the transaction ends. Raises MustWait."""
        full = (table, key)
        holder = self._locks.get(full)
        if holder is None:
            self._locks[full] = self
            self.held.append(full)
        elif holder is not self:
            raise MustWait(full)

    def put(self, table: str, key: Any, row: Any) -> None:
        """Write a row that is locked."""
        self.statement[table, key] = row

    def insert_entry(self, row: tuple[Any, ...]) -> None:
        """Add to the journal. Raises UniqueViolationError and CheckViolationError as PostgreSQL does."""
        account, seq, request_id = row[0], row[1], row[4]
        if seq <= 0:
            raise violation(asyncpg.CheckViolationError, "entry_seq_check")
        # An index waits for whoever is about to insert the same key.
        self.lock("entry", (account, seq))
        if self.get("entry", (account, seq)) is not None:
            raise violation(asyncpg.UniqueViolationError, "entry_pkey")
        if request_id is not None:
            self.lock("entry_request", request_id)
            full = ("entry_request", request_id)
            if request_id in self.tables.requests or full in self.statement or full in self.written:
                raise violation(asyncpg.UniqueViolationError, "entry_request")
            self.statement[full] = True
        if row[_ENTRY["op"]] == _MERGE_IN:
            full = ("entry_merge_in", row[_TARGET])
            self.lock(*full)
            if any(other[_ENTRY["op"]] == _MERGE_IN for other in self.targeting(row[_TARGET])):
                raise violation(asyncpg.UniqueViolationError, "entry_merge_in")
        self.put("entry", (account, seq), row)

    def targeting(self, target: bytes) -> list[tuple[Any, ...]]:
        """Return the entries that target a request, those of this transaction among them."""
        own = [
            row
            for rows in (self.written, self.statement)
            for (table, _), row in rows.items()
            if table == "entry" and row[_TARGET] == target
        ]
        return [*self.tables.targeting.get(target, ()), *own]

    def finish_statement(self) -> None:
        """Keep what the statement wrote."""
        self.written.update(self.statement)
        self.statement.clear()

    def changes(self) -> dict[Key, Any]:
        """Return what is to be applied at the commit."""
        return {key: row for key, row in self.written.items() if key[0] != "entry_request"}

    def release(self) -> list[Key]:
        """Give all locks back; return them."""
        held, self.held = self.held, []
        for key in held:
            del self._locks[key]
        return held


def violation(kind: type[asyncpg.PostgresError], constraint: str) -> asyncpg.PostgresError:
    """Return PostgreSQL's refusal of a row, with the name of the constraint."""
    error = kind(f"violates constraint {constraint}")
    error.constraint_name = constraint
    return error
