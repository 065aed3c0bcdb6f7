"""One command of the product at work: started with a log, awaited, stopped, or killed with everything under it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from loadtests.processor_time import descendants, is_running

_STOP_S = 60.0
_POLL_S = 0.01
_LAST_LINES = 8


class InstallationError(RuntimeError):
    """A part of the installation did not do what it was told; the text ends with the last lines of its log."""


class Process:
    """A command under a name for people. What it prints goes to the file `log`, or its errors to `stderr`."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        *,
        stderr: IO[Any] | None = None,
    ) -> None:
        self._name = name
        self._log = log
        # Passwords of engines are printed into it.
        with os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as appended:
            self._log_start = os.fstat(appended.fileno()).st_size
            # A session of its own: Ctrl-C reaches this process alone, which then stops everything in order.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=appended,
                stderr=appended if stderr is None else stderr,
                cwd=log.parent,
                env=environment,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its pid."""
        return self._process.pid

    def json_line(self, timeout_s: float) -> str:
        """Return the first line of JSON that it prints. Raises InstallationError."""
        deadline = time.monotonic() + timeout_s
        while True:
            for line in self._printed().splitlines(keepends=True):
                if line.startswith("{") and line.endswith("\n"):
                    return line
            self.expect_alive()
            if time.monotonic() > deadline:
                raise InstallationError(f"{self._name} printed no JSON within {timeout_s:.0f} s{self.last_lines()}")
            time.sleep(_POLL_S)

    def expect_alive(self) -> None:
        """Raise InstallationError when it has ended."""
        code = self._process.poll()
        if code is not None:
            raise InstallationError(f"{self._name} ended by itself with {code}{self.last_lines()}")

    def expect_success(self) -> None:
        """Wait for its end, however long that takes. Raises InstallationError when it fails."""
        code = self._process.wait()
        if code:
            raise InstallationError(f"{self._name} failed with {code}{self.last_lines()}")

    def stop(self) -> None:
        """Ask it to end and wait. Raises InstallationError when it had ended by itself, or has to be killed."""
        self.expect_alive()
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise InstallationError(f"{self._name} did not end within {_STOP_S:.0f} s{self.last_lines()}") from None

    def kill(self) -> None:
        """Kill it and all that live under it, and wait until they are gone. Harmless when it has ended."""
        if self._process.poll() is not None:
            return
        tree = [self.pid, *descendants(self.pid)]
        for pid in tree:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        while any(is_running(pid) for pid in tree):
            time.sleep(_POLL_S)

    def last_lines(self) -> str:
        """Return the end of its log as the continuation of a sentence."""
        lines = self._printed().splitlines()[-_LAST_LINES:]
        return ":\n" + "\n".join(lines) if lines else "; it logged nothing"

    def _printed(self) -> str:
        with self._log.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")
