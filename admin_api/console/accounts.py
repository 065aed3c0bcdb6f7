"""The page of an account: what is there, what happened, and what can be done about it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from admin_api.accounts import accounts, adjustments, history
from admin_api.accounts.accounts import LotView, iso_day
from admin_api.accounts.at_register import at_register
from admin_api.accounts.history import EntryView
from admin_api.accounts.history_finding import moments_of, stores_of
from admin_api.api.answers import AccountPath, csv_answer
from admin_api.coalition.conflicts import ConflictState, list_conflicts
from admin_api.console.account_words import balance_sentences, lot_sentence, network_sentence, status_sentence, when
from admin_api.console.conflict_words import ConflictTold, conflict_told, settles_conflicts
from admin_api.console.entry_words import Told, told
from admin_api.console.history_filter import OPERATIONS, Chosen
from admin_api.console.rendering import page
from admin_api.console.visitor import Visitor, seen, visiting
from admin_api.console.words import Words
from admin_api.office import Office
from admin_api.paging import Page, Position, decode
from admin_api.security.authentication import InOffice
from admin_api.security.permissions import Permission
from ledger.registry.conflicts import Wanted

router = APIRouter()
Reader = Annotated[Visitor, Depends(visiting(Permission.ACCOUNTS_READ))]
Filter = Annotated[Chosen, Depends(Chosen.of_query)]

_ROWS = 25
_WAITING_MAX = 10
_REQUEST_ID_BYTES = 16


@router.get("/accounts/{account_id}")
async def show(
    visitor: Reader,
    office: InOffice,
    account_id: AccountPath,
    chosen: Filter,
    cursor: Annotated[str, Query(max_length=200)] = "",
) -> Response:
    """Show an account with a part of its history."""
    actor, words = seen(visitor), visitor.words
    account = await accounts.account_of(office, actor, account_id)
    register = await at_register(office, actor, account_id)
    position = Position(_ROWS, decode(cursor) if cursor else ())
    entries = await history.entries_of(office, actor, account_id, chosen.filter(office), position)
    waiting = await adjustments.listed(office, actor, Position(_WAITING_MAX), "waiting", account_id)
    today, holds = iso_day(office.desk.today()), account.holds
    return page(
        visitor,
        "account.html",
        account=account,
        sentences=balance_sentences(words, account, today),
        status_said=status_sentence(words, account),
        lots=[_lot(words, lot, today) for lot in account.lots],
        holds=[(hold, when(words, hold.until_ms), hold.since_ms and when(words, hold.since_ms)) for hold in holds],
        register=register,
        networks=[(at.network, network_sentence(words, at)) for at in register.networks],
        waiting=waiting.items,
        conflicts=await _conflicts(office, visitor, Wanted(account=account_id), "open"),
        entries=await in_words(office, visitor, entries.items),
        further=_further(chosen, entries),
        begun=bool(cursor),
        chosen=chosen,
        operations=OPERATIONS,
        stores=await stores_of(office, actor, account_id),
        now=when(words, office.clock.now_ms()),
    )  # fmt: skip


@router.get("/accounts/{account_id}/history.csv")
async def export(visitor: Reader, office: InOffice, account_id: AccountPath, chosen: Filter) -> Response:
    """Send the history as a file; the export is written down."""
    pieces = await history.exported(office, seen(visitor), account_id, chosen.filter(office))
    return csv_answer(pieces, f"account-{account_id}.csv")


@router.get("/requests/{request_id}")
async def request(visitor: Reader, office: InOffice, request_id: str) -> Response:
    """Show what became of a request."""
    words = visitor.words
    compact = request_id.replace("-", "")
    try:
        raw = bytes.fromhex(compact)
    except ValueError:
        raw = b""
    if len(raw) != _REQUEST_ID_BYTES:
        return page(
            visitor, "request.html", status=404, request_id=request_id, found=None, entry=None, family=[], conflicts=[]
        )  # fmt: skip
    found = await history.request_of(office, seen(visitor), raw)
    if found.entry is None:
        conflicts = await _conflicts(office, visitor, Wanted(request_id=raw))
        return page(
            visitor, "request.html", status=404, request_id=raw.hex(), found=None, entry=None, family=[],
            conflicts=conflicts,
        )  # fmt: skip
    views = await in_words(office, visitor, [found.entry, *found.family])
    standing = f"standing.{found.standing}"
    return page(
        visitor,
        "request.html",
        request_id=raw.hex(),
        found=found,
        entry=views[0],
        standing=words.t(standing) if words.known(standing) else "",
        family=views[1:],
    )


async def in_words(office: Office, visitor: Visitor, entries: list[EntryView]) -> list[Told]:
    """Return entries as sentences."""
    known = {entry.request_id for entry in entries}
    wanted = {entry.refers_to for entry in entries if entry.refers_to is not None} - known
    moments = await moments_of(office, seen(visitor), [each for each in wanted if each]) if wanted else {}
    return told(visitor.words, entries, moments)


async def _conflicts(
    office: Office, visitor: Visitor, wanted: Wanted, state: ConflictState | None = None
) -> list[ConflictTold]:
    """Return what a store had approved without a line and what could not be done: it stands in no journal."""
    if not visitor.may(Permission.COALITION_READ):
        return []
    found = await list_conflicts(office, seen(visitor), Position(_WAITING_MAX), wanted, state=state)
    return [conflict_told(visitor.words, one, settles=settles_conflicts(visitor)) for one in found.items]


def _lot(words: Words, lot: LotView, today: str) -> tuple[str, str, str]:
    return words.points(lot.free), words.points(lot.held) if lot.held else "", lot_sentence(words, lot, today)


def _further(chosen: Chosen, entries: Page[EntryView]) -> str:
    if entries.next is None:
        return ""
    return "&".join(part for part in (chosen.query, f"cursor={entries.next}") if part)
