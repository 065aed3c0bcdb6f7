"""Tokens with which programs call the interface: made, listed, revoked."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel

from admin_api.accounts.history_finding import names_of
from admin_api.api.tokens import TokenAsked, TokenShown, list_tokens, make_token, revoke_token
from admin_api.coalition import coalition
from admin_api.console.credentials import told_once
from admin_api.console.entering import Fields, Refused, asked_of, taken_once
from admin_api.console.forms import FormKey, new_key
from admin_api.console.rendering import page
from admin_api.console.visitor import Flash, Visitor, go, seen, visiting
from admin_api.fields import Id
from admin_api.office import Office
from admin_api.paging import Position, decode
from admin_api.problem import Problem
from admin_api.security.authentication import InOffice
from admin_api.security.permissions import Permission

router = APIRouter()
Owner = Annotated[Visitor, Depends(visiting(Permission.TOKENS_WRITE))]
_PARTNERS_MAX = 200
_DAYS = "90"


class _Done(BaseModel):
    """It is done."""


@router.get("/tokens")
async def show_all(visitor: Owner, office: InOffice, cursor: Annotated[str, Query(max_length=1_024)] = "") -> Response:
    """Show tokens, those too that work no longer."""
    position = Position(key=decode(cursor)) if cursor else Position()
    found = await list_tokens(office, seen(visitor), position)
    now_ms = office.clock.now_ms()
    listed = [(token, _state(token, now_ms)) for token in found.items]
    names = await names_of(office, (token.created_by for token in found.items))
    return page(visitor, "tokens.html", tokens=listed, next=found.next or "", names=names)


@router.get("/tokens/new")
async def ask_new(visitor: Owner, office: InOffice) -> Response:
    """Ask what a token is for, and what it may do."""
    return await _new_page(visitor, office, {"name": "", "partner": "", "days": _DAYS, "permissions": ()})


@router.post("/tokens/new")
async def make(visitor: Owner, office: InOffice, key: FormKey, fields: Fields) -> Response:
    """Make a token, and show it once."""
    words = visitor.words
    typed = {name: str(fields.get(name, "")).strip() for name in ("name", "partner", "days")}
    given: dict[str, Any] = {**typed, "permissions": tuple(map(str, fields.getlist("permissions")))}
    partner_id = int(typed["partner"]) if typed["partner"].isdecimal() and typed["partner"].isascii() else None
    try:
        asked = asked_of(
            words, TokenAsked, name=typed["name"], permissions=list(given["permissions"]), partner_id=partner_id,
            days=typed["days"] or "0",
        )  # fmt: skip
        _check_days(visitor, office, asked.days)
        done = await taken_once(office, visitor, key, "token", asked, lambda: make_token(office, seen(visitor), asked))
    except Refused as told:
        return await _new_page(visitor, office, given, told)
    return told_once(visitor, "tokens", done["token"], "/tokens", name=asked.name, until_ms=done["expires_ms"])


@router.get("/tokens/{token_id}/revoke")
async def ask_revoke(visitor: Owner, office: InOffice, token_id: Id) -> Response:
    """Ask whether a token is to work no longer."""
    return await _asking(visitor, office, token_id)


@router.post("/tokens/{token_id}/revoke")
async def revoke(visitor: Owner, office: InOffice, token_id: Id, key: FormKey) -> Response:
    """End a token for good."""

    async def act() -> _Done:
        await revoke_token(office, seen(visitor), token_id)
        return _Done()

    try:
        await taken_once(office, visitor, key, f"revoke token {token_id}", {}, act)
    except Refused as told:
        return await _asking(visitor, office, token_id, told)
    return go("/tokens", Flash("done", "tokens.revoke_done", {}))


async def _new_page(visitor: Visitor, office: Office, typed: dict[str, Any], told: Refused | None = None) -> Response:
    partners = (await coalition.list_partners(office, seen(visitor), Position(limit=_PARTNERS_MAX))).items
    own = [permission.value for permission in Permission if seen(visitor).may(permission)]
    return page(
        visitor, "token_new.html", status=told.status if told else 200, typed=typed, offered=own,
        partners=partners, days_max=office.limits.token_days_max, wrong=told.sentence if told else "",
        faults=told.fields if told else {}, key=new_key(),
    )  # fmt: skip


def _check_days(visitor: Visitor, office: Office, days: int) -> None:
    words, most = visitor.words, office.limits.token_days_max
    if days > most:
        raise Refused(words.t("entry.mend"), {"days": words.t("tokens.days_most", days=most)})


async def _asking(visitor: Visitor, office: Office, token_id: int, told: Refused | None = None) -> Response:
    # Looked up in the list, newest first: the token itself is the first at or below its id.
    found = await list_tokens(office, seen(visitor), Position(limit=1, key=(token_id + 1,)))
    if not found.items or found.items[0].token_id != token_id:
        raise Problem(404, "not-found", "Not found", f"there is no token {token_id}")
    name = found.items[0].name
    asking = {"deed": "revoke_token", "name": name, "back": "/tokens", "danger": True, "fields": ()}
    return page(
        visitor, "ask.html", status=told.status if told else 200, asking=asking, section="tokens",
        trail=(("/tokens", visitor.words.t("tokens.title")),), wrong=told.sentence if told else "", key=new_key(),
    )  # fmt: skip


def _state(token: TokenShown, now_ms: int) -> str:
    if token.revoked_ms is not None:
        return "revoked"
    return "expired" if token.expires_ms <= now_ms else "active"
