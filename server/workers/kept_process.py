"""One kept process, a worker or the admin process, as the supervisor sees it: started, listened to, ended."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from server.engines.child import launch
from server.observation.logs import get_log
from server.secrets import VARIABLE_PREFIX
from server.settings import Settings
from server.workers.process_link import LINE_BYTES_MAX, ProcessState, ProcessStatus, arguments

_EXIT_TIMEOUT_S = 2.0
# What arrived while this process itself was stopped must be read before a process is called silent.
_LAST_CHANCE_S = 1.0

log = get_log("supervisor")


@dataclass(frozen=True)
class Plan:
    """What is to be started: `title` is for logs and health, as in "worker 0"; `listening` is handed down."""

    title: str
    module: str
    index: int
    listening: socket.socket
    kill_after_ms: int
    """How long it may be silent, once it has reported, until it is killed."""


class KeptProcess:
    """A started process. `status` is its last report, `heard_at_s` (monotonic) when that came."""

    def __init__(self, plan: Plan, settings: Settings, process: asyncio.subprocess.Process) -> None:
        self.plan = plan
        self.status: ProcessStatus | None = None
        self.started_at_s = time.monotonic()
        self.heard_at_s = self.started_at_s
        self.ready_at_s: float | None = None
        self._settings = settings
        self._process = process
        self._close: list[Callable[[], None]] = []
        self._reader = asyncio.StreamReader(limit=LINE_BYTES_MAX)

    @classmethod
    async def start(
        cls,
        plan: Plan,
        settings: Settings,
        handover: bytes,
        variables: Mapping[str, str],
    ) -> "KeptProcess":
        """Start the module with `handover` in its control pipe. On the main thread, whose death it follows."""
        control_read, control_write = os.pipe()
        status_read, status_write = os.pipe()
        listen_fd = plan.listening.fileno()
        words = arguments(plan.index, listen_fd, control_read, status_write)
        launched = launch([sys.executable, "-m", plan.module, *words], signal.SIGKILL)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(VARIABLE_PREFIX)}
        try:
            # The pipe holds far more than the handover, so this cannot block.
            os.write(control_write, handover)
            process = await asyncio.create_subprocess_exec(
                *launched.argv,
                stdin=asyncio.subprocess.DEVNULL,
                env={**inherited, **variables},
                pass_fds=(listen_fd, control_read, status_write, *launched.pass_fds),
                # A session of its own: Ctrl-C on the terminal reaches the supervisor only, which drains what it keeps.
                start_new_session=True,
            )
        except BaseException:
            os.close(status_read)
            os.close(control_write)
            launched.close_write_end()
            raise
        finally:
            os.close(control_read)
            os.close(status_write)
            launched.close_read_end()
        started = cls(plan, settings, process)
        started._close = [lambda: os.close(control_write), launched.close_write_end]
        await started._listen(status_read)
        return started

    @property
    def pid(self) -> int:
        """Its pid."""
        return self._process.pid

    @property
    def silent(self) -> bool:
        """Whether it has reported nothing for longer than a working one would."""
        return (time.monotonic() - self.heard_at_s) * 1000 > self._settings.worker_silent_after_ms

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; harmless when it has just ended."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def run(self) -> int:
        """Read its reports until it ends; kill it if it falls silent. Returns the exit code, negative for a signal."""
        try:
            while line := await self._next_line():
                self._take(line)
            # It closed its pipe, so it is ending.
            async with asyncio.timeout(_EXIT_TIMEOUT_S):
                return await self._process.wait()
        except TimeoutError:
            log.warning("process does not answer and is killed", process=self.plan.title, pid=self.pid)
        except ValueError:
            log.warning("process whose reports cannot be read is killed", process=self.plan.title, pid=self.pid)
        finally:
            if self._process.returncode is None:
                self.signal(signal.SIGKILL)
                await self._process.wait()
            for close in self._close:
                close()
            self._close = []
        return await self._process.wait()

    def describe(self) -> dict[str, Any]:
        """Return what health shows of it."""
        state = "unheard" if self.status is None else str(self.status.state)
        return {
            "index": self.plan.index,
            "pid": self.pid,
            "state": "silent" if self.silent and self.status is not None else state,
            "down": list(self.status.down) if self.status else [],
            "detail": dict(self.status.detail) if self.status else {},
        }

    async def _listen(self, status_read: int) -> None:
        pipe = os.fdopen(status_read, "rb", 0)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(self._reader), pipe)
        self._close.append(transport.close)

    async def _next_line(self) -> bytes:
        settings = self._settings
        limit_ms = settings.worker_start_timeout_ms if self.status is None else self.plan.kill_after_ms
        line = asyncio.ensure_future(self._reader.readline())
        try:
            done, _ = await asyncio.wait([line], timeout=limit_ms / 1000)
            if not done:
                await asyncio.wait([line], timeout=_LAST_CHANCE_S)
            if not line.done():
                raise TimeoutError
            return line.result()
        finally:
            line.cancel()

    def _take(self, line: bytes) -> None:
        try:
            self.status = ProcessStatus.from_line(line)
        except (KeyError, TypeError) as error:
            raise ValueError("not a status") from error
        self.heard_at_s = time.monotonic()
        if self.status.state is ProcessState.READY and self.ready_at_s is None:
            self.ready_at_s = self.heard_at_s
            log.info("process ready", process=self.plan.title, pid=self.pid)
