"""Brings to an end what was begun when the process died: adjustments that were approved, merges half made."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from admin_api.accounts.adjustments import finish_approved
from admin_api.accounts.merges import finish_merges
from admin_api.office import Office
from ledger.journal.writer import JournalDown

EVERY_S = 30

_log = structlog.get_logger(subject="finishing")


class Finishing:
    """The background work of the admin process on what was left unfinished; `run` is one task."""

    def __init__(self, office: Office) -> None:
        self._office = office

    async def run(self) -> None:
        """Work until cancelled; PostgreSQL away is waited for."""
        while True:
            await self.once()
            await asyncio.sleep(EVERY_S)

    async def once(self) -> int:
        """Go through all that is unfinished; return how much came to its end."""
        works: tuple[tuple[str, Callable[[Office], Awaitable[int]]], ...] = (
            ("adjustments", finish_approved),
            ("merges", finish_merges),
        )
        ended = 0
        for what, finish in works:
            try:
                count = await finish(self._office)
            except JournalDown:
                continue
            ended += count
            if count:
                _log.info("finished what was left unfinished", what=what, count=count)
        return ended
