"""Fills an empty database with accounts, cards and their journal: by several processes, with COPY."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from functools import cache
from itertools import islice
from multiprocessing import get_context, parent_process

from admin_api.cards.card_numbers import new_card
from ledger.entries import EntryWriter
from ledger.journal.bulk import BulkWriter
from ledger.journal.enrolment import Enrolled
from ledger.journal.writer import Batch
from ledger.programme import Programme
from ledger.standby import StandbyStores
from protocol.codes import CardKind
from server.population.history import history, variety
from server.population.specimen import Origin, Specimen
from server.programme_setup import numbered_card
from server.registers.answers import AnswerRenderer

_ENTRIES_AT_ONCE = 10_000
_QUEUED = 2


@dataclass(frozen=True, slots=True)
class Plan:
    """What is made: so many accounts with so many lots on average, and at least so many rows of the journal in all.

    `now_ms` is milliseconds since 1970.
    """

    accounts: int
    lots: int
    journal_rows: int
    origin: Origin
    token_key: bytes = field(repr=False)
    seal_key: bytes = field(repr=False)
    now_ms: int = field(default_factory=lambda: int(time.time() * 1000))

    @property
    def entries_min(self) -> int:
        """Rows of the journal that an account has at least."""
        return -(-self.journal_rows // self.accounts)

    @property
    def accounts_at_once(self) -> int:
        """Accounts of one transaction."""
        return max(1, _ENTRIES_AT_ONCE // max(self.entries_min, self.lots))


def fill(postgres_url: str, plan: Plan, progress: Callable[[int], None]) -> None:
    """Create the accounts 1 .. `plan.accounts`, account i with `numbered_card(i - 1)`.

    `progress` is told how many there are. Raises JournalDown; what was committed until then stays.
    """
    done = 0
    # Started anew and not forked, so that this process may have threads and connections.
    with ProcessPoolExecutor(
        os.cpu_count() or 1, mp_context=get_context("spawn"), initializer=_begin, initargs=(postgres_url, plan)
    ) as makers:
        try:
            parts = iter(range(0, plan.accounts, plan.accounts_at_once))
            making = {makers.submit(_make, first) for first in islice(parts, _QUEUED * (os.cpu_count() or 1))}
            while making:
                finished, making = wait(making, return_when=FIRST_COMPLETED)
                making |= {makers.submit(_make, first) for first in islice(parts, len(finished))}
                done += sum(future.result() for future in finished)
                progress(done)
        except BaseException:
            # Whoever empties the database afterwards must not be followed by a part that was still under way.
            makers.shutdown(wait=True, cancel_futures=True)
            raise
    asyncio.run(_with_writer(postgres_url, BulkWriter.settle))


def clear(postgres_url: str) -> None:
    """Remove the programme and whatever accounts there are. Raises JournalDown."""
    asyncio.run(_with_writer(postgres_url, BulkWriter.clear))


async def _with_writer(postgres_url: str, work: Callable[[BulkWriter], Awaitable[None]]) -> None:
    writer = await BulkWriter.open(postgres_url)
    try:
        await work(writer)
    finally:
        await writer.close()


class _Maker:
    """What one process keeps between its parts."""

    def __init__(self, postgres_url: str, plan: Plan) -> None:
        self._plan = plan
        self._runner = asyncio.Runner()
        self._writer = self._runner.run(BulkWriter.open(postgres_url))
        self._specimens: list[Specimen] = self._runner.run(self._live())

    async def _live(self) -> list[Specimen]:
        plan = self._plan
        nothing = Programme.empty()
        writer = EntryWriter(AnswerRenderer(lambda: nothing, lambda: plan.now_ms), plan.seal_key)
        store = StandbyStores(accounts_max=1).make()
        kinds = range(min(variety(plan.lots), plan.accounts))
        pasts = [history(kind, plan.lots, plan.entries_min, plan.now_ms) for kind in kinds]
        return [await Specimen.live(past, plan.origin, writer, store) for past in pasts]

    def make(self, first: int) -> int:
        """Write one part of the accounts; return how many."""
        end = min(first + self._plan.accounts_at_once, self._plan.accounts)
        made = [self._copied(number) for number in range(first, end)]
        self._runner.run(self._writer.add((batch for batch, _ in made), (card for _, card in made)))
        return end - first

    def _copied(self, number: int) -> tuple[Batch, Enrolled]:
        account = number + 1
        card = new_card(CardKind.EAN13, numbered_card(number).value, self._plan.token_key, active=True)
        specimen = self._specimens[number % len(self._specimens)]
        batch = specimen.copy(account, card.token, _ids(number, self._plan.accounts, specimen.requests))
        return batch, Enrolled(account, card)


_given: tuple[str, Plan]


def _begin(postgres_url: str, plan: Plan) -> None:
    global _given  # noqa: PLW0603 - the pool has no other place for what a process keeps
    # Ctrl-C reaches the whole group; the parent alone decides what to do about it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _given = (postgres_url, plan)


@cache
def _maker() -> _Maker:
    # With the first part and not with the process: what fails here is told by a future.
    return _Maker(*_given)


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _make(first: int) -> int:
    return _maker().make(first)


def _ids(number: int, accounts: int, count: int) -> Iterator[bytes]:
    """Yield random request ids of one account, each from a part of all ids that is its own.

    So all of them together lie anywhere, and yet they come in the order of their index, which COPY then fills in a
    fraction of the time.
    """
    first, step = (number << 64) // accounts, 2**64 // (accounts * count)
    dice = os.urandom(16 * count)
    for at in range(count):
        own = dice[16 * at : 16 * at + 16]
        yield (first + at * step + int.from_bytes(own[:8], "big") % step).to_bytes(8, "big") + own[8:]
