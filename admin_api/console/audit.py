"""The audit log: who did what, when, to what; to look through, and as a file."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from typing import Annotated
from urllib.parse import urlencode

import orjson
from fastapi import APIRouter, Depends, Query, Response

from admin_api.api.answers import csv_answer
from admin_api.api.audit import Entry, find_entries, lines
from admin_api.api.users import UserShown, list_users
from admin_api.console.rendering import page
from admin_api.console.visitor import Visitor, seen, visiting
from admin_api.fields import BIGINT_MAX
from admin_api.office import Office
from admin_api.paging import Position, decode
from admin_api.security.auditing import audited
from admin_api.security.authentication import InOffice
from admin_api.security.permissions import Permission
from ledger.registry.audit import Wanted

router = APIRouter()
Auditor = Annotated[Visitor, Depends(visiting(Permission.AUDIT_READ))]

#: What entries are about; each is the first part of its actions.
SUBJECTS = (
    "account", "adjustment", "audit", "books", "card", "conflict", "hold", "installation", "invitation", "member",
    "member-token", "network", "partner", "programme", "relay", "rules", "session", "store", "terminal", "token",
    "user",
)  # fmt: skip
_USERS_MAX = 200
_ACTOR_CHARACTERS_MAX = 100
#: Subjects that have a page of their own.
_PAGES = {
    "account": "/accounts/{}", "member": "/accounts/{}", "partner": "/coalition/partners/{}",
    "network": "/coalition/networks/{}", "store": "/coalition/stores/{}", "terminal": "/coalition/terminals/{}",
    "user": "/users/{}", "adjustment": "/adjustments/{}", "relay": "/relays/{}", "conflict": "/conflicts/{}",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which entries, as they stand in the address. Days are ISO dates, both inclusive; an empty text wants all."""

    first: str = ""
    last: str = ""
    actor: str = ""
    action: str = ""
    account: str = ""
    request: str = ""

    @staticmethod
    def of_query(
        first: Annotated[str, Query(max_length=10)] = "",
        last: Annotated[str, Query(max_length=10)] = "",
        actor: Annotated[str, Query(max_length=400)] = "",
        action: Annotated[str, Query(max_length=100)] = "",
        account: Annotated[str, Query(max_length=40)] = "",
        request: Annotated[str, Query(max_length=100)] = "",
    ) -> Chosen:
        """Return what an address asks for; what makes no sense is left out."""
        actor, account, request = actor.strip(), account.strip(), request.strip().replace("-", "").lower()
        return Chosen(
            first if _day(first) else "",
            last if _day(last) else "",
            actor if actor.isascii() and actor.isprintable() and len(actor) <= _ACTOR_CHARACTERS_MAX else "",
            action if action.partition(".")[0] in SUBJECTS and action.isascii() and action.isprintable() else "",
            account if account.isdecimal() and account.isascii() and 0 < int(account) <= BIGINT_MAX else "",
            request if len(request) == 32 and set(request) <= set("0123456789abcdef") else "",  # noqa: PLR2004
        )

    def query(self, **other: str) -> str:
        """Return the address's query with something else in it."""
        return urlencode({name: value for name, value in {**asdict(self), **other}.items() if value})

    def wanted(self, office: Office) -> Wanted:
        """Return the filter."""
        last = _day(self.last)
        return Wanted(
            from_ms=_midnight_ms(office, _day(self.first)),
            until_ms=_midnight_ms(office, last + timedelta(days=1) if last else None),
            actor=self.actor or None,
            action=self.action or None,
            account=int(self.account) if self.account else None,
            request_id=bytes.fromhex(self.request) if self.request else None,
        )


_Chosen = Annotated[Chosen, Depends(Chosen.of_query)]


@router.get("/audit")
async def show(
    visitor: Auditor, office: InOffice, chosen: _Chosen, cursor: Annotated[str, Query(max_length=1_024)] = ""
) -> Response:
    """Show entries, the newest first."""
    position = Position(key=decode(cursor)) if cursor else Position()
    found = await find_entries(office, seen(visitor), chosen.wanted(office), position)
    return page(
        visitor, "audit.html", chosen=chosen, items=[Shown(visitor, entry) for entry in found.items],
        subjects=SUBJECTS, people=await _people(visitor, office), query=chosen.query(),
        next=chosen.query(cursor=found.next) if found.next else "",
    )  # fmt: skip


@router.get("/audit/export.csv")
async def export(visitor: Auditor, office: InOffice, chosen: _Chosen) -> Response:
    """Export all entries that fit."""
    actor = seen(visitor)
    async with office.registry.writing() as transaction:
        await audited(office, actor, transaction, "audit.export", "audit", partner_id=actor.partner_id)
    return csv_answer(lines(office, actor, chosen.wanted(office)), "audit.csv")


class Shown:
    """An entry in words."""

    def __init__(self, visitor: Visitor, entry: Entry) -> None:
        words = visitor.words
        self.entry = entry
        self.when = words.moment(entry.at_ms)
        key = f"audit.do_{entry.action.replace('.', '_').replace('-', '_')}"
        self.what = words.t(key) if words.known(key) else entry.action
        kind, _, number = entry.subject.partition(":")
        self.place = _PAGES[kind].format(number) if kind in _PAGES and number.isdecimal() and number != "0" else ""
        self.subject = words.t(f"audit.one_{kind}", number=number) if self.place else entry.subject
        self.detail = orjson.dumps(entry.detail, option=orjson.OPT_INDENT_2).decode() if entry.detail else ""


async def _people(visitor: Visitor, office: Office) -> list[UserShown]:
    """Return whom to choose from, for those who may know them."""
    if not visitor.may(Permission.USERS_READ):
        return []
    return (await list_users(office, seen(visitor), Position(limit=_USERS_MAX))).items


def _day(text: str) -> date | None:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return None
    return day if date(1970, 1, 2) <= day <= date(9998, 12, 30) else None


def _midnight_ms(office: Office, day: date | None) -> int | None:
    if day is None:
        return None
    zone = office.programme.days.zone
    return round(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp() * 1000)
