"""Figures: what workers answered, what the journal says of the same minutes, samples of the process, sums of accounts.

Minutes are counted since 1970 UTC; points and money are minor units.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from ledger.operations import Operation
from ledger.registry.registry import Row, Transaction
from ledger.registry.statements import statements

#: Operations that stand for one receipt each; a redemption's receipt comes again with what it earns.
RECEIPTS = (int(Operation.EARN), int(Operation.SALE))
#: Marks of the roll-up: the first ms of the journal that is not in the flow, the first minute that is not closed.
FLOW = "flow"
CLOSED = "flow closed"
_ROLL_UP_S = 30
#: The newest of the journal is in no statistics yet: taken for one row, it would be sorted where groups fit in memory.
_NEVER_SORT = "SET LOCAL enable_sort = off"


class TallyRow(NamedTuple):
    """Answers of one minute, store, operation and outcome."""

    minute: int
    store_id: int
    op: int
    outcome: int
    answers: int


class Scope(NamedTuple):
    """Whose figures: of one store, of one network, of one partner, or of all where None."""

    partner_id: int | None = None
    network_id: int | None = None
    store_id: int | None = None


#: Spans of minutes: their beginnings, and their ends, which do not belong to them.
Spans = tuple[Sequence[int], Sequence[int]]


async def transaction_id(transaction: Transaction) -> str:
    """Return the name of this transaction, for `was_committed`."""
    return str(await transaction.fetchval(_sql("transaction_id")))


async def was_committed(transaction: Transaction, name: str) -> bool:
    """Return whether a transaction was committed; one that PostgreSQL has forgotten is taken as so."""
    return bool(await transaction.fetchval(_sql("was_committed"), name))


async def add_tallies(transaction: Transaction, rows: Iterable[TallyRow]) -> None:
    """Add counts to what is there."""
    columns = list(zip(*rows, strict=True))
    await transaction.execute(_sql("add_tallies"), *columns)


async def mark(transaction: Transaction, what: str) -> int | None:
    """Return how far a gathering is: the first minute (or millisecond) that is not done; None before the first time."""
    found: int | None = await transaction.fetchval(_sql("mark"), what)
    return found


async def take_mark(transaction: Transaction, what: str, first: int) -> int:
    """Like `mark`, with `first` before the first time; others who take it wait until this transaction ends."""
    return int(await transaction.fetchval(_sql("take_mark"), what, first))


async def set_mark(transaction: Transaction, what: str, until: int) -> None:
    """Remember how far a gathering is; the mark must have been taken."""
    await transaction.execute(_sql("set_mark"), what, until)


async def first_entry_ms(transaction: Transaction, from_ms: int) -> int | None:
    """Return when the first entry of the journal was decided, of those decided then or later; None without any."""
    found: int | None = await transaction.fetchval(_sql("first_entry_ms"), from_ms)
    return found


async def add_slice(transaction: Transaction, from_ms: int, to_ms: int) -> None:
    """Add to the flow what the journal has of this time; `to_ms` does not belong to it."""
    await transaction.execute(_NEVER_SORT)
    await transaction.execute(_sql("add_slice"), from_ms, to_ms, RECEIPTS, timeout=_ROLL_UP_S)


async def differing_minutes(transaction: Transaction, from_minute: int, to_minute: int) -> list[int]:
    """Return the minutes of which the flow has not all entries; `to_minute` does not belong to those looked at."""
    await transaction.execute(_NEVER_SORT)
    rows = await transaction.fetch(_sql("differing_minutes"), from_minute, to_minute, timeout=_ROLL_UP_S)
    return [row["minute"] for row in rows]


async def compute_minute(transaction: Transaction, minute: int) -> None:
    """Compute the flow of a minute anew from the journal."""
    await transaction.execute(_sql("delete_minute"), minute)
    await add_slice(transaction, minute * 60_000, (minute + 1) * 60_000)


async def add_sample(transaction: Transaction, at_ms: int, figures: Mapping[str, float]) -> None:
    """Keep a sample of the process."""
    await transaction.execute(_sql("add_sample"), at_ms, orjson.dumps(figures).decode())


async def last_sample(transaction: Transaction) -> Row | None:
    """Return the latest at_ms and its figures (JSON)."""
    row: Row | None = await transaction.fetchrow(_sql("last_sample"))
    return row


async def add_standing(transaction: Transaction, at_ms: int) -> bool:
    """Add up all accounts and cards, slowly and one at a time; return whether it was done here."""
    if not await transaction.fetchval(_sql("only_one_standing")):
        return False
    # On one core, and not for ever: registers come first.
    await transaction.execute("SET LOCAL max_parallel_workers_per_gather = 0; SET LOCAL statement_timeout = '120s'")
    await transaction.execute(_sql("add_standing"), at_ms, timeout=130)
    return True


async def last_standing(transaction: Transaction) -> Row | None:
    """Return the latest sums: at_ms, accounts, balance, held, owed, cards_issued, cards_active."""
    row: Row | None = await transaction.fetchrow(_sql("last_standing"))
    return row


async def oldest(transaction: Transaction, what: str) -> int | None:
    """Return the minute at which a table of tallies or flows begins, the ms at which `sample` does; None if empty."""
    found: int | None = await transaction.fetchval(_sql(f"oldest_{what}"))
    return found


async def thin(transaction: Transaction, what: str, beginning: int) -> None:
    """Make one row of an hour's rows (of five minutes' of `sample`) per what they are about.

    `beginning` is a minute, of samples a millisecond. Done again it changes nothing.
    """
    await transaction.execute(_sql(f"thin_{what}"), beginning)


async def tallies(transaction: Transaction, spans: Spans, step: int, offset: int, scope: Scope) -> list[Row]:
    """Return answers as (step, outcome, count); steps are minutes, `offset` says where the grid of steps lies."""
    return await _of_scope(transaction, "tallies", spans, step, offset, scope)


async def flows(transaction: Transaction, spans: Spans, step: int, offset: int, scope: Scope) -> list[Row]:
    """Return what the journal says as (step, issued, spent, expired, receipts, amount, activated)."""
    return await _of_scope(transaction, "flows", spans, step, offset, scope)


async def samples(transaction: Transaction, spans_ms: Spans, step_ms: int, offset_ms: int) -> list[Row]:
    """Return samples by step of `step_ms`: means of rates, worst of latencies, queue and lag."""
    return list(await transaction.fetch(_sql("samples"), *spans_ms, step_ms, offset_ms))


async def standings(transaction: Transaction, spans_ms: Spans, step_ms: int, offset_ms: int) -> list[Row]:
    """Return the last sums of each step."""
    return list(await transaction.fetch(_sql("standings"), *spans_ms, step_ms, offset_ms))


async def currencies(transaction: Transaction, scope: Scope) -> list[str]:
    """Return the currencies of the networks in scope; none if there is no such network or store."""
    return [row["currency"] for row in await transaction.fetch(_sql("currencies"), *scope)]


async def places(transaction: Transaction, partner_id: int | None) -> list[Row]:
    """Return networks and stores as (network_id, network, currency, store_id, store), by name."""
    return list(await transaction.fetch(_sql("places"), partner_id))


async def beginnings(transaction: Transaction) -> Row:
    """Return what is there already: partners, stores, terminals, cards, entries (each true or false)."""
    row: Any = await transaction.fetchrow(_sql("beginnings"))
    return dict(row)


async def _of_scope(
    transaction: Transaction, what: str, spans: Spans, step: int, offset: int, scope: Scope
) -> list[Row]:
    name, more = (f"{what}_of_networks", scope[:2]) if scope.store_id is None else (f"{what}_of_store", scope)
    return list(await transaction.fetch(_sql(name), *spans, step, offset, *more))


def _sql(name: str) -> str:
    return statements("figures")[name]
