"""Two accounts of one person become one: the other account is found, both are shown, and somebody is asked."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Response

from admin_api.accounts import accounts, history, merges
from admin_api.accounts.accounts import AccountView, iso_day
from admin_api.accounts.merges import MergeAsked
from admin_api.api.answers import AccountPath
from admin_api.console.account_words import balance_sentences, status_sentence, when
from admin_api.console.entry_words import happened
from admin_api.console.forms import FormKey, NotTaken, Typed, at, form_page, line_of, taken
from admin_api.console.rendering import page
from admin_api.console.search import found_by
from admin_api.console.visitor import Flash, Visitor, go, seen, visiting
from admin_api.idempotency import Reply
from admin_api.members.members import Found
from admin_api.office import Office
from admin_api.paging import Position
from admin_api.security.authentication import InOffice
from admin_api.security.permissions import Permission
from ledger.registry.accounts import EntryFilter

router = APIRouter()
Writer = Annotated[Visitor, Depends(visiting(Permission.ACCOUNTS_WRITE))]
_LAST = 3


@router.get("/accounts/{account_id}/merge")
async def ask_which(visitor: Writer, office: InOffice, account_id: AccountPath) -> Response:
    """Ask which other account is meant."""
    return await _which(visitor, office, account_id)


@router.post("/accounts/{account_id}/merge")
async def find(visitor: Writer, office: InOffice, account_id: AccountPath, q: Annotated[str, Form()] = "") -> Response:
    """Find the other account by whatever the person shows or says."""
    found = await found_by(office, visitor, q.strip()[:256]) if q.strip() else []
    others = [one for one in found if one.account_id != account_id]
    if len(others) == 1:
        return go(f"/accounts/{account_id}/merge/{others[0].account_id}")
    own = bool(found) and not others
    wrong = "" if others or not q.strip() else "merge.own" if own else "merge.not_found"
    return await _which(visitor, office, account_id, found=others, wrong=wrong)


async def _which(
    visitor: Visitor, office: Office, account_id: int, *, found: list[Found] | None = None, wrong: str = ""
) -> Response:
    account = await _side(visitor, office, account_id)
    return page(
        at(visitor, f"/accounts/{account_id}/merge"),
        "merge_which.html",
        account=account,
        found=found or [],
        wrong=wrong,
    )


@router.get("/accounts/{account_id}/merge/{source}")
async def ask(visitor: Writer, office: InOffice, account_id: AccountPath, source: AccountPath) -> Response:
    """Show both accounts and ask."""
    return await _both(visitor, office, account_id, source)


@router.post("/accounts/{account_id}/merge/{source}")
async def merge(
    visitor: Writer, office: InOffice, account_id: AccountPath, source: AccountPath, key: FormKey, reason: Typed = ""
) -> Response:
    """Let the source become part of the account."""
    try:
        asked = MergeAsked(source=source, reason=line_of(visitor.words, reason))

        async def work(request_id: bytes) -> Reply:
            return Reply(200, (await merges.merge(office, seen(visitor), account_id, asked, request_id)).model_dump())

        await taken(office, visitor, key, f"merge {source} into {account_id}", asked.model_dump(), work)
    except NotTaken as told:
        return await _both(visitor, office, account_id, source, told=told, reason=reason)
    return go(f"/accounts/{account_id}", Flash("done", "merge.done", {"source": source}))


async def _both(
    visitor: Visitor, office: Office, account_id: int, source: int, *, told: NotTaken | None = None, reason: str = ""
) -> Response:
    sides = [await _side(visitor, office, one) for one in (account_id, source)]
    ready = account_id != source and all(side["account"].status == "active" for side in sides)
    return form_page(
        visitor,
        f"/accounts/{account_id}/merge/{source}",
        "merge.html",
        told,
        target=sides[0],
        source=sides[1],
        same=account_id == source,
        ready=ready,
        held=bool(sides[1]["account"].holds),
        reason=reason,
    )


async def _side(visitor: Visitor, office: Office, account_id: int) -> dict[str, Any]:
    words, actor = visitor.words, seen(visitor)
    account: AccountView = await accounts.account_of(office, actor, account_id)
    entries = await history.entries_of(office, actor, account_id, EntryFilter(), Position(_LAST))
    return {
        "account": account,
        "status": status_sentence(words, account),
        "sentences": balance_sentences(words, account, iso_day(office.desk.today())),
        "last": [(when(words, entry.at_ms), happened(words, entry)) for entry in entries.items],
    }
