"""Accounts by the million, each with a card, lots and a journal that `tillwire verify` accepts, in a minute.

A few openings are decided by the product's own Lua. Each account then gets a copy of one of them, with its own number,
card and request id, and the product's own code makes, links and seals its rows.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import asyncpg

from ledger.decision import Decider
from ledger.entries import EntryWriter, Memo, next_link
from ledger.hot_store import Decided
from ledger.operations import Operation
from ledger.programme import Programme
from ledger.states import State, first_state
from protocol import tokens
from protocol.codes import CardKind
from server.registers.answers import AnswerRenderer
from server.registers.dispatch import token_hash
from tests.measurements.premises import CURRENCY, RULES, Premises, card_of

_AT_ONCE = 5_000
_DAY_MS = 86_400_000
_ACTIVE = 1
#: Amounts of the first and second purchase and the days after which their points end (0 = never), cycled through.
_KINDS = ((20_000, 0, 0, 0), (40_000, 365, 0, 0), (60_000, 365, 30_000, 700), (100_000, 30, 1_000, 0))
_NO_PROGRAMME = Programme.empty()


@dataclass(frozen=True, slots=True)
class Opening:
    """Where accounts are opened: everything that is the same for all."""

    network_id: int
    partner_id: int
    token_key: bytes
    seal_key: bytes
    now_ms: int


@dataclass(frozen=True, slots=True)
class Rows:
    """What goes into the three tables, as COPY takes it."""

    accounts: list[tuple[Any, ...]]
    cards: list[tuple[Any, ...]]
    entries: list[tuple[Any, ...]]


async def open_accounts(premises: Premises, count: int, progress: Callable[[int], None]) -> None:
    """Create accounts 0 .. count-1 (cards by `card_of`) with their journals in an empty database."""
    opening = Opening(
        premises.network_id, premises.partner_id, premises.keys.token_key, premises.keys.seal_key, _now_ms()
    )
    loop = asyncio.get_running_loop()
    connection = await asyncpg.connect(premises.postgres.url, server_settings={"synchronous_commit": "off"})
    done = 0
    # While PostgreSQL takes one part, the next ones are made: two of each at most, so that memory stays small.
    with ProcessPoolExecutor(max(1, (os.cpu_count() or 2) - 1)) as makers:
        try:
            parts = iter(range(0, count, _AT_ONCE))
            making = [_made(loop, makers, opening, first, count) for first in islice(parts, 2)]
            while making:
                rows = await making.pop(0)
                making += [_made(loop, makers, opening, first, count) for first in islice(parts, 1)]
                await _copy(connection, rows)
                done += len(rows.accounts)
                progress(done)
            await connection.execute(
                "SELECT setval(pg_get_serial_sequence('account', 'account_id'), (SELECT max(account_id) FROM account))"
            )
            # What is measured afterwards is a programme at rest, not one that was filled a moment ago.
            await connection.execute("ANALYZE")
            await connection.execute("CHECKPOINT")
        finally:
            await connection.close()


def _made(
    loop: asyncio.AbstractEventLoop, makers: ProcessPoolExecutor, opening: Opening, first: int, count: int
) -> asyncio.Future[Rows]:
    return loop.run_in_executor(makers, make_rows, opening, first, min(first + _AT_ONCE, count))


async def _copy(connection: asyncpg.Connection[Any], rows: Rows) -> None:
    columns = ("account_id", "seq", "link", "balance", "held", "owed", "due_ms", "state")
    async with connection.transaction():
        await connection.copy_records_to_table("account", columns=columns, records=rows.accounts)
        columns = ("token", "account_id", "kind", "masked", "status")
        await connection.copy_records_to_table("card", columns=columns, records=rows.cards)
        await connection.copy_records_to_table("entry", records=rows.entries)


def make_rows(opening: Opening, first: int, end: int) -> Rows:
    """Return the rows of the accounts first .. end-1. Their numbers in the database are one higher."""
    writer = EntryWriter(AnswerRenderer(lambda: _NO_PROGRAMME, lambda: opening.now_ms), opening.seal_key)
    kinds = [_Kind(opening, *kind) for kind in _KINDS]
    rows = Rows([], [], [])
    for number in range(first, end):
        account, card = number + 1, card_of(number)
        assert card.token is not None
        token = token_hash(card.token, opening.token_key)
        batch = writer.journaling([kinds[number % len(kinds)].decided(account, token)]).batch
        rows.cards.append((token, account, int(CardKind.EAN13), tokens.masked(card.token), _ACTIVE))
        rows.accounts.extend(batch.account_records())
        rows.entries.extend(batch.entry_records())
    return rows


class _Kind:
    """One opening, decided once, to be copied."""

    def __init__(self, opening: Opening, *purchases: int) -> None:
        decider = Decider()
        packed = first_state(0, [(b"t" * 16, _ACTIVE)])
        self._results: list[list[Any]] = []
        today = opening.now_ms // _DAY_MS
        memo = Memo(bytes(8), opening.network_id, CURRENCY, "opening").packed()
        for position in range(0, len(purchases), 2):
            amount, days = purchases[position : position + 2]
            if amount:
                expiry_day = today + days if days else 0
                asked = [
                    int(Operation.EARN), bytes([position]) * 16, b"t" * 16, 0, opening.partner_id, opening.now_ms,
                    today, True, True, True, 0, amount, -1, False, False, 0, -1, today, expiry_day, False, 0, False,
                    memo, opening.now_ms,
                ]  # fmt: skip
                result, packed = decider.decide(packed, asked, RULES.terms)
                self._results.append(result)
        self._state = State.unpacked(packed)
        ends = [until for _, until, _, _ in self._state.lots if until]
        self._due_ms = (min(ends) + 1) * _DAY_MS if ends else 0

    def decided(self, account: int, token: bytes) -> Decided:
        """Return the decision as if this account had asked."""
        link, results, ring = 0, [], []
        for result in self._results:
            request_id = os.urandom(16)
            entries = []
            for entry in result[6]:
                own = [*entry[:2], request_id, *entry[3:]]
                link = next_link(link, own)
                entries.append([*own, link])
                ring.append(request_id)
            results.append([*result[:6], entries, account, result[8]])
        state = replace(self._state, account=account, tokens={token: _ACTIVE}, ring=ring)
        change = (
            account, 0, 0, state.seq, link, state.balance, state.held, state.owed, self._due_ms, state.packed(),
        )  # fmt: skip
        return Decided(1, results, [change])


def _now_ms() -> int:
    return int(time.time() * 1000)
