"""Fills an empty database with accounts, cards and their journal: by several processes, with COPY."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing import get_context, parent_process
from typing import Any

import asyncpg

from ledger.entries import EntryWriter
from ledger.journal.writer import Batch
from ledger.programme import Programme
from ledger.standby import StandbyStores
from protocol import tokens
from protocol.codes import CardKind
from server.population.history import history, variety
from server.population.specimen import Origin, Specimen
from server.programme_setup import numbered_card
from server.registers.answers import AnswerRenderer
from server.registers.dispatch import token_hash

_ENTRIES_AT_ONCE = 10_000
_QUEUED = 2
_ACTIVE = 1
_ACCOUNT_COLUMNS = ("account_id", "seq", "link", "balance", "held", "owed", "due_ms", "state")
_CARD_COLUMNS = ("token", "account_id", "kind", "masked", "status")
# Where a row has its moves: as the text of an array, while COPY wants the numbers.
_MOVES = 19


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

    `progress` is told how many there are. Raises what asyncpg raises; what was committed until then stays.
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
            makers.shutdown(wait=False, cancel_futures=True)
            raise
    asyncio.run(_settle(postgres_url))


async def _settle(postgres_url: str) -> None:
    """Leave a database at rest, not one that was filled a moment ago and has its housekeeping before it."""
    connection = await asyncpg.connect(postgres_url)
    try:
        await connection.execute(
            "SELECT setval(pg_get_serial_sequence('account', 'account_id'), (SELECT max(account_id) FROM account))"
        )
        for table in ("account", "card", "entry"):
            await connection.execute(f"VACUUM (ANALYZE) {table}")
        await connection.execute("CHECKPOINT")
    finally:
        await connection.close()


class _Maker:
    """What one process keeps between its parts."""

    def __init__(self, postgres_url: str, plan: Plan) -> None:
        self._plan = plan
        self._runner = asyncio.Runner()
        self._connection: asyncpg.Connection[Any] = self._runner.run(
            asyncpg.connect(postgres_url, server_settings={"synchronous_commit": "off"})
        )
        self._specimens: list[Specimen] = self._runner.run(self._live())

    async def _live(self) -> list[Specimen]:
        plan = self._plan
        nothing = Programme.empty()
        writer = EntryWriter(AnswerRenderer(lambda: nothing, lambda: plan.now_ms), plan.seal_key)
        store = StandbyStores(accounts_max=1).make()
        pasts = [history(kind, plan.lots, plan.entries_min, plan.now_ms) for kind in range(variety(plan.lots))]
        return [await Specimen.live(past, plan.origin, writer, store) for past in pasts]

    def make(self, first: int) -> int:
        end = min(first + self._plan.accounts_at_once, self._plan.accounts)
        self._runner.run(self._copy(first, end))
        return end - first

    async def _copy(self, first: int, end: int) -> None:
        accounts: list[tuple[Any, ...]] = []
        cards: list[tuple[Any, ...]] = []
        entries: list[tuple[Any, ...]] = []
        plan, specimens = self._plan, self._specimens
        for number in range(first, end):
            account, card = number + 1, numbered_card(number)
            canonical = card.token or ""
            token = token_hash(canonical, plan.token_key)
            specimen = specimens[number % len(specimens)]
            batch = specimen.copy(account, token, _ids(number, plan.accounts, specimen.requests))
            cards.append((token, account, int(CardKind.EAN13), tokens.masked(canonical), _ACTIVE))
            accounts.extend(_account_rows(batch))
            entries.extend(_entry_rows(batch))
        copy = self._connection.copy_records_to_table
        async with self._connection.transaction():
            await copy("account", columns=_ACCOUNT_COLUMNS, records=accounts)
            await copy("card", columns=_CARD_COLUMNS, records=cards)
            await copy("entry", records=entries)


_maker: _Maker


def _begin(postgres_url: str, plan: Plan) -> None:
    global _maker  # noqa: PLW0603 - the pool has no other place for what a process keeps
    # Ctrl-C reaches the whole group; the parent alone decides what to do about it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _maker = _Maker(postgres_url, plan)


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _make(first: int) -> int:
    return _maker.make(first)


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


def _account_rows(batch: Batch) -> Iterator[tuple[Any, ...]]:
    for account, _, _, seq, link, balance, held, owed, due_ms, state in batch.accounts.values():
        yield account, seq, link, balance, held, owed, due_ms or None, state


def _entry_rows(batch: Batch) -> Iterator[tuple[Any, ...]]:
    for row in batch.entries:
        moves = [int(number) for number in row[_MOVES][1:-1].split(",") if number]
        yield (*row[:_MOVES], moves, *row[_MOVES + 1 :])
