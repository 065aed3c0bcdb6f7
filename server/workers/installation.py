"""The running installation as the admin process sees it: the supervisor beside it, and the numbers of all workers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

from ledger.clock import Clock
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

    def __init__(self, link: ProcessLink, clock: Clock) -> None:
        self._link = link
        self._clock = clock

    async def health(self) -> Mapping[str, Any]:
        """Ask the supervisor; one that does not answer in time is not alive."""
        told = await ask_health(self._link.folder, HEALTH_TIMEOUT_S)
        return _HUNG if told is None else told

    def metrics(self) -> bytes:
        """Add up the numbers of all processes."""
        return added_up(metrics_folder(self._link.folder))

    def drain(self) -> None:
        """Let the supervisor end everything in an orderly way."""
        self._link.drain_supervisor()

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        """Yield health with its moment, once a second."""
        while True:
            yield {"at_ms": self._clock.now_ms(), **await self.health()}
            await asyncio.sleep(_EVENT_INTERVAL_S)
