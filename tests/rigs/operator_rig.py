"""Operators at the ledger of tests/rigs/ledger_rig.py: the desk, and answers to read."""

from __future__ import annotations

import os
from collections.abc import Awaitable
from typing import Any

import msgpack

from ledger.clock import SystemClock
from ledger.journal.enrolment import NewCard
from ledger.ledger import Ledger
from ledger.operations import Operation
from ledger.operator_desk import Decided, OperatorDesk
from tests.rigs.ledger_rig import ACTIVE, Reply, Rig, token_of


def desk_at(ledger: Ledger) -> OperatorDesk:
    return OperatorDesk(ledger, SystemClock(), patience_s=30.0)


def new_id() -> bytes:
    return os.urandom(16)


def new_card(card: int, kind: int = 4) -> NewCard:
    return NewCard(token_of(card), kind, f"…{card}", ACTIVE)


def read(decided: Decided) -> Reply:
    outcome, points, earned, balance, detail, greeting = msgpack.unpackb(decided.body)
    return Reply(outcome, points, earned, balance, detail, decided.replayed, decided.body, None, greeting)


async def reply(asked: Awaitable[Decided]) -> Reply:
    return read(await asked)


async def account_of(rig: Rig, card: int) -> int:
    async with rig.database() as connection:
        return int(await connection.fetchval("SELECT account_id FROM card WHERE token = $1", token_of(card)))


async def cards_of(rig: Rig, account: int) -> dict[bytes, tuple[int, int, str]]:
    """Return status, kind and masked number of the account's cards by token."""
    async with rig.database() as connection:
        rows = await connection.fetch("SELECT token, status, kind, masked FROM card WHERE account_id = $1", account)
    return {row["token"]: (row["status"], row["kind"], row["masked"]) for row in rows}


async def balance_of(rig: Rig, ledger: Ledger, card: int) -> list[Any]:
    answer = await rig.insist(ledger, rig.submission(Operation.BALANCE, card))
    assert answer.outcome == 0
    assert answer.balance is not None
    return answer.balance


async def merge(ledger: Ledger, source: int, target: int) -> tuple[Reply, Reply]:
    desk, out_id = desk_at(ledger), new_id()
    out = await reply(desk.merge_out(out_id, source, "merge"))
    return out, await reply(desk.merge_in(new_id(), target, out_id, "merge"))
