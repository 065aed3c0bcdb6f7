"""How the supervisor and a process that it keeps talk: what a worker or the admin process is given, and what it tells.

It is started as `python -m MODULE --index I --listen-fd N --control-fd R --status-fd W`.

- The listening socket is bound by the supervisor; all workers share one, the admin process has another.
- The control pipe carries one JSON line: settings and secret keys, which therefore stand in no argument or environment,
  and a private folder that all processes of this supervisor share.
  It then stays open for the supervisor's life; its end means that the supervisor is gone.
- On the status pipe the process writes JSON lines, once a second even if nothing changed:
  `{"index": 0, "state": "ready", "down": [], "detail": {...}}`.
"""

import argparse
import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import orjson

from server.secrets import Secrets
from server.settings import Settings

EXIT_CONFIGURATION = 78
"""A process that ends with this code cannot run with these settings: starting it again would not help."""
EXIT_PARENT_GONE = 70

LINE_BYTES_MAX = 262_144
_CONTROL_BYTES_MAX = 1_048_576


class ProcessState(StrEnum):
    """What a process says of itself."""

    STARTING = "starting"
    READY = "ready"
    """It accepts connections. What it cannot serve for the moment stands in `down`."""
    DRAINING = "draining"


@dataclass(frozen=True)
class ProcessStatus:
    """One report."""

    index: int
    state: ProcessState
    down: tuple[str, ...]
    """What the process needs and cannot reach, as in `postgres`, `redis`, `partition 3`; empty when all is well."""
    detail: Mapping[str, Any]
    """Whatever else is worth showing: partitions, connections, queue lengths. No personal data."""

    def to_line(self) -> bytes:
        """Return the JSON line."""
        values = {"index": self.index, "state": self.state, "down": list(self.down), "detail": dict(self.detail)}
        return orjson.dumps(values, option=orjson.OPT_NON_STR_KEYS) + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> "ProcessStatus":
        """Return the report in a line. Raises ValueError, KeyError or TypeError if it is none."""
        values = orjson.loads(line)
        down = tuple(str(name) for name in values["down"])
        return cls(int(values["index"]), ProcessState(values["state"]), down, dict(values["detail"]))


def arguments(index: int, listen_fd: int, control_fd: int, status_fd: int) -> list[str]:
    """Return the command-line arguments."""
    words = {"index": index, "listen-fd": listen_fd, "control-fd": control_fd, "status-fd": status_fd}
    return [word for name, value in words.items() for word in (f"--{name}", str(value))]


def control_line(settings: Mapping[str, Any], secrets: Mapping[str, str], folder: Path) -> bytes:
    """Return what the supervisor writes into the control pipe; see `to_handover` of both."""
    return orjson.dumps({"settings": settings, "secrets": secrets, "folder": str(folder)}) + b"\n"


class ProcessLink:
    """The kept process's end. Made once, at its start."""

    def __init__(self, argv: Sequence[str]) -> None:
        """Take over what the supervisor handed down. `argv` excludes the program's name."""
        parser = argparse.ArgumentParser(prog="python -m", description="Started by the supervisor, not by hand.")
        for name in ("index", "listen-fd", "control-fd", "status-fd"):
            parser.add_argument(f"--{name}", type=int, required=True)
        given = parser.parse_args(argv)
        self.index: int = given.index
        """Number of this worker, 0 to workers - 1; a restarted worker keeps it. 0 for the admin process."""
        self._control_fd: int = given.control_fd
        self._status_fd: int = given.status_fd
        self._supervisor = os.getppid()
        handed_down = orjson.loads(self._first_control_line())
        self.settings = Settings.model_validate(handed_down["settings"])
        self.secrets = Secrets.from_handover(handed_down["secrets"])
        self.folder = Path(handed_down["folder"])
        """Open to this user only, gone with the supervisor: metrics, sockets. Its path is short."""
        self.listen_socket = socket.socket(fileno=given.listen_fd)
        """Bound and listening. Pass it to the event loop's server, which closes it when draining begins."""
        self.listen_socket.setblocking(False)
        os.set_blocking(self._status_fd, False)
        self._status = ProcessStatus(self.index, ProcessState.STARTING, (), {})
        self._unsent = b""
        self.report()

    def report(
        self,
        state: ProcessState | None = None,
        down: Sequence[str] | None = None,
        detail: Mapping[str, Any] | None = None,
    ) -> None:
        """Tell the supervisor; what is None stays as it was told before. Never blocks and never raises."""
        last = self._status
        self._status = ProcessStatus(
            self.index,
            last.state if state is None else state,
            last.down if down is None else tuple(down),
            last.detail if detail is None else detail,
        )
        line = self._status.to_line()
        # A stopped supervisor does not read: the newest report waits behind the rest of a half-written one.
        end = self._unsent.find(b"\n") + 1
        self._unsent = self._unsent[:end] + line if self._half_written else line
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            self._write()

    async def keep_reporting(self) -> None:
        """Repeat the last report until cancelled; a process that falls silent is taken for hung and killed."""
        while True:
            await asyncio.sleep(self.settings.status_interval_ms / 1000)
            self.report()

    def die_with_supervisor(self, loop: asyncio.AbstractEventLoop) -> None:
        """End this process at once when the supervisor is gone: a successor needs its port and its partitions.

        On Linux the kernel does it in any case; this holds elsewhere, too.
        """

        def readable() -> None:
            if not os.read(self._control_fd, 4096):
                os._exit(EXIT_PARENT_GONE)

        loop.add_reader(self._control_fd, readable)

    def drain_supervisor(self) -> None:
        """Ask the supervisor to stop everything in an orderly way, as SIGTERM does. It may be gone already."""
        # Whoever adopted this process since is not the one to ask.
        if os.getppid() == self._supervisor:
            os.kill(self._supervisor, signal.SIGTERM)

    _half_written = False

    def _write(self) -> None:
        while self._unsent:
            written = os.write(self._status_fd, self._unsent)
            # Only the line under way must be finished; it ends at the first line feed.
            self._half_written = not self._unsent[:written].endswith(b"\n")
            self._unsent = self._unsent[written:]

    def _first_control_line(self) -> bytes:
        # Byte for byte after the first block would be slow, but nothing follows the first line.
        text = b""
        while not text.endswith(b"\n"):
            block = os.read(self._control_fd, _CONTROL_BYTES_MAX)
            if not block or len(text) > _CONTROL_BYTES_MAX:
                raise SystemExit(EXIT_PARENT_GONE)
            text += block
        return text
