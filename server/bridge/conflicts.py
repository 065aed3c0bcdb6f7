"""What a relay approved and the ledger declined goes on the operators' list before the relay hears of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import structlog

from ledger.journal.writer import JournalDown
from ledger.relays import RelayConflict
from server.bridge.limits import BACKLOG_ITEMS_A_TURN

AT_ONCE: Final = 200
"""Conflicts of one transaction."""

_log = structlog.get_logger(subject="bridge")

Add = Callable[[Sequence[RelayConflict]], Awaitable[None]]
Told = Callable[[bool], None]
Requests = Sequence[tuple[bytes, int]]
Listed = Callable[[Requests], Awaitable[Mapping[tuple[bytes, int], int]]]
Found = Callable[[int | None], None]


class Conflicts:
    """Writes conflicts in the order of their coming, many at a time. Bounded by the requests that are under way.

    What stands on the list stays declined: people may have made up for it before a relay that lost the answer asks
    again.
    """

    def __init__(self, add: Add, listed: Listed) -> None:
        """Take the ledger's ways: `listed` returns why those of some requests (id, terminal) were declined."""
        self._add = add
        self._listed = listed
        self._asked: list[tuple[tuple[bytes, int], Found, Callable[[], None]]] = []
        self._asked_anew = asyncio.Event()
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

    def look_up(self, request_id: bytes, terminal_id: int, found: Found, unknown: Callable[[], None]) -> None:
        """Ask whether a request is on the list: `found` hears why it was declined, or None if it is not there.

        `unknown` is called instead if nobody knows now.
        """
        self._asked.append(((request_id, terminal_id), found, unknown))
        self._asked_anew.set()

    async def run_look_ups(self) -> None:
        """Look up until cancelled."""
        while True:
            await self._asked_anew.wait()
            part, self._asked = self._asked[:AT_ONCE], self._asked[AT_ONCE:]
            if not self._asked:
                self._asked_anew.clear()
            listed = await self._look([request for request, _, _ in part])
            for number, (request, found, unknown) in enumerate(part, 1):
                if listed is None:
                    unknown()
                else:
                    found(listed.get(request))
                if number % BACKLOG_ITEMS_A_TURN == 0:
                    # Each of them is a request on its way to the ledger; live ones go between.
                    await asyncio.sleep(0)

    async def _look(self, requests: Requests) -> Mapping[tuple[bytes, int], int] | None:
        try:
            return await self._listed(requests)
        except JournalDown as error:
            _log.warning("conflicts could not be read", count=len(requests), reason=str(error))
            return None
        except Exception:  # noqa: BLE001 - as for those that are written
            _log.exception("conflicts could not be read", count=len(requests))
            return None

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
