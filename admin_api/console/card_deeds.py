"""What is done to a card: activate, block, unblock, replace; and a further card for an account."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Form, Path, Response

from admin_api.api.answers import AccountPath
from admin_api.cards import cards
from admin_api.cards.cards import CardView, IssueAsked, Issued, KindName, Reason
from admin_api.console.card_form import TypedNumber
from admin_api.console.forms import FormKey, NotTaken, Typed, at, form_page, taken
from admin_api.console.rendering import page
from admin_api.console.visitor import Flash, Visitor, go, seen, visiting
from admin_api.idempotency import Reply
from admin_api.office import Office
from admin_api.problem import not_found
from admin_api.security.authentication import InOffice
from admin_api.security.permissions import Permission

router = APIRouter()
Writer = Annotated[Visitor, Depends(visiting(Permission.CARDS_WRITE))]
Verb = Literal["activate", "block", "unblock", "unlink"]
Ref = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$")]
Why = Annotated[Reason, Form()]

REASONS = (Reason.LOST, Reason.STOLEN, Reason.DAMAGED, Reason.FRAUD, Reason.OTHER)
#: A phone number is linked, never drawn; a virtual number is always drawn.
KINDS: tuple[KindName, ...] = ("ean13", "pan", "virtual", "phone")


@router.get("/accounts/{account_id}/cards/new")
async def ask_new(visitor: Writer, office: InOffice, account_id: AccountPath) -> Response:
    """Ask which card is to lead to the account as well."""
    await cards.cards_of(office, seen(visitor), account_id)
    return _number_page(visitor, account_id, None, TypedNumber())


@router.post("/accounts/{account_id}/cards/new")
async def add(
    visitor: Writer, office: InOffice, account_id: AccountPath, key: FormKey,
    kind: Typed = "", way: Typed = "number", number: Typed = "", prefix: Typed = "",
) -> Response:  # fmt: skip
    """Let one more card lead to the account: one in hand, a phone number, or one that is drawn."""
    typed = TypedNumber(kind, way, number, prefix)
    try:
        asked = IssueAsked(card=typed.asked(visitor.words), account_id=account_id)

        async def work(request_id: bytes) -> Reply:
            return Reply(201, (await cards.issue(office, seen(visitor), asked, request_id)).model_dump())

        reply = await taken(office, visitor, key, f"card for {account_id}", asked.model_dump(), work)
    except NotTaken as told:
        return _number_page(visitor, account_id, None, typed, told=told)
    return _issued(visitor, account_id, Issued(**reply.body), "deed.linked")


@router.get("/accounts/{account_id}/cards/{ref}/replace")
async def ask_replace(visitor: Writer, office: InOffice, account_id: AccountPath, ref: Ref) -> Response:
    """Ask which card is to take the place of this one."""
    card = await _card(office, visitor, account_id, ref)
    return _number_page(visitor, account_id, card, TypedNumber(kind=card.kind))


@router.post("/accounts/{account_id}/cards/{ref}/replace")
async def replace(
    visitor: Writer, office: InOffice, account_id: AccountPath, ref: Ref, key: FormKey,
    kind: Typed = "", way: Typed = "number", number: Typed = "", prefix: Typed = "", reason: Why = Reason.LOST,
) -> Response:  # fmt: skip
    """Put a new card in the place of this one."""
    card = await _card(office, visitor, account_id, ref)
    typed = TypedNumber(kind, way, number, prefix)
    try:
        asked = typed.asked(visitor.words)

        async def work(request_id: bytes) -> Reply:
            done = await cards.replace(office, seen(visitor), ref, asked, request_id, reason)
            return Reply(200, done.model_dump())

        told = {**asked.model_dump(), "reason": reason.value}
        reply = await taken(office, visitor, key, f"replace {ref}", told, work)
    except NotTaken as told_:
        return _number_page(visitor, account_id, card, typed, told=told_, reason=reason)
    return _issued(visitor, account_id, Issued(**reply.body), "deed.replaced")


@router.get("/accounts/{account_id}/cards/{ref}/{verb}")
async def ask(visitor: Writer, office: InOffice, account_id: AccountPath, ref: Ref, verb: Verb) -> Response:
    """Ask whether a card is to be activated, blocked, unblocked or taken away."""
    return _verb_page(visitor, await _card(office, visitor, account_id, ref), verb)


@router.post("/accounts/{account_id}/cards/{ref}/{verb}")
async def do(
    visitor: Writer, office: InOffice, account_id: AccountPath, ref: Ref, verb: Verb, key: FormKey,
    reason: Why = Reason.LOST,
) -> Response:  # fmt: skip
    """Activate, block, unblock or take away a card."""
    actor = seen(visitor)

    async def work(request_id: bytes) -> Reply:
        # Not before: a card that was taken away is not there any more when the form is sent twice.
        card = await _card(office, visitor, account_id, ref)
        if verb == "block":
            await cards.block(office, actor, ref, request_id, reason)
        else:
            deed = {"activate": cards.activate, "unblock": cards.unblock, "unlink": cards.unlink}[verb]
            await deed(office, actor, ref, request_id)
        return Reply(200, {"masked": card.masked})

    asked = {"reason": reason.value} if verb == "block" else {}
    try:
        reply = await taken(office, visitor, key, f"{verb} {ref} of {account_id}", asked, work)
    except NotTaken as told:
        card = await _card(office, visitor, account_id, ref)
        return _verb_page(visitor, card, verb, told=told, reason=reason)
    return go(f"/accounts/{account_id}", Flash("done", f"deed.{verb}_card_done", {"card": reply.body["masked"]}))


async def _card(office: Office, visitor: Visitor, account_id: int, ref: str) -> CardView:
    card = await cards.card_by_ref(office, seen(visitor), ref)
    if card.account_id != account_id:
        raise not_found("such card of this account")
    return card


def _verb_page(
    visitor: Visitor, card: CardView, verb: Verb, *, told: NotTaken | None = None, reason: Reason = Reason.LOST
) -> Response:
    words = visitor.words
    return form_page(
        visitor,
        f"/accounts/{card.account_id}/cards/{card.card}/{verb}",
        "deed.html",
        told,
        account_id=card.account_id,
        name=f"{verb}_card",
        facts=[
            (words.t("card.card"), f"{card.masked} ({words.t('card.kind_' + card.kind)})"),
            (words.t("card.status"), words.t("card.is_" + card.status)),
        ],
        choices=REASONS if verb == "block" else (),
        asks_reason=False,
        reason=reason,
        danger=verb == "block",
    )


def _number_page(
    visitor: Visitor, account_id: int, card: CardView | None, typed: TypedNumber, *, told: NotTaken | None = None,
    reason: Reason = Reason.LOST,
) -> Response:  # fmt: skip
    where = "new" if card is None else f"{card.card}/replace"
    return form_page(
        visitor,
        f"/accounts/{account_id}/cards/{where}",
        "card_number.html",
        told,
        account_id=account_id,
        card=card,
        typed=typed,
        kinds=KINDS,
        reasons=REASONS,
        reason=reason,
    )


def _issued(visitor: Visitor, account_id: int, issued: Issued, key: str) -> Response:
    """Go back to the account; a number that was drawn is told first, on a page that nothing keeps."""
    if issued.number is None:
        return go(f"/accounts/{account_id}", Flash("done", key, {"card": issued.card.masked}))
    return page(at(visitor, f"/accounts/{account_id}"), "card_issued.html", account_id=account_id, issued=issued)
