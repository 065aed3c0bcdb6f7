"""The running installation as the admin process sees it: the supervisor beside it, and the numbers of all workers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from server.observation.metrics import added_up
from server.workers.health_socket import ask_health
from server.workers.process_link import ProcessLink
from server.workers.shared_folder import metrics_folder

# Shorter than any monitor waits: a supervisor that hangs is told as such, not by silence.
HEALTH_TIMEOUT_S = 2.0
_EVENT_INTERVAL_S = 1.0
_HUNG: Mapping[str, Any] = {"live": False, "ready": False, "state": "hung", "down": ["supervisor"], "workers": []}


class RunningInstallation:
    """Kept by a supervisor (`admin_api.office.Installation`)."""

    def __init__(self, link: ProcessLink) -> None:
        self._link = link
        self._closed = asyncio.Event()
        self._drain_asked = False

    async def health(self) -> Mapping[str, Any]:
        """Ask the supervisor; one that does not answer in time is not alive."""
        told = await ask_health(self._link.folder, HEALTH_TIMEOUT_S)
        return _HUNG if told is None else told

    def metrics(self) -> bytes:
        """Add up the numbers of all processes."""
        return added_up(metrics_folder(self._link.folder))

    def drain(self) -> None:
        """Let the supervisor end everything in an orderly way."""
        if not self._drain_asked:
            # Asked again, it would end everything at once.
            self._drain_asked = True
            self._link.drain_supervisor()

    async def events(self) -> AsyncGenerator[Mapping[str, Any]]:
        """Yield health about once a second, until `close`."""
        while not self._closed.is_set():
            yield await self.health()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_EVENT_INTERVAL_S):
                    await self._closed.wait()

    def close(self) -> None:
        """End all events: this process ends."""
        self._closed.set()
