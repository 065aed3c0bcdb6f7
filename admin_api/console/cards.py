"""Batches of cards for the printer, and single cards."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import ValidationError

from admin_api.accounts.history_finding import names_of
from admin_api.api.answers import csv_answer
from admin_api.cards import card_batches, cards
from admin_api.cards.card_batches import BatchAsked, BatchView
from admin_api.cards.cards import IssueAsked, Issued
from admin_api.console.account_words import when
from admin_api.console.card_form import TypedNumber
from admin_api.console.forms import FormKey, NotTaken, Typed, at, form_page, taken
from admin_api.console.rendering import page
from admin_api.console.visitor import Flash, Visitor, go, seen, visiting
from admin_api.console.words import Words
from admin_api.idempotency import Reply
from admin_api.office import Office
from admin_api.paging import Position, decode
from admin_api.security.authentication import InOffice
from admin_api.security.permissions import Permission

router = APIRouter()
Reader = Annotated[Visitor, Depends(visiting(Permission.CARDS_READ))]
Writer = Annotated[Visitor, Depends(visiting(Permission.CARDS_WRITE))]
BatchId = Annotated[int, Path(ge=1, le=2**31 - 2)]

_ROWS = 50
_KINDS = ("ean13", "pan", "virtual")
_BATCH = {"name": "", "kind": "ean13", "count": "", "prefix": "", "order": "scattered", "first": "", "active": ""}
_SINGLE = {"kind": "ean13", "way": "draw", "number": "", "prefix": "", "active": "yes"}


@router.get("/cards")
async def batches(visitor: Reader, office: InOffice, cursor: Annotated[str, Query(max_length=200)] = "") -> Response:
    """List the batches, newest first."""
    position = Position(_ROWS, decode(cursor) if cursor else ())
    found = await card_batches.batches(office, seen(visitor), position)
    return page(
        visitor, "batches.html", batches=[(one, when(visitor.words, one.made_ms)) for one in found.items],
        begun=bool(cursor), further=found.next or "",
    )  # fmt: skip


@router.get("/cards/new")
async def ask_single(visitor: Writer) -> Response:
    """Ask for a single card."""
    return _single_page(visitor, _SINGLE)


@router.post("/cards/new")
async def issue(
    visitor: Writer, office: InOffice, key: FormKey,
    kind: Typed = "", way: Typed = "", number: Typed = "", prefix: Typed = "", active: Typed = "",
) -> Response:  # fmt: skip
    """Issue a single card with an account of its own."""
    typed = {"kind": kind, "way": way, "number": number.strip(), "prefix": prefix.strip(), "active": active}
    try:
        card = TypedNumber(kind, way, number, prefix).asked(visitor.words)
        asked = IssueAsked(card=card, account_id=None, active=bool(active))

        async def work(request_id: bytes) -> Reply:
            return Reply(201, (await cards.issue(office, seen(visitor), asked, request_id)).model_dump())

        reply = await taken(office, visitor, key, "new card", asked.model_dump(), work, registry=True)
    except NotTaken as told:
        return _single_page(visitor, typed, told=told)
    issued = Issued(**reply.body)
    if issued.number is None:
        return go(
            f"/accounts/{issued.card.account_id}", Flash("done", "card.issued_done", {"card": issued.card.masked})
        )
    return page(at(visitor, "/cards"), "card_issued.html", account_id=issued.card.account_id, issued=issued)


def _single_page(visitor: Visitor, typed: dict[str, str], *, told: NotTaken | None = None) -> Response:
    return form_page(
        visitor,
        "/cards/new",
        "card_new.html",
        told,
        typed=typed,
        kinds=_KINDS,
    )


@router.get("/cards/batches/new")
async def ask_batch(visitor: Writer, office: InOffice) -> Response:
    """Ask for a batch."""
    return _batch_page(visitor, office, _BATCH)


@router.post("/cards/batches/new")
async def make_batch(
    visitor: Writer, office: InOffice, key: FormKey,
    name: Typed = "", kind: Typed = "", count: Typed = "", prefix: Typed = "", order: Typed = "", first: Typed = "",
    active: Typed = "",
) -> Response:  # fmt: skip
    """Make a batch, all cards or none."""
    typed = {
        "name": name, "kind": kind, "count": count, "prefix": prefix, "order": order, "first": first, "active": active,
    }  # fmt: skip
    try:
        asked = _batch_asked(visitor.words, typed)

        async def work(request_id: bytes) -> Reply:
            return Reply(201, (await card_batches.make_batch(office, seen(visitor), asked, request_id)).model_dump())

        reply = await taken(office, visitor, key, "new batch", asked.model_dump(), work, registry=True)
    except NotTaken as told:
        return _batch_page(visitor, office, typed, told=told)
    return go(f"/cards/batches/{reply.body['batch_id']}", Flash("done", "batch.made_done", {}))


def _batch_asked(words: Words, typed: dict[str, str]) -> BatchAsked:
    scattered = typed["kind"] == "virtual" or typed["order"] != "sequence"
    count, first = "".join(typed["count"].split()), "".join(typed["first"].split())
    if not count.isdecimal():
        raise NotTaken(words.t("batch.count_wrong"))
    if not typed["name"].strip():
        raise NotTaken(words.t("batch.name_needed"))
    asked = {
        "name": typed["name"],
        "kind": typed["kind"],
        "count": int(count[:12]),
        "prefix": typed["prefix"].strip(),
        "order": "scattered" if scattered else "sequence",
        "first": int(first[:16]) if first.isdecimal() and not scattered else 0,
        "active": bool(typed["active"]),
    }
    try:
        return BatchAsked.model_validate(asked)
    except ValidationError as error:
        key = "batch.too_many" if "so many numbers" in str(error) else "card.prefix_wrong"
        raise NotTaken(words.t(key)) from None


def _batch_page(visitor: Visitor, office: Office, typed: dict[str, str], *, told: NotTaken | None = None) -> Response:
    return form_page(
        visitor,
        "/cards/batches/new",
        "batch_new.html",
        told,
        typed=typed,
        kinds=_KINDS,
        most=visitor.words.number(office.limits.batch_cards_max),
    )


@router.get("/cards/batches/{batch_id}")
async def batch(visitor: Reader, office: InOffice, batch_id: BatchId) -> Response:
    """Show a batch with the counts of its cards."""
    found = await card_batches.batch_of(office, seen(visitor), batch_id)
    names = await names_of(office, [found.made_by])
    return page(
        visitor, "batch.html", batch=found, made=when(visitor.words, found.made_ms), by=names[found.made_by],
        counts=_counts(visitor.words, found),
    )  # fmt: skip


def _counts(words: Words, batch: BatchView) -> list[tuple[str, str, str]]:
    """Return what of a batch has become of its cards: name, number, share."""
    return [
        (
            words.t(f"batch.{name}"),
            words.number(getattr(batch, name)),
            words.percent(getattr(batch, name) / batch.count),
        )
        for name in ("issued", "active", "blocked", "replaced")
    ]


@router.get("/cards/batches/{batch_id}/numbers.csv")
async def numbers(visitor: Writer, office: InOffice, batch_id: BatchId) -> Response:
    """Send the numbers for the printer; the export is written down."""
    return csv_answer(await card_batches.printed(office, seen(visitor), batch_id), f"cards-{batch_id}.csv")
