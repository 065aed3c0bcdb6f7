"""A look into a relay's store from outside, whether or not the relay runs; nothing is written."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import quote

from server.relay.store_errors import StoreUnusable
from server.relay.store_file import STORE_FILE
from server.relay.store_rows import AllowanceState, Conflict
from server.relay.store_sql import statements
from server.relay.store_work import list_conflicts

_WAIT_S: Final = 2.0
"""How long SQLite waits for the relay that is writing."""


class StoreStatus(NamedTuple):
    """What a store holds; `oldest_ms` is when the oldest waiting request was taken (ms since 1970), None without."""

    queued: int
    oldest_ms: int | None
    answers: int
    conflicts: int
    allowances: int
    kept: Mapping[str, bytes]


def read_status(folder: Path) -> StoreStatus:
    """Return what the store in a folder holds. Raises StoreUnusable."""
    with _opened(folder) as connection:
        queued, oldest_ms, answers, conflicts = connection.execute(statements()["summary"]).fetchone()
        by_state = dict(connection.execute(statements()["allowance_count"]).fetchall())
        kept = dict(connection.execute(statements()["kept_all"]).fetchall())
    return StoreStatus(queued, oldest_ms, answers, conflicts, by_state.get(AllowanceState.GRANTED, 0), kept)


def read_conflicts(folder: Path, count: int) -> list[Conflict]:
    """Return the latest conflicts, newest first. Raises StoreUnusable."""
    with _opened(folder) as connection:
        return list_conflicts(connection, count)


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[sqlite3.Connection]:
    path = folder / STORE_FILE
    try:
        # Also when the folder is closed to whoever asks.
        path.open("rb").close()
    except FileNotFoundError:
        raise StoreUnusable(
            f"there is no relay's store in {folder}: is data_dir the one that the relay runs with?"
        ) from None
    except OSError as error:
        raise StoreUnusable(f"{path} cannot be read: {error.strerror}: be the user that the relay runs as") from None
    try:
        connection = sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", timeout=_WAIT_S, uri=True)
        with contextlib.closing(connection):
            yield connection
    except sqlite3.Error as error:
        raise StoreUnusable(f"{path} cannot be read: {error}") from error
