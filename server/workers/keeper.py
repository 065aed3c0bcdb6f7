"""Keeps one process alive: starts it, starts it again with growing pauses when it ends, ends it when told to."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Mapping
from typing import Any

from server.observation.logs import get_log
from server.settings import Settings
from server.workers.kept_process import KeptProcess, Plan
from server.workers.process_link import EXIT_CONFIGURATION, ProcessState

_BACKOFF_FIRST_S = 0.1
# A process that was ready for so long has not failed to start; its next restart is immediate again.
_STABLE_S = 30.0

log = get_log("supervisor")


class Keeper:
    """One place for a process: the one that is there now, and the next one.

    `ended` is told the pid of each process that is gone.
    """

    def __init__(
        self,
        plan: Plan,
        settings: Settings,
        handover: bytes,
        variables: Mapping[str, str],
        ended: Callable[[int], None],
    ) -> None:
        self.plan = plan
        self.restarts = 0
        self.process: KeptProcess | None = None
        self._settings = settings
        self._handover = handover
        self._variables = variables
        self._ended = ended
        self._stopping = asyncio.Event()

    @property
    def ready(self) -> bool:
        """Whether the process says that it is ready, and was heard lately."""
        process = self.process
        return (
            process is not None
            and process.status is not None
            and process.status.state is ProcessState.READY
            and not process.silent
        )

    @property
    def flawless(self) -> bool:
        """Whether it is ready and misses nothing."""
        return self.ready and not self.describe()["down"]

    def describe(self) -> dict[str, Any]:
        """Return what health shows of it; of one that is just being started again, that it is absent."""
        if self.process is None:
            return {"index": self.plan.index, "pid": None, "state": "absent", "down": [], "detail": {}}
        return self.process.describe()

    async def run(self) -> bool:
        """Keep the process until `stop`. False if it cannot run with these settings and was given up."""
        pause_s = _BACKOFF_FIRST_S
        while not self._stopping.is_set():
            code, stable = await self._run_one()
            if self._stopping.is_set():
                break
            if code == EXIT_CONFIGURATION:
                log.error("process cannot run with these settings", process=self.plan.title)
                return False
            self.restarts += 1
            if stable:
                pause_s = _BACKOFF_FIRST_S
            log.error(
                "process ended and is started again",
                process=self.plan.title,
                exit_code=code,
                pause_ms=int(pause_s * 1000),
            )
            await _wait(self._stopping, pause_s)
            pause_s = min(2 * pause_s, self._settings.worker_backoff_ms_max / 1000)
        return True

    def stop(self) -> None:
        """Ask the process to end, and start no other."""
        self._stopping.set()
        if self.process is not None:
            self.process.signal(signal.SIGTERM)

    def kill(self) -> None:
        """End a process that did not end by itself."""
        self._stopping.set()
        if self.process is not None:
            log.error("process did not drain in time and is killed", process=self.plan.title)
            self.process.signal(signal.SIGKILL)

    async def _run_one(self) -> tuple[int | None, bool]:
        """Start the process and see it through. Returns its exit code, and whether it was ready for a good while."""
        try:
            process = await KeptProcess.start(self.plan, self._settings, self._handover, self._variables)
        except OSError as error:
            log.warning("process cannot be started", process=self.plan.title, reason=error.strerror)
            return None, False
        self.process = process
        if self._stopping.is_set():
            # It was being started while the others were told.
            process.signal(signal.SIGTERM)
        try:
            code = await process.run()
        finally:
            self.process = None
            self._ended(process.pid)
        return code, process.ready_at_s is not None and time.monotonic() - process.ready_at_s > _STABLE_S


async def _wait(event: asyncio.Event, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return
