"""What is done to an account as a whole, or to one of its holds: each deed asks on a page of its own."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Response

from admin_api.accounts import accounts
from admin_api.accounts.accounts import iso_day
from admin_api.api.answers import AccountPath
from admin_api.console.account_words import balance_sentences, status_sentence, when
from admin_api.console.forms import FormKey, NotTaken, Typed, form_page, line_of, taken
from admin_api.console.visitor import Flash, Visitor, go, seen, visiting
from admin_api.idempotency import Reply
from admin_api.office import Office
from admin_api.problem import not_found
from admin_api.security.authentication import InOffice
from admin_api.security.permissions import Permission

router = APIRouter()
Writer = Annotated[Visitor, Depends(visiting(Permission.ACCOUNTS_WRITE))]
Verb = Literal["block", "unblock"]
HoldId = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$")]


@router.get("/accounts/{account_id}/holds/{hold_id}/release")
async def ask_release(visitor: Writer, office: InOffice, account_id: AccountPath, hold_id: HoldId) -> Response:
    """Ask whether a hold is to be released."""
    return await _release_page(visitor, office, account_id, hold_id)


@router.post("/accounts/{account_id}/holds/{hold_id}/release")
async def release(
    visitor: Writer, office: InOffice, account_id: AccountPath, hold_id: HoldId, key: FormKey, reason: Typed = ""
) -> Response:
    """Release a hold."""
    try:
        line = line_of(visitor.words, reason)

        async def work(request_id: bytes) -> Reply:
            await accounts.release(office, seen(visitor), account_id, bytes.fromhex(hold_id), request_id, line)
            return Reply(200, {})

        await taken(office, visitor, key, f"release {account_id} {hold_id}", {"reason": line}, work)
    except NotTaken as told:
        return await _release_page(visitor, office, account_id, hold_id, told=told, reason=reason)
    return go(f"/accounts/{account_id}", Flash("done", "deed.released", {}))


async def _release_page(
    visitor: Visitor, office: Office, account_id: int, hold_id: str, *, told: NotTaken | None = None, reason: str = ""
) -> Response:
    words = visitor.words
    account = await accounts.account_of(office, seen(visitor), account_id)
    hold = next((each for each in account.holds if each.hold_id == hold_id), None)
    if hold is None and told is None:
        raise not_found("such hold: it was captured, released or ran out meanwhile")
    facts = []
    if hold is not None:
        place = ", ".join(part for part in (hold.network, hold.store, hold.terminal) if part)
        facts = [
            (words.t("account.hold_points"), words.points(hold.points)),
            (words.t("account.hold_where"), place or words.t("account.hold_nowhere")),
            (words.t("account.hold_until"), when(words, hold.until_ms)),
        ]
    return _deed(visitor, f"holds/{hold_id}/release", account_id, "release", facts, told, reason)


@router.get("/accounts/{account_id}/status/{verb}")
async def ask(visitor: Writer, office: InOffice, account_id: AccountPath, verb: Verb) -> Response:
    """Ask whether an account is to be blocked or unblocked."""
    return await _verb_page(visitor, office, account_id, verb)


@router.post("/accounts/{account_id}/status/{verb}")
async def do(
    visitor: Writer, office: InOffice, account_id: AccountPath, verb: Verb, key: FormKey, reason: Typed = ""
) -> Response:
    """Block an account with all its cards, or let it work again."""
    deed = accounts.block if verb == "block" else accounts.unblock
    try:
        line = line_of(visitor.words, reason)

        async def work(request_id: bytes) -> Reply:
            await deed(office, seen(visitor), account_id, request_id, line)
            return Reply(200, {})

        await taken(office, visitor, key, f"{verb} account {account_id}", {"reason": line}, work)
    except NotTaken as told:
        return await _verb_page(visitor, office, account_id, verb, told=told, reason=reason)
    return go(f"/accounts/{account_id}", Flash("done", f"deed.{verb}_account_done", {}))


async def _verb_page(
    visitor: Visitor, office: Office, account_id: int, verb: Verb, *, told: NotTaken | None = None, reason: str = ""
) -> Response:
    account = await accounts.account_of(office, seen(visitor), account_id)
    words = visitor.words
    facts = [
        (words.t("account.status"), status_sentence(words, account)),
        (words.t("account.balance"), balance_sentences(words, account, iso_day(office.desk.today()))[0]),
    ]
    return _deed(visitor, f"status/{verb}", account_id, f"{verb}_account", facts, told, reason)


def _deed(
    visitor: Visitor,
    path: str,
    account_id: int,
    name: str,
    facts: list[tuple[str, Any]],
    told: NotTaken | None,
    reason: str,
) -> Response:  # fmt: skip
    return form_page(
        visitor,
        f"/accounts/{account_id}/{path}",
        "deed.html",
        told,
        account_id=account_id,
        name=name,
        facts=facts,
        choices=(),
        asks_reason=True,
        reason=reason,
        danger=name == "block_account",
    )
