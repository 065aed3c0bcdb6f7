"""Conflicts: what stores had approved without a line and headquarters then declined, to be looked at and settled."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Form, Query, Response

from admin_api.accounts.history_finding import names_of
from admin_api.coalition import conflicts
from admin_api.coalition.conflicts import Conflict, ConflictState, Settled
from admin_api.console.account_words import when
from admin_api.console.conflict_words import ConflictTold, conflict_told, settles_conflicts
from admin_api.console.entering import Refused, asked_of, taken_once
from admin_api.console.forms import FormKey, at, new_key
from admin_api.console.rendering import page
from admin_api.console.visitor import Flash, Visitor, go, seen, visiting
from admin_api.fields import INTEGER_MAX, BigId
from admin_api.office import Office
from admin_api.paging import Position, decode
from admin_api.security.authentication import InOffice
from admin_api.security.permissions import Permission
from ledger.registry.conflicts import Wanted

router = APIRouter()
Looking = Annotated[Visitor, Depends(visiting(Permission.COALITION_READ))]
Settler = Annotated[Visitor, Depends(visiting(Permission.ACCOUNTS_WRITE))]
#: A note may be longer than other lines.
Noted = Annotated[str, Form(max_length=2_000)]
# Forms and links send an empty field where all are meant.
Number = Annotated[str, Query(pattern=r"^\d{0,10}$")]
_ROWS = 50


@router.get("/conflicts")
async def show_list(
    visitor: Looking,
    office: InOffice,
    show: Annotated[Literal["open", "settled"], Query()] = "open",
    store: Number = "",
    relay: Number = "",
    cursor: Annotated[str, Query(max_length=200)] = "",
) -> Response:
    """List conflicts, those that are open or those that somebody settled, of all stores or of one."""
    state: ConflictState = show
    position = Position(_ROWS, decode(cursor) if cursor else ())
    wanted = Wanted(store_id=_id(store), relay_id=_id(relay))
    found = await conflicts.list_conflicts(office, seen(visitor), position, wanted, state=state)
    where = {name: value for name, value in {"store": store, "relay": relay}.items() if value}
    return page(
        visitor, "conflicts.html", items=[_told(visitor, one) for one in found.items], show=show,
        where=urlencode(where), next=urlencode({"show": show, **where, "cursor": found.next}) if found.next else "",
    )  # fmt: skip


@router.get("/conflicts/{conflict_id}")
async def show_conflict(visitor: Looking, office: InOffice, conflict_id: BigId) -> Response:
    """Show one conflict, to be read aloud and settled."""
    return await _page(visitor, office, await conflicts.get_conflict(office, seen(visitor), conflict_id))


@router.post("/conflicts/{conflict_id}/settle")
async def settle(visitor: Settler, office: InOffice, conflict_id: BigId, key: FormKey, note: Noted = "") -> Response:
    """Note that a conflict was dealt with, and how."""
    actor = seen(visitor)
    before = await conflicts.get_conflict(office, actor, conflict_id)
    line = " ".join(note.split())
    try:
        asked = asked_of(visitor.words, Settled, note=line)
        await taken_once(
            office, visitor, key, f"settle conflict {conflict_id}", asked,
            lambda: conflicts.settle(office, actor, conflict_id, asked),
        )  # fmt: skip
    except Refused as told:
        return await _page(at(visitor, f"/conflicts/{conflict_id}"), office, before, line, told)
    return go("/conflicts", Flash("done", "conflict.settle_done", {"number": conflict_id}))


async def _page(
    visitor: Visitor, office: Office, conflict: Conflict, note: str = "", told: Refused | None = None
) -> Response:
    by = conflict.settled_by
    return page(
        visitor, "conflict.html", status=told.status if told else 200, one=_told(visitor, conflict), note=note,
        settled_by=(await names_of(office, [by]))[by] if by else "",
        settled=when(visitor.words, conflict.settled_ms) if conflict.settled_ms else "",
        settles=settles_conflicts(visitor), wrong=told.sentence if told else "", faults=told.fields if told else {},
        key=new_key(),
    )  # fmt: skip


def _told(visitor: Visitor, conflict: Conflict) -> ConflictTold:
    return conflict_told(visitor.words, conflict, settles=settles_conflicts(visitor))


def _id(number: str) -> int | None:
    return int(number) if number and 0 < int(number) <= INTEGER_MAX else None
