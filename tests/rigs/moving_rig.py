"""Files of another system, an installation to import them into, and what has become of them there."""

from __future__ import annotations

import asyncio
import csv
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import asyncpg

from ledger.journal import migrate
from ledger.states import State
from ledger.verify import Verified, verify
from protocol import tokens
from server.moving.columns import Kind
from server.moving.importing import Wanted, prepare, run
from server.moving.report import Report
from server.secrets import Secrets

SECRETS = Secrets(*(bytes([number]) * 32 for number in range(1, 5)))


def ean13(number: int) -> str:
    first = f"2{number:011d}"
    return first + tokens.ean13_check_digit(first)


def table(file: Path, *rows: Sequence[Any], encoding: str = "utf-8") -> Path:
    with file.open("w", encoding=encoding, newline="") as stream:
        csv.writer(stream).writerows(rows)
    return file


class MovingRig:
    """A migrated database, the keys, and a folder for files."""

    def __init__(self, postgres_url: str, folder: Path) -> None:
        self.postgres_url, self.folder = postgres_url, folder
        in_a_thread(lambda: migrate.run(postgres_url))

    def file(self, name: str, *rows: Sequence[Any], **options: Any) -> Path:
        return table(self.folder / name, *rows, **options)

    def take(self, kind: str, file: Path, **options: Any) -> Report:
        """Import a file in one process of its own."""
        wanted = Wanted(Kind(kind), file, **{"processes": 1, **options})
        report = run(wanted, prepare(wanted), self.postgres_url, SECRETS, lambda _rows: None)
        assert report.agrees
        return report

    def rows(self, sql: str, *args: Any) -> list[asyncpg.Record]:
        async def fetch() -> list[asyncpg.Record]:
            connection = await asyncpg.connect(self.postgres_url)
            try:
                return list(await connection.fetch(sql, *args))
            finally:
                await connection.close()

        return in_a_thread(fetch)

    def value(self, sql: str, *args: Any) -> Any:
        return self.rows(sql, *args)[0][0]

    def lots(self) -> dict[int, list[tuple[int, int, int, int]]]:
        """Return the lots of each account that has any."""
        found = {row["account_id"]: State.unpacked(row["state"]).lots for row in self.rows("SELECT * FROM account")}
        return {account: lots for account, lots in found.items() if lots}

    def everything(self) -> dict[str, list[tuple[Any, ...]]]:
        """Return all rows that an import may change but for the audit log, to be compared."""
        tables = ("account", "card", "entry", "personal.member", "personal.lookup")
        return {name: sorted(map(tuple, self.rows(f"SELECT t::text FROM {name} t"))) for name in tables}  # noqa: S608

    def verify(self) -> Verified:
        """Prove the books."""
        return in_a_thread(lambda: verify(self.postgres_url, None, SECRETS.seal_key, lambda _done, _total: None))


def in_a_thread(work: Any) -> Any:
    """Run a coroutine where no event loop runs yet."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(work())).result()
