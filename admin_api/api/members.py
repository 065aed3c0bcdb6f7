"""Members: register, find, look at, change, erase."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from admin_api.api.answers import Done
from admin_api.fields import Asked
from admin_api.idempotency import IdempotencyKey, Reply, once
from admin_api.members import member_changes, members
from admin_api.members.members import (
    AccountId,
    Changed,
    ChangeView,
    Created,
    Found,
    MemberAsked,
    MemberChange,
    MemberView,
)
from admin_api.problem import PROBLEMS
from admin_api.security.actor import Actor
from admin_api.security.authentication import InOffice, acting
from admin_api.security.permissions import Permission

router = APIRouter(prefix="/v1/members", tags=["members"], responses=PROBLEMS)

Reader = Annotated[Actor, Depends(acting(Permission.MEMBERS_READ))]
Writer = Annotated[Actor, Depends(acting(Permission.MEMBERS_WRITE))]
Eraser = Annotated[Actor, Depends(acting(Permission.MEMBERS_ERASE))]
Finder = Annotated[Actor, Depends(acting(Permission.CARDS_READ))]


class SearchAsked(Asked):
    """What somebody showed, typed or said: a card in any form, a phone number, an e-mail address, a name."""

    text: str = Field(min_length=1, max_length=256)


class FoundList(BaseModel):
    """What was found, cards first. There is no next page: say more to find less."""

    items: list[Found]
    next: str | None = None


class MemberAnswer(BaseModel):
    """A member, with the log of changes if it was asked for."""

    member: MemberView
    changes: list[ChangeView] | None = None


@router.post("", status_code=201, response_model=Created, summary="Register a member.")
async def create(office: InOffice, actor: Writer, key: IdempotencyKey, body: MemberAsked) -> JSONResponse:
    """Register: cards that exist come with their account, others are made. Nothing of the request is told back."""

    async def work(request_id: bytes) -> Reply:
        return Reply.of(await members.create(office, actor, body, request_id), 201)

    return await once(office, actor, key, body, work)


@router.post("/search", summary="Find members by anything they show or say.")
async def search(office: InOffice, actor: Finder, _key: IdempotencyKey, body: SearchAsked) -> FoundList:
    """Look, and change nothing; a POST, so that personal data stand in no address and no log."""
    return FoundList(items=await members.search(office, actor, body.text))


@router.get("/{account_id}", summary="Look at a member's personal data.")
async def member(
    office: InOffice,
    actor: Reader,
    account_id: AccountId,
    changes: Annotated[bool, Query(description="Also tell who changed what.")] = False,
) -> MemberAnswer:
    """Look; the audit log notes it."""
    seen = await members.member_of(office, actor, account_id)
    log = await members.changes_of(office, actor, account_id) if changes else None
    return MemberAnswer(member=seen, changes=log)


@router.patch("/{account_id}", summary="Change a member's personal data.")
async def change(office: InOffice, actor: Writer, account_id: AccountId, body: MemberChange) -> Changed:
    """Change what is named, if nobody changed the version that you saw (409).

    A changed phone number takes the place of the old one as a card, if that was one.
    """
    return await member_changes.change(office, actor, account_id, body)


@router.post("/{account_id}/phone-card", response_model=Done, summary="Let the phone number work as a card.")
async def link_phone(office: InOffice, actor: Writer, account_id: AccountId, key: IdempotencyKey) -> JSONResponse:
    """Link the number in the member's data."""

    async def work(request_id: bytes) -> Reply:
        await member_changes.link_phone(office, actor, account_id, request_id)
        return Reply.of(Done())

    return await once(office, actor, key, {}, work)


@router.post("/{account_id}/erase", response_model=Done, summary="Forget a member's personal data.")
async def erase(office: InOffice, actor: Eraser, account_id: AccountId, key: IdempotencyKey) -> JSONResponse:
    """Erase: account, balance and journal stay. It cannot be undone; doing it again changes nothing."""

    async def work(request_id: bytes) -> Reply:
        await member_changes.erase(office, actor, account_id, request_id)
        return Reply.of(Done())

    return await once(office, actor, key, {}, work)
