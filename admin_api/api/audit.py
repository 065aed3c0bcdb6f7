"""The audit log: who did what, when, to what, from where."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Query
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from admin_api.fields import BIGINT_MAX
from admin_api.office import Office
from admin_api.paging import Cursor, Page, Position
from admin_api.problem import PROBLEMS
from admin_api.security.actor import Actor
from admin_api.security.auditing import audited
from admin_api.security.authentication import InOffice, acting
from admin_api.security.permissions import Permission
from ledger.registry import audit
from ledger.registry.audit import Wanted
from ledger.registry.registry import Row

router = APIRouter(prefix="/v1/audit", tags=["audit"], responses=PROBLEMS)

_Acting = Annotated[Actor, Depends(acting(Permission.AUDIT_READ))]
_ROWS_AT_ONCE = 500
_Word = Annotated[str | None, Query(pattern=r"^[!-~]{1,100}$")]
_CSV: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/csv": {"schema": {"type": "string"}}}, "description": "One line for each entry."}
}


class Entry(BaseModel):
    """One entry. `actor` is "user:3", "token:7", "member:12" or "system"; `actor_name` is what it was called then."""

    audit_id: int
    at_ms: int
    actor: str
    actor_name: str
    action: str
    subject: str
    account_id: int | None
    partner_id: int | None
    store_id: int | None
    request_id: str | None
    address: str
    detail: dict[str, Any]


def _wanted(
    from_ms: Annotated[int | None, Query(ge=0, le=BIGINT_MAX, description="From this moment.")] = None,
    until_ms: Annotated[int | None, Query(ge=0, le=BIGINT_MAX, description="Before this moment.")] = None,
    actor: Annotated[_Word, Query(description='As in "user:3".')] = None,
    action: Annotated[_Word, Query(description='As in "card.block", or "card" for all with cards.')] = None,
    account_id: Annotated[int | None, Query(ge=1, le=BIGINT_MAX)] = None,
    request_id: Annotated[str | None, Query(pattern="^[0-9a-f]{32}$")] = None,
    subject: Annotated[_Word, Query(description='As in "terminal:till-1".')] = None,
) -> Wanted:
    return Wanted(
        from_ms=from_ms,
        until_ms=until_ms,
        actor=actor,
        action=action,
        account=account_id,
        request_id=None if request_id is None else bytes.fromhex(request_id),
        subject=subject,
    )


_Wanted = Annotated[Wanted, Depends(_wanted)]


@router.get("", summary="Entries of the audit log, the newest first.")
async def get_all(office: InOffice, actor: _Acting, wanted: _Wanted, position: Cursor) -> Page[Entry]:
    """Look for entries; filters are combined."""
    return await find_entries(office, actor, wanted, position)


@router.get("/export.csv", response_class=StreamingResponse, responses=_CSV, summary="The same as a file.")
async def export(office: InOffice, actor: _Acting, wanted: _Wanted) -> StreamingResponse:
    """Export all entries that fit, the newest first."""
    async with office.registry.writing() as transaction:
        await audited(office, actor, transaction, "audit.export", "audit", partner_id=actor.partner_id)
    headers = {"content-disposition": 'attachment; filename="audit.csv"'}
    return StreamingResponse(lines(office, actor, wanted), 200, headers, "text/csv")


async def find_entries(office: Office, actor: Actor, wanted: Wanted, position: Position) -> Page[Entry]:
    """Return a page of entries that the actor may see. Raises a Problem."""
    actor.check(Permission.AUDIT_READ)
    rows = await _read(office, actor, wanted, position.number(BIGINT_MAX), position.rows_max)
    return position.page(rows, _shown, lambda row: (row["audit_id"],))


async def lines(office: Office, actor: Actor, wanted: Wanted) -> AsyncIterator[str]:
    """Yield the lines of a CSV file. Entries are only ever added, so nothing is missed between two reads."""
    actor.check(Permission.AUDIT_READ)
    yield _csv(list(Entry.model_fields))
    before = BIGINT_MAX
    while rows := await _read(office, actor, wanted, before, _ROWS_AT_ONCE):
        yield "".join(_csv(list(_shown(row).model_dump().values())) for row in rows)
        before = rows[-1]["audit_id"]


async def _read(office: Office, actor: Actor, wanted: Wanted, before: int, rows_max: int) -> list[Row]:
    wanted = replace(wanted, partner_id=actor.partner_id)
    async with office.registry.reading() as transaction:
        return await audit.find(transaction, wanted, before=before, rows_max=rows_max)


def _shown(row: Row) -> Entry:
    fields = dict(row)
    fields["request_id"] = None if row["request_id"] is None else row["request_id"].hex()
    fields["detail"] = orjson.loads(row["detail"])
    return Entry(**fields)


def _csv(values: list[Any]) -> str:
    written = io.StringIO()
    csv.writer(written).writerow([_cell(value) for value in values])
    return written.getvalue()


def _cell(value: Any) -> Any:
    """Return a value as a cell. A text that a spreadsheet would take for a formula gets an apostrophe before it."""
    if isinstance(value, dict):
        value = orjson.dumps(value).decode()
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
