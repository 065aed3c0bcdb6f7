"""The engines of a replay, in a folder of their own that is emptied before they start."""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from server.engines.account import make_passable
from server.engines.postgres import EmbeddedPostgres
from server.engines.valkey import EmbeddedValkey
from server.errors import OperatorError

_MARK = "tillwire-replay.lock"


@dataclass(frozen=True, slots=True)
class Engines:
    """URLs of running engines, and their names for people."""

    postgres_url: str
    redis_url: str
    label: str


@contextmanager
def fresh_engines(folder: Path) -> Iterator[Engines]:
    """Empty the folder and run a PostgreSQL and a Valkey in it, on free ports, as durable as in production.

    What is in the folder afterwards stays there to be looked at. Raises OperatorError.
    """
    folder = folder.absolute()
    with ExitStack() as stack:
        stack.enter_context(take(folder))
        empty(folder)
        postgres, valkey = EmbeddedPostgres(folder / "postgresql"), EmbeddedValkey(folder / "valkey")
        postgres_url = postgres.start()
        stack.callback(postgres.stop)
        redis_url = valkey.start()
        stack.callback(valkey.stop)
        yield Engines(postgres_url, redis_url, f"{postgres.label}, {valkey.label}")


def take(folder: Path) -> BinaryIO:
    """Take the folder for this process until what is returned is closed; the kernel does that in any case.

    Raises OperatorError when it cannot be made, holds what no replay has left there, or another replay runs in it.
    """
    mark = folder / _MARK
    try:
        if folder.exists() and any(folder.iterdir()) and not mark.exists():
            # It is about to be emptied, and only an earlier replay's leavings may be.
            raise OperatorError(f"{folder} holds files that are not a replay's: give another --folder")
        make_passable(folder)
        lock = mark.open("ab")
    except OSError as error:
        raise OperatorError(f"{folder} cannot be used ({error.strerror}): give another --folder") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise OperatorError(f"another replay runs in {folder}: wait for it or give another --folder") from None
    return lock


def empty(folder: Path) -> None:
    """Remove everything in a folder that was taken."""
    for path in folder.iterdir():
        if path.name == _MARK:
            continue
        if path.is_symlink():
            # PostgreSQL's files lie behind a link where its user cannot reach this folder (server/engines/account.py).
            shutil.rmtree(path.resolve(), ignore_errors=True)
            path.unlink()
        elif path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
