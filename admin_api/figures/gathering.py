"""Keeps the operators' figures: rolls the journal up, samples the process, adds up accounts, thins what is old.

Everything here may stop at any moment and be run again, by another process too: a step computes from the journal, or
replaces rows by their sum in one transaction that also remembers how far it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from admin_api.figures.sampling import Scrape, figures_between, scrape
from admin_api.office import Office
from ledger.journal.writer import JournalDown
from ledger.registry import figures
from ledger.registry.registry import Conflict

SAMPLE_S = 5
ROLL_UP_S = 10
STANDING_S = 600
THIN_S = 60
#: A minute is computed anew until it is this old: entries of it may be committed that much later.
CLOSED_AFTER_MINUTES = 5
#: After a pause the roll-up goes on in steps of so many minutes, so that no statement takes long.
STEP_MINUTES = 60
#: How far back the roll-up begins in an installation whose figures were never gathered.
BACK_MINUTES_MAX = 400 * 1_440
#: Eight days, so that a figure can be held against the same time of day of a week.
KEEP_MINUTES = 8 * 1_440
KEEP_SAMPLES_MS = 8 * 86_400_000
_HOUR_MINUTES = 60
_FIVE_MINUTES_MS = 300_000
_MS_PER_MINUTE = 60_000
#: Thinning takes so many steps at a time, and then lets others work.
_THIN_STEPS_MAX = 24
_FLOW = "flow"
_BY_MINUTE = ("tally", "network_tally", "flow", "network_flow")

_log = structlog.get_logger(subject="figures")


class Gathering:
    """The background work of the admin process on figures; `run` is one task."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self._before: Scrape | None = None
        self._step_minutes = STEP_MINUTES

    async def run(self) -> None:
        """Work until cancelled; PostgreSQL away is waited for."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._forever(SAMPLE_S, self.sample), name="figures-sample")
            group.create_task(self._forever(ROLL_UP_S, self.roll_up), name="figures-flow")
            group.create_task(self._forever(STANDING_S, self.stand), name="figures-standing")
            group.create_task(self._forever(THIN_S, self.thin), name="figures-thin")

    async def sample(self) -> None:
        """Keep what the process measured since the last sample; the first call only begins."""
        before, now_ms = self._before, self._office.clock.now_ms()
        text = await asyncio.to_thread(self._office.installation.metrics)
        self._before = scrape(text, now_ms)
        if before is not None and before.at_ms < now_ms:
            async with self._office.registry.writing() as transaction:
                await figures.add_sample(transaction, now_ms, figures_between(before, self._before))

    async def roll_up(self) -> None:
        """Compute the minutes that are not closed yet, all that is missing included."""
        try:
            begin = await self._roll_up_step(None)
            while begin is not None:
                begin = await self._roll_up_step(begin)
                self._step_minutes = min(STEP_MINUTES, self._step_minutes * 2)
        except JournalDown:
            # Perhaps it was too much at once.
            self._step_minutes = max(1, self._step_minutes // 4)
            raise

    async def _roll_up_step(self, begin: int | None) -> int | None:
        """Compute some minutes and remember that; return with which one to go on, None after this minute's.

        Without a beginning, that is the first minute that is not closed.
        """
        minute = self._office.clock.now_ms() // _MS_PER_MINUTE
        async with self._office.registry.writing() as transaction:
            if begin is None:
                begin = await figures.mark(transaction, _FLOW)
            if begin is None:
                first = await figures.first_minute(transaction)
                begin = minute if first is None else max(first, minute - BACK_MINUTES_MAX)
            end = min(begin + self._step_minutes, minute + 1)
            await figures.roll_up(transaction, begin, end)
            closed = min(end, minute - CLOSED_AFTER_MINUTES)
            # A mark never goes back, so a clock that was set back does not make closed minutes open again.
            await figures.set_mark(transaction, _FLOW, closed)
        return end if end <= minute else None

    async def stand(self) -> None:
        """Add up all accounts and cards; with ten million accounts that takes seconds."""
        async with self._office.registry.writing() as transaction:
            await figures.add_standing(transaction, self._office.clock.now_ms())

    async def thin(self) -> None:
        """Make hours of the minutes, and five minutes of the samples, that are older than eight days."""
        now_ms = self._office.clock.now_ms()
        minute = now_ms // _MS_PER_MINUTE
        for what in _BY_MINUTE:
            await self._thin(what, _HOUR_MINUTES, minute - KEEP_MINUTES)
        await self._thin("sample", _FIVE_MINUTES_MS, now_ms - KEEP_SAMPLES_MS)

    async def _thin(self, what: str, step: int, limit: int) -> None:
        for _ in range(_THIN_STEPS_MAX):
            async with self._office.registry.writing() as transaction:
                begin = await figures.mark(transaction, f"thin {what}")
                if begin is None:
                    begin = await figures.oldest(transaction, what)
                if begin is None:
                    return
                begin -= begin % step
                if what.endswith(_FLOW):
                    # What is still to be rolled up must not be thinned under way.
                    limit = min(limit, await figures.mark(transaction, _FLOW) or 0)
                if begin + step > limit:
                    return
                await figures.thin(transaction, what, begin)
                await figures.set_mark(transaction, f"thin {what}", begin + step)

    async def _forever(self, interval_s: float, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await work()
            except (JournalDown, Conflict) as error:
                _log.warning("figures are not gathered at the moment", reason=str(error))
            await asyncio.sleep(interval_s)
