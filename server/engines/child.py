"""One engine's process: started so that it dies with this one, stopped, killed, paused, with its log."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import server.workers.launch
from server.engines.processes import descendants, is_running
from server.errors import OperatorError

LOG_BYTES_MAX = 16 * 2**20
_POLL_S = 0.01


class EngineError(OperatorError):
    """An engine is missing, cannot start or does not answer."""


@dataclass(frozen=True)
class Account:
    """The operating system's user as whom an engine runs when this process is root."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True)
class Launch:
    """How to start a program that dies with this process: its arguments, and the descriptors both sides hold."""

    argv: list[str]
    lifeline_read: int
    lifeline_write: int

    @property
    def pass_fds(self) -> tuple[int, ...]:
        """Descriptors that the program inherits."""
        return () if self.lifeline_read < 0 else (self.lifeline_read,)

    def close_read_end(self) -> None:
        """Close what only the program needs, once it has been started."""
        if self.lifeline_read >= 0:
            os.close(self.lifeline_read)

    def close_write_end(self) -> None:
        """Close the pipe whose end means this process's death, once the program is gone."""
        if self.lifeline_write >= 0:
            os.close(self.lifeline_write)


def launch(argv: Sequence[str], death_signal: signal.Signals, account: Account | None = None) -> Launch:
    """Wrap `argv` (an absolute program path first) in the launcher.

    The kernel's death signal follows the thread that starts a program, so it is used from the main thread only, whose
    end is the process's end. Elsewhere, and outside Linux, a watcher reads a pipe.
    """
    by_kernel = sys.platform == "linux" and threading.current_thread() is threading.main_thread()
    read, write = (-1, -1) if by_kernel else os.pipe()
    uid, gid = (account.uid, account.gid) if account else (-1, -1)
    words = (read, int(death_signal), os.getpid(), uid, gid)
    launcher = [sys.executable, "-I", "-S", server.workers.launch.__file__, *(str(word) for word in words)]
    return Launch([*launcher, *argv], read, write)


class Child:
    """A running program whose output goes to a log file. Always ended by `end` or `kill`."""

    def __init__(
        self,
        argv: Sequence[str],
        log_file: Path,
        death_signal: signal.Signals,
        account: Account | None = None,
        environment: dict[str, str] | None = None,
    ) -> None:
        self.log_file = log_file
        if log_file.exists() and log_file.stat().st_size > LOG_BYTES_MAX:
            log_file.replace(log_file.with_suffix(".log.1"))
        self._launch = launch(argv, death_signal, account)
        with log_file.open("ab") as log:
            self._log_start = log.tell()
            # A session of its own: Ctrl-C on the terminal must reach this process only, which stops things in order.
            self._process = subprocess.Popen(
                self._launch.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=environment,
                pass_fds=self._launch.pass_fds,
                start_new_session=True,
            )
        self._launch.close_read_end()

    @property
    def pid(self) -> int:
        """Pid of the program itself: the launcher becomes it."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        if self._process.poll() is None:
            return True
        self._close()
        return False

    @property
    def exit_code(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        return self._process.poll()

    def log_text(self) -> str:
        """Return what this run has logged so far."""
        with self.log_file.open("rb") as log:
            log.seek(self._log_start)
            return log.read(LOG_BYTES_MAX).decode(errors="replace")

    def last_words(self) -> str:
        """Return the line of this run's log that most likely says why it ended."""
        lines = [line.strip() for line in self.log_text().splitlines() if line.strip()]
        telling = [line for line in lines if any(word in line for word in ("FATAL", "ERROR", "rror:", "Fatal"))]
        return (telling or lines or ["it logged nothing"])[-1]

    def signal_tree(self, number: signal.Signals) -> None:
        """Send a signal to the program, then to every process under it (PostgreSQL's backends have own sessions)."""
        if not self.alive:
            return
        for pid in (self.pid, *descendants(self.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def end(self, *polite: tuple[signal.Signals, float]) -> bool:
        """Send each signal in turn and wait its seconds; at last kill. Returns whether a polite signal was enough."""
        if not self.alive:
            return True
        self.signal_tree(signal.SIGCONT)  # A paused process would never see the others.
        for number, timeout_s in polite:
            if self.alive:
                self._process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout_s)
                self._close()
                return True
        self.kill()
        return False

    def kill(self) -> None:
        """Kill the program and everything under it, and wait until all of it is gone."""
        if not self.alive:
            return
        tree = descendants(self.pid)
        self._process.kill()
        self._process.wait()
        for pid in tree:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        while any(is_running(pid) for pid in tree):
            time.sleep(_POLL_S)
        self._close()

    def _close(self) -> None:
        self._launch.close_write_end()
        self._launch = Launch([], -1, -1)


def run_to_end(
    argv: Sequence[str],
    account: Account | None = None,
    environment: dict[str, str] | None = None,
    text: str = "",
    timeout_s: float = 120.0,
) -> str:
    """Run a program that ends by itself and return its output. Raises EngineError with its last words."""
    launched = launch(argv, signal.SIGKILL, account)
    try:
        done = subprocess.run(
            launched.argv,
            input=text,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd="/",
            env=environment,
            pass_fds=launched.pass_fds,
            start_new_session=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise EngineError(f"{argv[0]} did not end within {timeout_s:.0f} s") from error
    finally:
        launched.close_read_end()
        launched.close_write_end()
    if done.returncode != 0:
        lines = [line for line in done.stdout.splitlines() if line.strip()]
        raise EngineError(f"{argv[0]} failed: {(lines or ['it said nothing'])[-1]}")
    return done.stdout
