"""For the site and the app of a chain: a member's token sees one account."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from admin_api.accounts.accounts import BalanceView, Expiring
from admin_api.accounts.history import EntryView, Wanted
from admin_api.api.cards import BlockAsked, CardList
from admin_api.cards.cards import CardView, Ref
from admin_api.idempotency import IdempotencyKey, Reply, once
from admin_api.members import me
from admin_api.members.me import OwnChange
from admin_api.members.members import MemberView
from admin_api.paging import Cursor, Page
from admin_api.problem import PROBLEMS
from admin_api.security.actor import Actor
from admin_api.security.authentication import InOffice, acting
from admin_api.security.permissions import Permission
from ledger.registry.accounts import EntryFilter

router = APIRouter(prefix="/v1/me", tags=["me"], responses=PROBLEMS)

Member = Annotated[Actor, Depends(acting(Permission.OWN_ACCOUNT))]
Filter = Annotated[EntryFilter, Depends(Wanted.of_query)]


class ExpiringList(BaseModel):
    """What expires when, soonest first."""

    items: list[Expiring]
    next: str | None = None


@router.get("", summary="Look at one's own data.")
async def own_data(office: InOffice, actor: Member) -> MemberView:
    """Look; the audit log notes it."""
    return await me.own_data(office, actor)


@router.patch("", summary="Change one's own data.")
async def change(office: InOffice, actor: Member, body: OwnChange) -> MemberView:
    """Change what is named, if nobody changed the version that you saw (409)."""
    return await me.change_own_data(office, actor, body)


@router.get("/balance", summary="Look at one's own balance.")
async def balance(office: InOffice, actor: Member) -> BalanceView:
    """Tell what a register would tell now."""
    return await me.own_balance(office, actor)


@router.get("/expiring", summary="Tell what expires when.")
async def expiring(office: InOffice, actor: Member) -> ExpiringList:
    """List days and points, soonest first."""
    return ExpiringList(items=await me.own_expiring(office, actor))


@router.get("/entries", summary="List what happened on one's own account.")
async def entries(office: InOffice, actor: Member, wanted: Filter, position: Cursor) -> Page[EntryView]:
    """List it newest first."""
    return await me.own_entries(office, actor, wanted, position)


@router.get("/cards", summary="List one's own cards.")
async def cards(office: InOffice, actor: Member) -> CardList:
    """List them oldest first."""
    return CardList(items=await me.own_cards(office, actor))


@router.post("/cards/{card}/block", response_model=CardView, summary="Block one of one's own cards.")
async def block(office: InOffice, actor: Member, card: Ref, key: IdempotencyKey, body: BlockAsked) -> JSONResponse:
    """Block a lost card; only an operator can let it work again."""

    async def work(request_id: bytes) -> Reply:
        return Reply.of(await me.block_own_card(office, actor, card, request_id, body.reason))

    return await once(office, actor, key, body, work)
