"""What the store's thread does with the file: functions of a connection, in a transaction of the caller."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from protocol.answers import Balance
from protocol.messages import decode
from protocol.requests import Receipt, Request
from protocol.tokens import masked
from server.relay.store_errors import StoreFull
from server.relay.store_rows import (
    Advice,
    Allowance,
    AllowanceState,
    Conflict,
    Fate,
    Finish,
    KnownBalance,
    Queued,
    Remembered,
    Taken,
)
from server.relay.store_sql import statements

KEY_NAME: Final = "hash key"
"""Under which the store's own key is kept."""

_KEY_BYTES: Final = 32
_UNREADABLE: Final = "unreadable"


class Index(NamedTuple):
    """What is in memory as long as the store is open (`server.relay.store.Store`)."""

    known: set[bytes]
    queued: dict[bytes, int]
    reversed: dict[tuple[bytes, bytes], bytes]
    kept: dict[str, bytes]
    conflicts: int
    allowances: list[Allowance]


def load(connection: sqlite3.Connection) -> Index:
    """Read the index; make the store's key when there is none."""
    connection.execute(
        "INSERT INTO kept VALUES (?, ?) ON CONFLICT DO NOTHING", (KEY_NAME, secrets.token_bytes(_KEY_BYTES))
    )
    known, named = set(), {}
    for request_id, card, target, fate in connection.execute(statements()["answer_all"]):
        known.add(request_id)
        if target is not None and fate != Fate.CONFLICT:
            named[target, card] = request_id
    (conflicts,) = connection.execute(statements()["conflict_count"]).fetchone()
    return Index(
        known,
        dict(connection.execute(statements()["queued_taken"]).fetchall()),
        named,
        dict(connection.execute(statements()["kept_all"]).fetchall()),
        conflicts,
        all_allowances(connection),
    )


def take(connection: sqlite3.Connection, advices: Sequence[Advice]) -> list[Taken]:
    """Store advices that are new, and return what is stored of each. Raises StoreFull if an allowance is not there."""
    return [_take(connection, advice) for advice in advices]


def _take(connection: sqlite3.Connection, advice: Advice) -> Taken:
    row = (advice.request_id, advice.fingerprint, advice.card, advice.target, advice.body)
    if not connection.execute(statements()["answer_add"], row).rowcount:
        found = connection.execute(statements()["answer_find"], (advice.request_id,)).fetchone()
        return Taken(False, found[0], found[1])
    connection.execute(statements()["queued_add"], advice._asdict())
    if advice.hold_id is not None:
        turn = (AllowanceState.SPENT, advice.hold_id, AllowanceState.GRANTED)
        if not connection.execute(statements()["allowance_turn"], turn).rowcount:
            raise StoreFull("the allowance is not there any more")
    return Taken(True, advice.fingerprint, advice.body)


def find_answer(connection: sqlite3.Connection, request_id: bytes) -> Remembered | None:
    """Return the relay's own answer."""
    row = connection.execute(statements()["answer_find"], (request_id,)).fetchone()
    return None if row is None else Remembered(*row)


def find_queued(connection: sqlite3.Connection, seq: int, count: int) -> list[Queued]:
    """Return what is queued after `seq`."""
    return [Queued(*row) for row in connection.execute(statements()["queued_after"], (seq, count))]


class Finished(NamedTuple):
    """What `finish` changed: nothing if the request was not queued; `named` is the pair that a REVERSE closed."""

    queued: bool
    named: tuple[bytes, bytes] | None = None


def finish(connection: sqlite3.Connection, finishes: Sequence[Finish], conflicts_max: int) -> list[Finished]:
    """Take requests out of the queue."""
    return [_finish(connection, finish, conflicts_max) for finish in finishes]


def _finish(connection: sqlite3.Connection, finish: Finish, conflicts_max: int) -> Finished:
    change = (finish.fate, finish.answered_ms, finish.request_id)
    changed = connection.execute(statements()["answer_finish"], change).fetchone()
    dropped = connection.execute(statements()["queued_drop"], (finish.request_id,)).fetchone()
    if changed is None or dropped is None:
        return Finished(False)
    card, target = changed
    terminal, message, sale_ms, hold_id = dropped
    if hold_id is not None:
        _settle_allowance(connection, hold_id, finish.release)
    if finish.fate is Fate.CONFLICT:
        _add_conflict(connection, finish, terminal, message, sale_ms)
        connection.execute(statements()["conflict_trim"], (conflicts_max,))
    return Finished(True, None if target is None else (target, card))


def _settle_allowance(connection: sqlite3.Connection, hold_id: bytes, release: bool) -> None:
    if release:
        turn = (AllowanceState.RELEASING, hold_id, AllowanceState.SPENT)
        connection.execute(statements()["allowance_turn"], turn)
    else:
        connection.execute(statements()["allowance_drop"], (hold_id,))


def _add_conflict(connection: sqlite3.Connection, finish: Finish, terminal: str, message: bytes, sale_ms: int) -> None:
    request: Any = decode(message)
    assert isinstance(request, Request)  # noqa: S101 - only requests are queued
    receipt: Receipt = getattr(request, "receipt", Receipt(0, "", ""))
    row = Conflict(
        finish.request_id,
        terminal,
        int(request.op),
        _UNREADABLE if request.card.token is None else masked(request.card.token),
        getattr(request, "points", 0),
        receipt.amount,
        receipt.currency,
        receipt.reference,
        sale_ms,
        finish.answered_ms,
        finish.outcome,
        finish.error,
    )
    connection.execute(statements()["conflict_add"], row)


Forgotten = tuple[bytes, bytes, bytes | None]
"""Id and card of an answer, and what a REVERSE named."""


def list_conflicts(connection: sqlite3.Connection, count: int) -> list[Conflict]:
    """Return the latest conflicts, newest first."""
    return [Conflict(*row) for row in connection.execute(statements()["conflict_list"], (count,))]


def forget(connection: sqlite3.Connection, before_ms: int) -> list[Forgotten]:
    """Forget what headquarters answered before."""
    return connection.execute(statements()["answer_forget"], (before_ms,)).fetchall()


def put_balances(connection: sqlite3.Connection, balances: Mapping[bytes, KnownBalance], balances_max: int) -> None:
    """Keep balances, and of too many the latest."""
    rows = [(card, *known.balance, known.at_ms) for card, known in balances.items()]
    connection.executemany(statements()["balance_put"], rows)
    connection.execute(statements()["balance_trim"], (balances_max,))


def find_balance(connection: sqlite3.Connection, card: bytes) -> KnownBalance | None:
    """Return the last known balance of a card."""
    row = connection.execute(statements()["balance_find"], (card,)).fetchone()
    return None if row is None else KnownBalance(Balance(*row[:-1]), row[-1])


def add_allowance(connection: sqlite3.Connection, allowance: Allowance) -> None:
    """Write a new allowance; its card has no other one."""
    connection.execute(statements()["allowance_add"], (allowance.hold_id, allowance.card, *allowance[2:]))


def change_allowance(connection: sqlite3.Connection, allowance: Allowance) -> bool:
    """Write the state, points and times of an allowance; return whether it is there and not spent."""
    return connection.execute(statements()["allowance_change"], (*allowance[4:], allowance.hold_id)).rowcount > 0


def drop_allowance(connection: sqlite3.Connection, hold_id: bytes) -> None:
    """Erase an allowance."""
    connection.execute(statements()["allowance_drop"], (hold_id,))


def all_allowances(connection: sqlite3.Connection) -> list[Allowance]:
    """Return all allowances."""
    rows = connection.execute(statements()["allowance_all"])
    return [Allowance(*row)._replace(state=AllowanceState(row[4])) for row in rows]


def put_kept(connection: sqlite3.Connection, name: str, value: bytes) -> None:
    """Keep a small value."""
    connection.execute(statements()["kept_put"], (name, value))
