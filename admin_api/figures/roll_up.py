"""Rolls the journal up into flows by minute and store: each entry is added about once, and closed minutes are right.

What was decided since the last time is one slice, added in the transaction that moves the mark on. What was committed
after its slice was taken is missed by it; that shows when the minute is closed, and the minute is computed anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from admin_api.office import Office
from ledger.journal.writer import JournalDown
from ledger.registry import figures

#: What was decided so lately may not be committed yet, and waits for the next slice.
SETTLED_MS = 2_000
#: A minute is held against the journal, once and for all, when it is so old: entries may be committed that much later.
CLOSED_AFTER_MINUTES = 5
#: How far back the roll-up begins in an installation whose figures were never gathered.
BACK_MINUTES_MAX = 400 * 1_440
#: After a pause the roll-up goes on in steps of so many minutes, more or fewer by what the last one took.
STEP_MINUTES = 60
STEP_MINUTES_MAX = 1_440
#: A step that takes longer is halved, as others wait for the processor; one that takes a quarter of it is doubled.
_STEP_S = 0.5
_HOUR_MINUTES = 60
_MS_PER_MINUTE = 60_000

_log = structlog.get_logger(subject="figures")


class RollUp:
    """Brings flows up to the journal whenever `run` is called; several at once, in whatever processes, take turns."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self._step_minutes = STEP_MINUTES

    async def run(self) -> None:
        """Add what is new and close what is old enough, all that is missing included. Raises JournalDown."""
        for step in (self._add_slice, self._close_minutes):
            while await self._paced(step):
                pass

    async def _paced(self, step: Callable[[], Awaitable[bool]]) -> bool:
        """Do a step and choose the size of the next one; return whether there is one, after as long a rest."""
        clock = self._office.clock
        begin_s = clock.monotonic_s()
        try:
            more = await step()
        except JournalDown:
            # Perhaps it was too much at once.
            self._step_minutes = max(1, self._step_minutes // 4)
            raise
        took_s = clock.monotonic_s() - begin_s
        if took_s > _STEP_S:
            self._step_minutes = max(1, self._step_minutes // 2)
        elif took_s < _STEP_S / 4:
            self._step_minutes = min(STEP_MINUTES_MAX, self._step_minutes * 2)
        if more:
            await asyncio.sleep(took_s)
        return more

    async def _add_slice(self) -> bool:
        """Add one slice of the journal; return whether there is another one.

        A clock that was set back has no new slice until it is where it was; closing finds what is decided meanwhile.
        """
        now_ms = self._office.clock.now_ms()
        settled_ms = now_ms - SETTLED_MS
        async with self._office.registry.writing() as transaction:
            # Held until the commit: of two gatherers the second one begins where the first one ended.
            mark_ms = await figures.take_mark(transaction, figures.FLOW, now_ms - BACK_MINUTES_MAX * _MS_PER_MINUTE)
            if mark_ms >= settled_ms:
                return False
            begin_ms = min(await figures.first_entry_ms(transaction, mark_ms) or settled_ms, settled_ms)
            end_ms = min(begin_ms + self._step_minutes * _MS_PER_MINUTE, settled_ms)
            if begin_ms < end_ms:
                await figures.add_slice(transaction, begin_ms, end_ms)
            await figures.set_mark(transaction, figures.FLOW, end_ms)
        return end_ms < settled_ms

    async def _close_minutes(self) -> bool:
        """Hold minutes that are old enough against the journal, mend what differs; return whether there are more."""
        minute = self._office.clock.now_ms() // _MS_PER_MINUTE
        async with self._office.registry.writing() as transaction:
            begin = await figures.take_mark(transaction, figures.CLOSED, minute - BACK_MINUTES_MAX)
            if minute < begin:
                # The clock was set back, and closed minutes get entries again. Those may be of hours that are thinned,
                # which are right again if all their minutes are computed.
                _log.warning(
                    "the clock was set back: figures are held against the journal again", minutes=begin - minute
                )
                begin = minute - CLOSED_AFTER_MINUTES
                begin -= begin % _HOUR_MINUTES
            added_ms = await figures.mark(transaction, figures.FLOW) or 0
            last = min(minute - CLOSED_AFTER_MINUTES, added_ms // _MS_PER_MINUTE)
            if begin < last:
                first_ms = await figures.first_entry_ms(transaction, begin * _MS_PER_MINUTE)
                begin = last if first_ms is None else min(first_ms // _MS_PER_MINUTE, last)
            end = max(begin, min(begin + self._step_minutes, last))
            for differing in await figures.differing_minutes(transaction, begin, end):
                await figures.compute_minute(transaction, differing)
            await figures.set_mark(transaction, figures.CLOSED, end)
        return end < last
