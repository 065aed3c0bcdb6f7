"""What a worker answered, added to PostgreSQL every few seconds by minute and store, for the operators' figures.

Nothing waits for it: while PostgreSQL is away counts are kept up to a bound, and a worker that dies takes the last
seconds along. A commit whose confirmation was lost is asked for before its counts are sent again, so none counts twice.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter

import structlog

from ledger.clock import Clock
from ledger.journal.postgres import Postgres
from ledger.journal.writer import JournalDown
from ledger.registry import figures
from ledger.registry.figures import TallyRow
from ledger.registry.registry import Conflict, Registry
from server.observation.metrics import Metrics

INTERVAL_S = 5
#: Rows kept while PostgreSQL is away: all stores, operations and outcomes of some minutes. What is more is not kept.
ROWS_MAX = 100_000
_TIMEOUT_S = 10.0
_FINISH_S = 2.0
_MS_PER_MINUTE = 60_000

_log = structlog.get_logger(subject="tallies")


class Tallies:
    """Takes the answers from a worker's metrics and adds them to office.tally."""

    def __init__(self, metrics: Metrics, postgres: Postgres, clock: Clock) -> None:
        self._metrics = metrics
        self._registry = Registry(postgres, connections_max=1, timeout_s=_TIMEOUT_S)
        self._clock = clock
        self._counts: Counter[tuple[int, int, int, int]] = Counter()
        #: What was sent and not confirmed, and the transaction that took it, if it is known.
        self._sent: list[TallyRow] = []
        self._transaction: str | None = None
        self.dropped_rows = 0

    async def run(self) -> None:
        """Work until cancelled; never fails for want of PostgreSQL."""
        try:
            while True:
                # Intervals end with the minute, so that what is taken belongs to one minute.
                await asyncio.sleep(INTERVAL_S - self._clock.now_ms() / 1000 % INTERVAL_S)
                self.take()
                await self._try_to_send()
        finally:
            await self._registry.close()

    async def finish(self) -> None:
        """Send the rest before the worker ends, if it can be done soon."""
        self.take()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FINISH_S):
                await self._try_to_send()
        await self._registry.close()

    def take(self) -> None:
        """Take what was answered since the last call, for the minute in which the interval lay."""
        minute = (self._clock.now_ms() - INTERVAL_S * 500) // _MS_PER_MINUTE
        for key, count in self._metrics.take_answered().items():
            if len(self._counts) >= ROWS_MAX and (minute, *key) not in self._counts:
                self.dropped_rows += 1
            else:
                self._counts[minute, *key] += count

    async def send(self) -> None:
        """Add what was taken to PostgreSQL. Raises JournalDown; then the same is tried again at the next call."""
        if self._sent and await self._was_committed():
            self._sent = []
        self._transaction = None
        if not self._sent:
            self._sent = [TallyRow(*key, count) for key, count in sorted(self._counts.items())]
            self._counts.clear()
        if not self._sent:
            return
        async with self._registry.writing() as transaction:
            self._transaction = await figures.transaction_id(transaction)
            await figures.add_tallies(transaction, self._sent)
        self._sent = []

    async def _was_committed(self) -> bool:
        if self._transaction is None:
            return False
        async with self._registry.reading() as transaction:
            return await figures.was_committed(transaction, self._transaction)

    async def _try_to_send(self) -> None:
        try:
            await self.send()
        except JournalDown as error:
            _log.warning("answers are not counted in PostgreSQL at the moment", reason=str(error))
        except Conflict as error:
            # Rows that PostgreSQL will never take must not hold up all that follow.
            _log.error("answers of some seconds are not counted", reason=str(error), rows=len(self._sent))
            self._sent, self._transaction = [], None
