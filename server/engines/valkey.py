"""A real Valkey on loopback from a binary, for `tillwire up` and tests. Its append-only file survives any death.

The folder holds `valkey.conf` (mode 0600: it carries the password), `password`, `appendonlydir`, `server.log`.
"""

import os
import signal
import socket
import time
from collections.abc import Mapping
from pathlib import Path

from server.engines.binaries import Program, find_valkey
from server.engines.child import Child, EngineError
from server.engines.keyfile import password_in, write_private
from server.engines.ports import LOOPBACK, free_port, require_free

_START_TIMEOUT_S = 120.0
_STOP_TIMEOUT_S = 30.0
_POLL_S = 0.01
MEMORY_BYTES_MAX = 2 * 2**30
_TUNABLES, _HUGE_PAGES = "GLIBC_TUNABLES", "glibc.malloc.hugetlb"

CONFIGURATION: Mapping[str, str] = {
    "bind": LOOPBACK,
    "protected-mode": "yes",
    "daemonize": "no",
    "appendonly": "yes",
    "appendfsync": "everysec",  # PostgreSQL is the truth; what the last second lost is rebuilt from it.
    "save": '""',
    "auto-aof-rewrite-min-size": "256mb",  # Rewriting it takes processor time from the registers every time.
    "maxmemory-policy": "noeviction",
    "disable-thp": "no",  # See `_environment`.
    "tcp-backlog": "128",
    "loglevel": "notice",
}


class EmbeddedValkey:
    """One Valkey server. `start` and `stop` may be called again and again; the port stays the same.

    `folder` is created if needed. `port` 0 takes a free one at the first start. `options` override CONFIGURATION.
    """

    def __init__(
        self,
        folder: Path,
        port: int = 0,
        memory_bytes_max: int = MEMORY_BYTES_MAX,
        options: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder.absolute()
        self.port = port
        self._choose_port = port == 0
        self._options = {**CONFIGURATION, "maxmemory": str(memory_bytes_max), **(options or {})}
        self._child: Child | None = None
        self._program: Program | None = None

    @property
    def url(self) -> str:
        """URL of its database 0. Valid once started."""
        return self.url_of(0)

    def url_of(self, database: int) -> str:
        """URL of one of its 16 databases. Valid once started."""
        return f"redis://:{password_in(self.folder / 'password')}@{LOOPBACK}:{self.port}/{database}"

    @property
    def label(self) -> str:
        """Program and version, for people."""
        return self._program.label if self._program else "Valkey"

    @property
    def pid(self) -> int:
        """Pid of the server. Raises EngineError when it is not running."""
        return self._running().pid

    @property
    def alive(self) -> bool:
        """Whether the server runs."""
        return self._child is not None and self._child.alive

    def start(self) -> str:
        """Start the server and return its URL once it has read its file and answers. Raises EngineError."""
        if self.alive:
            return self.url
        self._program = find_valkey()
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for _ in range(5):
            if self._choose_port and self.port == 0:
                self.port = free_port()
            else:
                require_free(self.port)
            self._write_configuration()
            words = [str(self._program.path), str(self.folder / "valkey.conf")]
            child = Child(words, self.folder / "server.log", signal.SIGTERM, environment=_environment())
            if self._wait_ready(child):
                self._child = child
                return self.url
            if "Address already in use" not in child.log_text():
                break
            if self._choose_port:
                self.port = 0
        raise EngineError(f"Valkey did not start: {child.last_words()} ({child.log_file})")

    def stop(self) -> None:
        """Stop cleanly, with the append-only file written out. Harmless when it is not running."""
        if self._child is not None:
            self._child.end((signal.SIGTERM, _STOP_TIMEOUT_S))
            self._child = None

    def kill(self) -> None:
        """Kill it at once."""
        self._running().kill()
        self._child = None

    def pause(self) -> None:
        """Stop it from running, with its connections open, until `resume`."""
        self._running().signal_tree(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused server run on."""
        self._running().signal_tree(signal.SIGCONT)

    def _running(self) -> Child:
        if self._child is None or not self._child.alive:
            raise EngineError("Valkey is not running")
        return self._child

    def _write_configuration(self) -> None:
        lines = [f"{name} {value}" for name, value in self._options.items()]
        lines += [f"port {self.port}", f"dir {_quoted(self.folder)}"]
        lines.append(f"requirepass {password_in(self.folder / 'password')}")
        write_private(self.folder / "valkey.conf", "\n".join(lines) + "\n")

    def _wait_ready(self, child: Child) -> bool:
        password = password_in(self.folder / "password")
        deadline = time.monotonic() + _START_TIMEOUT_S
        while child.alive:
            if _answers(self.port, password):
                return True
            if time.monotonic() > deadline:
                child.kill()
                raise EngineError(f"Valkey was not ready within {_START_TIMEOUT_S:.0f} s ({child.log_file})")
            time.sleep(_POLL_S)
        return False


def _answers(port: int, password: str) -> bool:
    """Ask for a PONG in the inline form of the protocol; while it reads its file it answers LOADING instead."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=5) as connection:
            connection.sendall(f"AUTH {password}\r\nPING\r\nQUIT\r\n".encode())
            answer = b"".join(iter(lambda: connection.recv(4096), b""))
    except OSError:
        return False
    return b"+PONG" in answer


def _environment() -> dict[str, str]:
    """Return ours, and that its memory shall be of huge pages where the machine has them for those who ask.

    Accounts are asked for at random, so with small pages nearly each of them has to be found in the page table first.
    What speaks against huge pages, that a fork makes the first write to each of them slow, happens here only when the
    append-only file is rewritten. A C library that is not GNU's, or an older one, does not know the word.
    """
    given = os.environ.get(_TUNABLES, "")
    tunables = given if _HUGE_PAGES in given else f"{given}:{_HUGE_PAGES}=1".lstrip(":")
    return {**os.environ, _TUNABLES: tunables}


def _quoted(path: Path) -> str:
    text = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
