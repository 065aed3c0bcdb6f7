"""Accounts: balance, history, adjustments, holds, blocking, merging, and what became of a request."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query
from fastapi.responses import JSONResponse, StreamingResponse

from admin_api.accounts import accounts, adjustments, history, merges
from admin_api.accounts.accounts import AccountView, Because
from admin_api.accounts.adjustments import AdjustmentAsked, AdjustmentView, State
from admin_api.accounts.history import EntryView, RequestView, Wanted
from admin_api.accounts.merges import MergeAsked, MergeView
from admin_api.api.answers import CSV, AccountPath, Done, csv_answer
from admin_api.api.cards import CardList
from admin_api.cards.cards import cards_of
from admin_api.fields import BigId
from admin_api.idempotency import IdempotencyKey, Reply, once, once_in_registry
from admin_api.paging import Cursor, Page
from admin_api.problem import PROBLEMS
from admin_api.security.actor import Actor
from admin_api.security.authentication import InOffice, acting
from admin_api.security.permissions import Permission
from ledger.registry.accounts import EntryFilter

router = APIRouter(prefix="/v1", tags=["accounts"], responses=PROBLEMS)

Reader = Annotated[Actor, Depends(acting(Permission.ACCOUNTS_READ))]
Writer = Annotated[Actor, Depends(acting(Permission.ACCOUNTS_WRITE))]
Approver = Annotated[Actor, Depends(acting(Permission.ADJUSTMENTS_APPROVE))]
CardReader = Annotated[Actor, Depends(acting(Permission.CARDS_READ))]
RequestId = Annotated[str, Path(pattern=r"^[0-9a-fA-F]{32}$", description="32 hexadecimal digits.")]
Filter = Annotated[EntryFilter, Depends(Wanted.of_query)]


@router.get("/accounts/{account_id}", summary="Look at an account.")
async def account(office: InOffice, actor: Reader, account_id: AccountPath) -> AccountView:
    """Tell balance, lots, open holds and cards as they are now."""
    return await accounts.account_of(office, actor, account_id)


@router.get("/accounts/{account_id}/cards", summary="List the cards of an account.")
async def cards(office: InOffice, actor: CardReader, account_id: AccountPath) -> CardList:
    """List them oldest first."""
    return CardList(items=await cards_of(office, actor, account_id))


@router.get("/accounts/{account_id}/entries", summary="List what happened on an account.")
async def entries(
    office: InOffice, actor: Reader, account_id: AccountPath, wanted: Filter, position: Cursor
) -> Page[EntryView]:
    """List them newest first. Declines leave no entry."""
    return await history.entries_of(office, actor, account_id, wanted, position)


@router.get(
    "/accounts/{account_id}/entries.csv",
    response_class=StreamingResponse,
    responses=CSV,
    summary="Export what happened on an account.",
)
async def export(office: InOffice, actor: Reader, account_id: AccountPath, wanted: Filter) -> StreamingResponse:
    """Stream the same entries, newest first, with the filters of the list. Each export is written down."""
    return csv_answer(await history.exported(office, actor, account_id, wanted), f"account-{account_id}.csv")


@router.get("/requests/{request_id}", summary="Tell what became of a request.")
async def request(office: InOffice, actor: Reader, request_id: RequestId) -> RequestView:
    """Find a request by the id that the register printed or logged, with all that refers to it."""
    return await history.request_of(office, actor, bytes.fromhex(request_id))


@router.post(
    "/accounts/{account_id}/adjustments",
    status_code=201,
    response_model=AdjustmentView,
    responses={202: {"model": AdjustmentView, "description": "It waits for a second person."}},
    summary="Give or take points by hand.",
)
async def adjust(
    office: InOffice, actor: Writer, account_id: AccountPath, key: IdempotencyKey, body: AdjustmentAsked
) -> JSONResponse:
    """Adjust at once (201), or, above the installation's limit, when somebody else has approved (202)."""

    async def work(request_id: bytes) -> Reply:
        made = await adjustments.adjust(office, actor, account_id, body, request_id)
        return Reply.of(made, 202 if made.state == "waiting" else 201)

    return await once(office, actor, key, body, work)


@router.get("/adjustments", summary="List adjustments.")
async def listed(
    office: InOffice,
    actor: Reader,
    position: Cursor,
    state: Annotated[State | None, Query(description="Only those in this state.")] = None,
    account_id: Annotated[int | None, Query(ge=1, le=2**48 - 1)] = None,
) -> Page[AdjustmentView]:
    """List them newest first."""
    return await adjustments.listed(office, actor, position, state, account_id)


@router.post("/adjustments/{adjustment_id}/approve", response_model=AdjustmentView, summary="Approve an adjustment.")
async def approve(office: InOffice, actor: Approver, adjustment_id: BigId, key: IdempotencyKey) -> JSONResponse:
    """Approve what somebody else asked for; it is made at once."""

    async def work(_request_id: bytes) -> Reply:
        return Reply.of(await adjustments.approve(office, actor, adjustment_id))

    return await once(office, actor, key, {}, work)


@router.post("/adjustments/{adjustment_id}/decline", response_model=AdjustmentView, summary="Decline an adjustment.")
async def decline(office: InOffice, actor: Approver, adjustment_id: BigId, key: IdempotencyKey) -> JSONResponse:
    """Decline what somebody else asked for; nothing happens to the account."""

    async def work(_request_id: bytes) -> Reply:
        return Reply.of(await adjustments.decline(office, actor, adjustment_id))

    return await once_in_registry(office, actor, key, {}, work)


@router.post(
    "/accounts/{account_id}/holds/{hold_id}/release", response_model=Done, summary="Free what a stuck hold holds."
)
async def release(
    office: InOffice, actor: Writer, account_id: AccountPath, hold_id: RequestId, key: IdempotencyKey, body: Because
) -> JSONResponse:
    """Release a hold, whoever made it; the register that did can no longer capture it."""

    async def work(request_id: bytes) -> Reply:
        await accounts.release(office, actor, account_id, bytes.fromhex(hold_id), request_id, body.reason)
        return Reply.of(Done())

    return await once(office, actor, key, body, work)


@router.post("/accounts/{account_id}/block", response_model=Done, summary="Block an account.")
async def block(
    office: InOffice, actor: Writer, account_id: AccountPath, key: IdempotencyKey, body: Because
) -> JSONResponse:
    """Block an account with all its cards."""

    async def work(request_id: bytes) -> Reply:
        await accounts.block(office, actor, account_id, request_id, body.reason)
        return Reply.of(Done())

    return await once(office, actor, key, body, work)


@router.post("/accounts/{account_id}/unblock", response_model=Done, summary="Unblock an account.")
async def unblock(
    office: InOffice, actor: Writer, account_id: AccountPath, key: IdempotencyKey, body: Because
) -> JSONResponse:
    """Let a blocked account work again; cards that were blocked by themselves stay so."""

    async def work(request_id: bytes) -> Reply:
        await accounts.unblock(office, actor, account_id, request_id, body.reason)
        return Reply.of(Done())

    return await once(office, actor, key, body, work)


@router.post("/accounts/{account_id}/merge", response_model=MergeView, summary="Merge another account into this one.")
async def merge(
    office: InOffice, actor: Writer, account_id: AccountPath, key: IdempotencyKey, body: MergeAsked
) -> JSONResponse:
    """Let two accounts of one person become one: points with their days, cards, and what is owed. It stays so."""

    async def work(request_id: bytes) -> Reply:
        return Reply.of(await merges.merge(office, actor, account_id, body, request_id))

    return await once(office, actor, key, body, work)
