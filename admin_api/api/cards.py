"""Cards and batches of cards: find, issue, activate, block, unblock, replace, unlink, print."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, Field

from admin_api.api.answers import CSV, Done, csv_answer
from admin_api.cards import card_batches, cards
from admin_api.cards.card_batches import BatchAsked, BatchView
from admin_api.cards.cards import CardView, IssueAsked, Issued, NumberAsked, Reason, Ref
from admin_api.fields import Asked
from admin_api.idempotency import IdempotencyKey, Reply, once, once_in_registry
from admin_api.paging import Cursor, Page
from admin_api.problem import PROBLEMS
from admin_api.security.actor import Actor
from admin_api.security.authentication import InOffice, acting
from admin_api.security.permissions import Permission

router = APIRouter(prefix="/v1", tags=["cards"], responses=PROBLEMS)

Reader = Annotated[Actor, Depends(acting(Permission.CARDS_READ))]
Writer = Annotated[Actor, Depends(acting(Permission.CARDS_WRITE))]
BatchId = Annotated[int, Path(ge=1, le=2**31 - 2)]


class FindAsked(Asked):
    """What was shown: the number in any form, the data of a magnetic track, a phone number."""

    text: str = Field(min_length=1, max_length=256)


class CardList(BaseModel):
    """Cards; there are never so many that they need a second page."""

    items: list[CardView]
    next: str | None = None


class BlockAsked(Asked):
    """Why a card is blocked."""

    reason: Reason = Reason.OTHER


class ReplaceAsked(Asked):
    """The card that takes the place, and why."""

    card: NumberAsked
    reason: Reason = Reason.LOST


@router.post("/cards/find", summary="Find a card by whatever is shown.")
async def find(office: InOffice, actor: Reader, _key: IdempotencyKey, body: FindAsked) -> CardList:
    """Look, and change nothing; a POST, so that no number stands in an address or a log."""
    return CardList(items=await cards.find_cards(office, actor, body.text))


@router.post("/cards", status_code=201, response_model=Issued, summary="Issue a card.")
async def issue(office: InOffice, actor: Writer, key: IdempotencyKey, body: IssueAsked) -> JSONResponse:
    """Tell a number that is drawn in this answer alone."""

    async def work(request_id: bytes) -> Reply:
        return Reply.of(await cards.issue(office, actor, body, request_id), 201)

    # A free card is a matter of rows, one for an account is the ledger's.
    do_once = once_in_registry if body.account_id is None else once
    return await do_once(office, actor, key, body, work)


@router.get("/cards/{card}", summary="Look at a card.")
async def card(office: InOffice, actor: Reader, card: Ref) -> CardView:
    """Look a card up by its reference, which all answers about cards tell."""
    return await cards.card_by_ref(office, actor, card)


@router.post("/cards/{card}/activate", response_model=CardView, summary="Let an issued card begin to work.")
async def activate(office: InOffice, actor: Writer, card: Ref, key: IdempotencyKey) -> JSONResponse:
    """Activate a card; any but an issued one is declined."""

    async def work(request_id: bytes) -> Reply:
        return Reply.of(await cards.activate(office, actor, card, request_id))

    return await once(office, actor, key, {}, work)


@router.post("/cards/{card}/block", response_model=CardView, summary="Stop a card.")
async def block(office: InOffice, actor: Writer, card: Ref, key: IdempotencyKey, body: BlockAsked) -> JSONResponse:
    """Block a card; the account and its other cards live on."""

    async def work(request_id: bytes) -> Reply:
        return Reply.of(await cards.block(office, actor, card, request_id, body.reason))

    return await once(office, actor, key, body, work)


@router.post("/cards/{card}/unblock", response_model=CardView, summary="Let a blocked card work again.")
async def unblock(office: InOffice, actor: Writer, card: Ref, key: IdempotencyKey) -> JSONResponse:
    """Unblock a card; any but a blocked one is declined."""

    async def work(request_id: bytes) -> Reply:
        return Reply.of(await cards.unblock(office, actor, card, request_id))

    return await once(office, actor, key, {}, work)


@router.post("/cards/{card}/unlink", response_model=Done, summary="Take a card from its account.")
async def unlink(office: InOffice, actor: Writer, card: Ref, key: IdempotencyKey) -> JSONResponse:
    """Let a card lead nowhere, as a phone number that changed hands: any account may get it. Its account lives on."""

    async def work(request_id: bytes) -> Reply:
        await cards.unlink(office, actor, card, request_id)
        return Reply.of(Done())

    return await once(office, actor, key, {}, work)


@router.post("/cards/{card}/replace", response_model=Issued, summary="Put a new card in the place of an old one.")
async def replace(office: InOffice, actor: Writer, card: Ref, key: IdempotencyKey, body: ReplaceAsked) -> JSONResponse:
    """Replace a card: account, balance and history stay, the old one never works again."""

    async def work(request_id: bytes) -> Reply:
        return Reply.of(await cards.replace(office, actor, card, body.card, request_id, body.reason))

    return await once(office, actor, key, body, work)


@router.post("/card-batches", status_code=201, response_model=BatchView, summary="Make a batch of cards.")
async def make_batch(office: InOffice, actor: Writer, key: IdempotencyKey, body: BatchAsked) -> JSONResponse:
    """Make all of them or none. Their numbers come from `GET /v1/card-batches/{batch_id}/numbers`."""

    async def work(request_id: bytes) -> Reply:
        return Reply.of(await card_batches.make_batch(office, actor, body, request_id), 201)

    return await once_in_registry(office, actor, key, body, work)


@router.get("/card-batches", summary="List the batches.")
async def batches(office: InOffice, actor: Reader, position: Cursor) -> Page[BatchView]:
    """List them newest first, with how many of their cards are issued, active, blocked and replaced."""
    return await card_batches.batches(office, actor, position)


@router.get("/card-batches/{batch_id}", summary="Look at a batch.")
async def batch(office: InOffice, actor: Reader, batch_id: BatchId) -> BatchView:
    """Tell how many of its cards are issued, active, blocked and replaced."""
    return await card_batches.batch_of(office, actor, batch_id)


@router.get(
    "/card-batches/{batch_id}/numbers",
    response_class=StreamingResponse,
    responses=CSV,
    summary="Export the numbers of a batch for the printer.",
)
async def numbers(office: InOffice, actor: Writer, batch_id: BatchId) -> StreamingResponse:
    """Stream number, number grouped for reading, check digit, batch and sequence. Each export is written down."""
    return csv_answer(await card_batches.printed(office, actor, batch_id), f"cards-{batch_id}.csv")
