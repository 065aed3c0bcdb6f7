"""The page of a member: personal data, shown only to who may see them, each look written down."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Query, Response
from pydantic import ValidationError

from admin_api.accounts import accounts
from admin_api.api.answers import AccountPath
from admin_api.console.account_words import when
from admin_api.console.forms import FormKey, NotTaken, Typed, form_page, new_key, number_of, taken
from admin_api.console.member_form import CARD_KINDS, FIELDS, Personal, shown_changes, shown_member
from admin_api.console.rendering import page
from admin_api.console.visitor import Flash, Visitor, go, seen, visiting
from admin_api.idempotency import Reply
from admin_api.members import member_changes, members
from admin_api.members.members import MemberAsked, MemberCard, MemberChange
from admin_api.office import Office
from admin_api.problem import Problem, conflict
from admin_api.security.authentication import InOffice
from admin_api.security.permissions import Permission

router = APIRouter()
Reader = Annotated[Visitor, Depends(visiting(Permission.MEMBERS_READ))]
Writer = Annotated[Visitor, Depends(visiting(Permission.MEMBERS_WRITE))]
Eraser = Annotated[Visitor, Depends(visiting(Permission.MEMBERS_ERASE))]
Filled = Annotated[Personal, Depends(Personal.of_form)]
Account = Annotated[str, Form(pattern=r"^\d{0,14}$")]

_NOT_FOUND = 404


@router.get("/members/new")
async def ask_new(
    visitor: Writer, office: InOffice, account: Annotated[str, Query(pattern=r"^\d{0,14}$")] = ""
) -> Response:
    """Ask for the data of a new member, of an account that is there or of a new one."""
    if account:
        await accounts.check_account(office, int(account))
    return _new_page(visitor, Personal(), account, {})


@router.post("/members/new")
async def create(
    visitor: Writer, office: InOffice, key: FormKey, filled: Filled,
    account: Account = "", kind: Typed = "", number: Typed = "", phone_as_card: Typed = "",
) -> Response:  # fmt: skip
    """Register a member."""
    words = visitor.words
    in_hand = {"kind": kind, "number": number_of(kind, number)}
    more = {"kind": kind, "number": number.strip(), "phone_as_card": phone_as_card}
    try:
        try:
            asked = MemberAsked(
                personal=filled.given(),
                cards=[MemberCard.model_validate(in_hand)] if in_hand["number"] else [],
                phone_as_card=bool(phone_as_card) and bool(filled.phone.strip()),
                account_id=int(account) if account else None,
            )
        except ValidationError:
            raise NotTaken(words.t("form.bad_request")) from None

        async def work(request_id: bytes) -> Reply:
            return Reply(201, (await members.create(office, seen(visitor), asked, request_id)).model_dump())

        reply = await taken(office, visitor, key, "new member", asked.model_dump(), work)
    except NotTaken as told:
        return _new_page(visitor, filled, account, more, told=told)
    made = members.Created(**reply.body)
    flash = Flash("wrong", "member.created_without", {}) if made.not_linked else Flash("done", "member.created", {})
    return go(f"/members/{made.account_id}", flash)


def _new_page(
    visitor: Visitor, filled: Personal, account: str, more: dict[str, str], *, told: NotTaken | None = None
) -> Response:
    return form_page(
        visitor,
        f"/members/new?account={account}" if account else "/members/new",
        "member_form.html",
        told,
        new=True,
        account_id=account,
        version=0,
        filled=filled,
        kept={},
        fields=FIELDS,
        kinds=CARD_KINDS,
        more={"kind": "ean13", "number": "", "phone_as_card": "", **more},
    )


@router.get("/members/{account_id}")
async def show(
    visitor: Reader, office: InOffice, account_id: AccountPath, changes: Annotated[str, Query()] = ""
) -> Response:
    """Show the personal data; the look is written down."""
    actor, words = seen(visitor), visitor.words
    try:
        member = await members.member_of(office, actor, account_id)
    except Problem as problem:
        if problem.status != _NOT_FOUND:
            raise
        await accounts.check_account(office, account_id)
        return page(visitor, "member_none.html", account_id=account_id)
    log = await members.changes_of(office, actor, account_id) if changes else None
    return page(
        visitor,
        "member.html",
        member=member,
        rows=shown_member(words, member),
        created=when(words, member.created_ms),
        changed=when(words, member.changed_ms),
        erased=when(words, member.erased_ms) if member.erased_ms else "",
        log=None if log is None else shown_changes(words, log),
        account=await accounts.account_of(office, actor, account_id),
        key=new_key(),
    )


@router.get("/members/{account_id}/change")
async def ask_change(visitor: Writer, office: InOffice, account_id: AccountPath) -> Response:
    """Show the data in a form; the look is written down."""
    member = await members.member_of(office, seen(visitor), account_id)
    if member.erased_ms is not None or not member.readable:
        raise conflict("these data cannot be changed")
    return _change_page(visitor, account_id, Personal.of_member(member), member.version, {})


@router.post("/members/{account_id}/change")
async def change(
    visitor: Writer, office: InOffice, account_id: AccountPath, key: FormKey, filled: Filled,
    version: Annotated[int, Form(ge=1)],
) -> Response:  # fmt: skip
    """Change the data, if nobody else did so meanwhile."""
    actor = seen(visitor)
    try:
        asked = MemberChange(version=version, **filled.given().model_dump(exclude_unset=True))

        async def work(_request_id: bytes) -> Reply:
            return Reply(200, (await member_changes.change(office, actor, account_id, asked)).model_dump())

        reply = await taken(office, visitor, key, f"change member {account_id}", asked.model_dump(), work)
    except NotTaken as told:
        return await _again(visitor, office, account_id, filled, version, told)
    became = reply.body["phone_card"]
    flash = Flash("done", f"member.changed_phone_{became}" if became else "member.changed", {})
    return go(f"/members/{account_id}", flash)


async def _again(
    visitor: Visitor, office: Office, account_id: int, filled: Personal, version: int, told: NotTaken
) -> Response:
    """Show the form again, with what somebody else put there meanwhile beside what was filled in."""
    member = await members.member_of(office, seen(visitor), account_id)
    kept: dict[str, Any] = {}
    if member.version != version:
        told = NotTaken(visitor.words.t("member.changed_meanwhile"), told.status)
        now = Personal.of_member(member)
        kept = {name: getattr(now, name) for name in FIELDS if getattr(now, name) != getattr(filled, name)}
    return _change_page(visitor, account_id, filled, member.version, kept, told=told)


def _change_page(
    visitor: Visitor, account_id: int, filled: Personal, version: int, kept: dict[str, Any], *,
    told: NotTaken | None = None,
) -> Response:  # fmt: skip
    return form_page(
        visitor,
        f"/members/{account_id}/change",
        "member_form.html",
        told,
        new=False,
        account_id=account_id,
        version=version,
        filled=filled,
        kept=kept,
        fields=FIELDS,
        kinds=(),
        more={},
    )


@router.post("/members/{account_id}/phone-card")
async def link_phone(visitor: Writer, office: InOffice, account_id: AccountPath, key: FormKey) -> Response:
    """Let the phone number in the data work as a card."""

    async def work(request_id: bytes) -> Reply:
        await member_changes.link_phone(office, seen(visitor), account_id, request_id)
        return Reply(200, {})

    try:
        await taken(office, visitor, key, f"phone of {account_id}", {}, work)
    except NotTaken as told:
        return go(f"/members/{account_id}", Flash("wrong", "form.said", {"sentence": told.sentence}))
    return go(f"/members/{account_id}", Flash("done", "member.phone_linked", {}))


@router.get("/members/{account_id}/erase")
async def ask_erase(visitor: Eraser, office: InOffice, account_id: AccountPath) -> Response:
    """Ask whether all that a member told is to be forgotten."""
    await accounts.check_account(office, account_id)
    return _erase_page(visitor, account_id)


@router.post("/members/{account_id}/erase")
async def erase(visitor: Eraser, office: InOffice, account_id: AccountPath, key: FormKey, sure: Typed = "") -> Response:
    """Forget all that a member told."""
    if not sure:
        return _erase_page(visitor, account_id, told=NotTaken(visitor.words.t("member.erase_not_sure")))

    async def work(request_id: bytes) -> Reply:
        await member_changes.erase(office, seen(visitor), account_id, request_id)
        return Reply(200, {})

    try:
        await taken(office, visitor, key, f"erase member {account_id}", {}, work)
    except NotTaken as told:
        return _erase_page(visitor, account_id, told=told)
    return go(f"/accounts/{account_id}", Flash("done", "member.erased", {}))


def _erase_page(visitor: Visitor, account_id: int, *, told: NotTaken | None = None) -> Response:
    return form_page(
        visitor,
        f"/members/{account_id}/erase",
        "member_erase.html",
        told,
        account_id=account_id,
    )
