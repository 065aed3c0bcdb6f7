"""The till's own journal: every request with an effect, on disk before it is sent (SPEC.md, section 14).

One JSON object a line: `{"put": id, "frame": hex, "terminal": id}`, `{"replace": id, "by": id, "frame": hex,
"terminal": id}` or `{"done": id}`. It holds card numbers, so only its owner may read it, and it is emptied as soon as
nobody uses it and nothing is open.
"""

import errno
import fcntl
import os
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import orjson

from protocol.messages import decode, encode
from protocol.requests import Request

JOURNAL_FILE: Final = "till-journal.jsonl"
LOCK_FILE: Final = "till-journal.lock"
_LENGTH_BYTES: Final = 4
_OWNER_ONLY: Final = 0o600


@dataclass(frozen=True, slots=True)
class Open:
    """A request that nobody knows the fate of, and the terminal that made it."""

    request: Request
    terminal_id: str


class TillJournal:
    """The store of one till process; several may use one file at the same time. Use it by `with`.

    `orphans`: what earlier processes left without an answer. They are known only to a process that finds itself alone:
    while another till runs, its requests under way look the same.
    """

    def __init__(self, folder: Path, terminal_id: str) -> None:
        self.orphans: list[Open] = []
        self._folder = folder
        self._terminal_id = terminal_id
        self._file = -1
        self._lock = -1

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self._folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _OWNER_ONLY)
        if self._try_alone():
            self.orphans = self._compact()
        fcntl.flock(self._lock, fcntl.LOCK_SH)
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._file = os.open(self._folder / JOURNAL_FILE, flags, _OWNER_ONLY)
        size = os.fstat(self._file).st_size
        if size and os.pread(self._file, 1, size - 1) != b"\n":
            # Another till lost its power in the middle of a line; what follows must not become part of it.
            os.write(self._file, b"\n")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)
        if self._try_alone():
            self._compact()
        os.close(self._lock)

    def put(self, request: Request) -> None:
        """Keep a request that is about to be sent."""
        self._append({"put": request.request_id.hex(), **self._content(request)})

    def replace(self, original: Request, reversal: Request) -> None:
        """Keep the reversal instead of its original, in one write."""
        by = reversal.request_id.hex()
        self._append({"replace": original.request_id.hex(), "by": by, **self._content(reversal)})

    def done(self, request_id: bytes) -> None:
        """Forget a request whose fate is known."""
        self._append({"done": request_id.hex()})

    def _content(self, request: Request) -> dict[str, str]:
        return {"frame": encode(request)[_LENGTH_BYTES:].hex(), "terminal": self._terminal_id}

    def _append(self, line: dict[str, str]) -> None:
        written = orjson.dumps(line) + b"\n"
        if os.write(self._file, written) != len(written):
            raise OSError(errno.ENOSPC, "the till's journal could not be written")
        os.fsync(self._file)

    def _try_alone(self) -> bool:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _compact(self) -> list[Open]:
        """Write the file anew with what is open; the caller is alone."""
        path = self._folder / JOURNAL_FILE
        if not path.exists():
            return []
        still_open = _still_open(path.read_bytes())
        fresh = path.with_suffix(".new")
        file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _OWNER_ONLY)
        os.write(file, b"".join(orjson.dumps({"put": key, **value}) + b"\n" for key, value in still_open.items()))
        os.fsync(file)
        os.close(file)
        fresh.replace(path)
        _sync_folder(self._folder)
        return [_as_open(value) for value in still_open.values()]


def _still_open(content: bytes) -> dict[str, dict[str, Any]]:
    still_open: dict[str, dict[str, Any]] = {}
    for raw in content.split(b"\n"):
        try:
            line = orjson.loads(raw)
        except orjson.JSONDecodeError:
            # A torn line is the last one of a till that lost its power while writing: nothing was sent for it.
            continue
        still_open.pop(line.get("done") or line.get("replace") or "", None)
        key = line.get("put") or line.get("by")
        if key is not None:
            still_open[key] = {"frame": line["frame"], "terminal": line["terminal"]}
    return still_open


def _as_open(content: dict[str, Any]) -> Open:
    request = decode(bytes.fromhex(content["frame"]))
    if not isinstance(request, Request):
        raise TypeError("the till's journal holds something that is no request")
    return Open(request, content["terminal"])


def _sync_folder(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY)
    os.fsync(file)
    os.close(file)
