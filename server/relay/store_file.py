"""The store's file: opened by one relay at a time, made, checked and brought up to date before it is used."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from pathlib import Path
from typing import Final

from server.relay.store_errors import StoreDamaged, StoreInUse, StoreTooNew, StoreUnusable
from server.relay.store_sql import VERSION, migration

STORE_FILE: Final = "relay.db"
LOCK_FILE: Final = "relay.lock"

_APPLICATION_ID: Final = 0x54574952
"""Says in the file's header that it is a relay's store: "TWIR"."""
_OPEN_WAIT_S: Final = 5.0
_LOCK_WAIT_MS: Final = 200
"""How long SQLite waits for another process, which may only be one that reads the status: at first, and later."""
_FOLDER_MODE: Final = 0o700
_FILE_MODE: Final = 0o600


def lock(folder: Path) -> int:
    """Make the folder if it is not there, and return the descriptor that holds it. Raises StoreUnusable."""
    try:
        folder.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
        held = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE)
    except OSError as error:
        raise StoreUnusable(f"the relay's folder {folder} cannot be used: {error.strerror}") from error
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(held)
        raise StoreInUse(f"another relay uses {folder}: stop it, or give this one a folder of its own") from None
    return held


def open_store(folder: Path) -> sqlite3.Connection:
    """Return the connection to the store, at the current version. The caller holds the lock. Raises StoreUnusable."""
    path = folder / STORE_FILE
    try:
        _make(path)
        connection = sqlite3.connect(path, timeout=_OPEN_WAIT_S, isolation_level=None)
    except (OSError, sqlite3.Error) as error:
        raise StoreUnusable(f"{path} cannot be opened: {error}") from error
    try:
        _prepare(connection, path)
    except sqlite3.OperationalError as error:
        connection.close()
        raise StoreUnusable(f"{path} cannot be used: {error}") from error
    except sqlite3.DatabaseError as error:
        connection.close()
        raise _damaged(path, str(error)) from error
    except BaseException:
        connection.close()
        raise
    return connection


def _make(path: Path) -> None:
    """Make the file if there is none, so that only its owner may read it and a power cut does not take it away."""
    log = path.with_name(path.name + "-wal")
    if (not path.exists() or not path.stat().st_size) and log.exists() and log.stat().st_size:
        # SQLite would throw the log away, and what was approved with it.
        raise _damaged(path, f"it is missing or empty, but {log.name} is there")
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _FILE_MODE))
        for folder in (path.parent, path.parent.parent):
            opened = os.open(folder, os.O_RDONLY)
            os.fsync(opened)
            os.close(opened)


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    application, version = _header(connection, "application_id"), _header(connection, "user_version")
    if version > VERSION and application == _APPLICATION_ID:
        raise StoreTooNew(
            f"{path} was written by a later version of Tillwire (schema {version}, this one knows {VERSION}): "
            "install that version again"
        )
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application != _APPLICATION_ID and (application or version or tables):
        raise _damaged(path, "it belongs to something else")
    found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise _damaged(path, found)
    for setting in ("journal_mode = WAL", "synchronous = FULL", "secure_delete = ON", "temp_store = MEMORY"):
        connection.execute(f"PRAGMA {setting}")
    for missing in range(version + 1, VERSION + 1):
        _migrate(connection, missing)
    connection.execute(f"PRAGMA busy_timeout = {_LOCK_WAIT_MS}")


def _header(connection: sqlite3.Connection, name: str) -> int:
    value: int = connection.execute(f"PRAGMA {name}").fetchone()[0]
    return value


def _migrate(connection: sqlite3.Connection, version: int) -> None:
    marks = f"PRAGMA application_id = {_APPLICATION_ID}; PRAGMA user_version = {version};"
    try:
        connection.executescript(f"BEGIN IMMEDIATE; {migration(version)} {marks} COMMIT;")
    except sqlite3.Error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _damaged(path: Path, reason: str) -> StoreDamaged:
    return StoreDamaged(
        f"{path} cannot be trusted ({reason}). Nothing was changed. Keep the file: what it holds may not have reached "
        "headquarters. Restore it, or move the whole folder away to begin anew"
    )
