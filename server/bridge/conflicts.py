"""What a relay approved and the ledger declined goes on the operators' list before the relay hears of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog

from ledger.journal.writer import JournalDown
from ledger.relays import RelayConflict

AT_ONCE: Final = 200
"""Conflicts of one transaction."""

_log = structlog.get_logger(subject="bridge")

Add = Callable[[Sequence[RelayConflict]], Awaitable[None]]
Told = Callable[[bool], None]


class Conflicts:
    """Writes conflicts in the order of their coming, many at a time. Bounded by the requests that are under way."""

    def __init__(self, add: Add) -> None:
        self._add = add
        self._waiting: list[tuple[RelayConflict, Told]] = []
        self._arrived = asyncio.Event()

    def note(self, conflict: RelayConflict, told: Told) -> None:
        """Write a conflict; `told` hears True when it is committed, False when nobody knows."""
        self._waiting.append((conflict, told))
        self._arrived.set()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._arrived.wait()
            part, self._waiting = self._waiting[:AT_ONCE], self._waiting[AT_ONCE:]
            if not self._waiting:
                self._arrived.clear()
            committed = await self._write([conflict for conflict, _ in part])
            for _, told in part:
                told(committed)

    async def _write(self, conflicts: list[RelayConflict]) -> bool:
        try:
            await self._add(conflicts)
        except JournalDown as error:
            _log.warning("conflicts could not be written", count=len(conflicts), reason=str(error))
            return False
        except Exception:  # noqa: BLE001 - a relay that was removed meanwhile must not stop the others' conflicts
            _log.exception("conflicts could not be written", count=len(conflicts))
            return False
        return True
