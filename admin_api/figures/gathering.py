"""Keeps the operators' figures: rolls the journal up, samples the process, adds up accounts, thins what is old.

Everything here may stop at any moment and be run again, by another process too: a step is one transaction that also
remembers how far it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from admin_api.figures.roll_up import RollUp
from admin_api.figures.sampling import Scrape, figures_between, scrape
from admin_api.office import Office
from ledger.journal.writer import JournalDown
from ledger.registry import figures
from ledger.registry.registry import Conflict

SAMPLE_S = 5
ROLL_UP_S = 10
STANDING_S = 600
THIN_S = 60
#: Eight days, so that a figure can be held against the same time of day of a week.
KEEP_MINUTES = 8 * 1_440
KEEP_SAMPLES_MS = 8 * 86_400_000
_HOUR_MINUTES = 60
_FIVE_MINUTES_MS = 300_000
_MS_PER_MINUTE = 60_000
#: Thinning takes so many steps at a time, and then lets others work.
_THIN_STEPS_MAX = 24
_BY_MINUTE = ("tally", "network_tally", "flow", "network_flow")

_log = structlog.get_logger(subject="figures")


class Gathering:
    """The background work of the admin process on figures; `run` is one task."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self._before: Scrape | None = None
        self._roll_up = RollUp(office)

    async def run(self) -> None:
        """Work until cancelled; PostgreSQL away is waited for."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._forever(SAMPLE_S, self.sample), name="figures-sample")
            group.create_task(self._forever(ROLL_UP_S, self._roll_up.run), name="figures-flow")
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
                if what.endswith(figures.FLOW):
                    # What is not closed may still be computed anew, minute by minute.
                    limit = min(limit, await figures.mark(transaction, figures.CLOSED) or 0)
                if begin + step > limit:
                    return
                if await figures.take_mark(transaction, f"thin {what}", begin) > begin:
                    continue
                await figures.thin(transaction, what, begin)
                await figures.set_mark(transaction, f"thin {what}", begin + step)

    async def _forever(self, interval_s: float, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await work()
            except (JournalDown, Conflict) as error:
                _log.warning("figures are not gathered at the moment", reason=str(error))
            await asyncio.sleep(interval_s)
