"""What relays say of themselves, for the operators' eyes: the newest of each, written every few seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog

from ledger.journal.writer import JournalDown
from ledger.relays import RelayReport

INTERVAL_S: Final = 2.0

_log = structlog.get_logger(subject="bridge")


class Reports:
    """Keeps one report a relay until it is written."""

    def __init__(self, write: Callable[[Sequence[RelayReport]], Awaitable[None]]) -> None:
        self._write = write
        self._newest: dict[int, RelayReport] = {}

    def note(self, report: RelayReport) -> None:
        """Remember what a relay said last."""
        self._newest[report.relay_id] = report

    async def run(self) -> None:
        """Write now and then until cancelled."""
        while True:
            await asyncio.sleep(INTERVAL_S)
            await self.write()

    async def write(self) -> None:
        """Write what is new; what cannot be written now is tried again, if nothing newer has come by then."""
        reports, self._newest = self._newest, {}
        if not reports:
            return
        try:
            await self._write(list(reports.values()))
        except JournalDown as error:
            self._newest = {**reports, **self._newest}
            _log.info("what relays reported could not be written", reason=str(error))
