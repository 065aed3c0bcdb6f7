"""Conflicts: what a store's relay approved while it was alone, and headquarters then declined. People settle them."""

from __future__ import annotations

from dataclasses import replace
from enum import IntEnum
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from admin_api.coalition.coalition import seen_partner
from admin_api.fields import BIGINT_MAX, Asked, Note, Told
from admin_api.office import Office
from admin_api.paging import Page, Position
from admin_api.problem import conflict, not_found
from admin_api.security.actor import Actor
from admin_api.security.auditing import audited
from admin_api.security.permissions import Permission
from admin_api.security.reach import check_reach
from ledger.operations import Operation
from ledger.registry import conflicts
from ledger.registry.conflicts import Wanted
from ledger.registry.registry import Row, Transaction
from protocol.codes import ErrorCode, Outcome

ConflictState = Literal["open", "settled"]
_ANY = Position()


class Conflict(Told):
    """A request that a register was told "approved" by its relay, and that changed nothing after all.

    `outcome` is the decline's name, or that of the error. `card` (masked), `account_id` and what was noted when it was
    settled are for those who may see accounts; a partner's people are told none of them.
    """

    conflict_id: int
    state: ConflictState
    request_id: str
    relay_id: int
    relay: str
    terminal: str
    store_id: int
    store: str
    network_id: int
    network: str
    partner_id: int
    operation: str
    outcome: str
    card: str | None
    account_id: int | None
    points: int
    amount: int
    currency: str
    reference: str
    sale_ms: int
    at_ms: int
    settled_ms: int | None
    settled_by: str | None
    note: str | None


class Settled(Asked):
    """That somebody dealt with a conflict, and how."""

    note: Annotated[Note, StringConstraints(min_length=1), Field(description="What was done about it.")]


async def list_conflicts(
    office: Office, actor: Actor, position: Position, wanted: Wanted, *, state: ConflictState | None = None
) -> Page[Conflict]:
    """Return conflicts, the newest first, those that pass all filters; by account, for those who may see accounts.

    Raises a Problem.
    """
    actor.check(Permission.COALITION_READ)
    if wanted.account is not None:
        check_reach(actor, Permission.ACCOUNTS_READ)
    wanted = replace(
        wanted,
        partner_id=seen_partner(actor, wanted.partner_id),
        settled=None if state is None else state == "settled",
    )
    async with office.registry.reading() as transaction:
        rows = await conflicts.find(
            transaction, wanted, before=position.number(BIGINT_MAX), rows_max=position.rows_max
        )  # fmt: skip
    return position.page(rows, lambda row: _shown(row, actor), lambda row: (row["conflict_id"],))


async def get_conflict(office: Office, actor: Actor, conflict_id: int) -> Conflict:
    """Return a conflict. Raises a Problem."""
    actor.check(Permission.COALITION_READ)
    async with office.registry.reading() as transaction:
        return _shown(await _visible(transaction, actor, conflict_id), actor)


async def count_open(office: Office, actor: Actor) -> int:
    """Return how many conflicts of what this actor sees wait for somebody. Raises a Problem."""
    actor.check(Permission.COALITION_READ)
    async with office.registry.reading() as transaction:
        return await conflicts.count_open(transaction, actor.partner_id)


async def settle(office: Office, actor: Actor, conflict_id: int, asked: Settled) -> Conflict:
    """Note that somebody dealt with a conflict. Raises a Problem: 409 if that was done before."""
    check_reach(actor, Permission.ACCOUNTS_WRITE)
    async with office.registry.writing() as transaction:
        row = await _visible(transaction, actor, conflict_id)
        now_ms = office.clock.now_ms()
        if not await conflicts.settle(transaction, conflict_id, actor=actor.name, now_ms=now_ms, note=asked.note):
            raise conflict(f"conflict {conflict_id} is settled already; look at what was noted")
        await audited(
            office, actor, transaction, "conflict.settle", f"conflict:{conflict_id}", account=row["account_id"],
            store_id=row["store_id"], request_id=row["request_id"],
        )  # fmt: skip
        return _shown(await _visible(transaction, actor, conflict_id), actor)


async def _visible(transaction: Transaction, actor: Actor, conflict_id: int) -> Row:
    rows = await conflicts.find(transaction, Wanted(conflict_id=conflict_id), before=BIGINT_MAX, rows_max=1)
    if not rows or not actor.sees_partner(rows[0]["partner_id"]):
        raise not_found(f"conflict {conflict_id}")
    return rows[0]


def _shown(row: Row, actor: Actor) -> Conflict:
    # A note may name a member, and both are what a partner's people, and those who keep rules, have no business with.
    whole = actor.partner_id is None
    accounts = whole and actor.may(Permission.ACCOUNTS_READ)
    told = {name: value for name, value in row.items() if name not in {"op", "masked"}}
    return Conflict(
        **{
            **told,
            "state": "open" if row["settled_ms"] is None else "settled",
            "request_id": row["request_id"].hex(),
            "operation": _named(Operation, row["op"]),
            "outcome": _named(Outcome if row["outcome"] >= Outcome.REVERSED else ErrorCode, row["outcome"]),
            "card": row["masked"] if whole and actor.may(Permission.CARDS_READ) else None,
            "account_id": row["account_id"] if accounts else None,
            "settled_by": row["settled_by"] if accounts else None,
            "note": row["note"] if accounts and row["settled_ms"] is not None else None,
        }
    )


def _named(kind: type[IntEnum], number: int) -> str:
    try:
        return kind(number).name.lower()
    except ValueError:
        return str(number)
