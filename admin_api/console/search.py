"""The search of the top bar: it takes whatever a caller shows, says or spells.

It is a POST, because a phone number or a name must stand in no address, no history and no log.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Annotated

from fastapi import APIRouter, Depends, Form, Response

from admin_api.accounts import accounts
from admin_api.cards.cards import tokens_for
from admin_api.console.forms import at
from admin_api.console.rendering import page
from admin_api.console.visitor import Visitor, go, seen, visiting
from admin_api.console.words import Words
from admin_api.members import members
from admin_api.members.members import Found
from admin_api.office import Office
from admin_api.problem import Problem
from admin_api.security.authentication import InOffice
from admin_api.security.permissions import Permission

router = APIRouter()
Finder = Annotated[Visitor, Depends(visiting(Permission.CARDS_READ))]

_TEXT_MAX = 256
_REQUEST_ID = re.compile(r"[0-9a-fA-F]{32}")
_ACCOUNT = re.compile(r"(?:account|\u0441\u0447[\u0435\u0451]\u0442)?\s*#?\s*(\d{1,14})", re.IGNORECASE)
_ACCOUNT_MAX = 2**48
_EAN13_DIGITS, _PAN_DIGITS = 13, 16
_PHONE_MIN, _PHONE_MAX = 7, 15


@router.get("/search")
async def ask(visitor: Finder) -> Response:
    """Show an empty search, for whoever comes back to it."""
    return page(visitor, "search.html", text="", found=[], tried=[], hint="")


@router.post("/search")
async def search(visitor: Finder, office: InOffice, q: Annotated[str, Form()] = "") -> Response:
    """Go to the account that is meant, or the request, or let somebody choose, or say what was tried."""
    text = q.strip()[:_TEXT_MAX]
    if not text:
        return go("/search")
    compact = text.replace("-", "").replace(" ", "")
    if _REQUEST_ID.fullmatch(compact) and visitor.may(Permission.ACCOUNTS_READ):
        return go(f"/requests/{compact.lower()}")
    found = await found_by(office, visitor, text)
    if len(found) == 1:
        return go(f"/accounts/{found[0].account_id}")
    tried, hint = _tried(visitor, text), _hint(visitor.words, text)
    return page(at(visitor, "/search"), "search.html", text=text, found=found, tried=tried, hint=hint)


async def found_by(office: Office, visitor: Visitor, text: str) -> list[Found]:
    """Return the accounts that somebody may mean: by card, by member, or by the account's own number."""
    found = await members.search(office, seen(visitor), text)
    match = _ACCOUNT.fullmatch(text)
    if not found and match and 0 < int(match[1]) < _ACCOUNT_MAX and visitor.may(Permission.ACCOUNTS_READ):
        with suppress(Problem):
            account = await accounts.account_of(office, seen(visitor), int(match[1]))
            unnamed = Found(
                account_id=account.account_id, given_name=None, family_name=None, erased=False, cards=account.cards
            )
            found = [unnamed]
    return found


def _tried(visitor: Visitor, text: str) -> list[str]:
    """Return as what the text was looked for."""
    kinds = {token.partition(":")[0] for token in tokens_for(text)}
    keys = [f"search.as_{kind}" for kind in ("ean13", "pan", "phone") if kind in kinds]
    if visitor.may(Permission.MEMBERS_READ):
        if "@" in text:
            keys.append("search.as_email")
        elif any(character.isalpha() for character in text):
            keys.append("search.as_name")
    if "virtual" in kinds:
        keys.append("search.as_virtual")
    if _ACCOUNT.fullmatch(text) and visitor.may(Permission.ACCOUNTS_READ):
        keys.append("search.as_account")
    return [visitor.words.t(key) for key in keys]


def _hint(words: Words, text: str) -> str:
    """Return what may be wrong with the text itself."""
    digits = re.sub(r"\D", "", text)
    kinds = {token.partition(":")[0] for token in tokens_for(text)}
    if any(character.isalpha() for character in text) or text.startswith("+"):
        return ""
    if len(digits) == _EAN13_DIGITS and "ean13" not in kinds:
        return words.t("search.check_digit_ean13")
    if len(digits) == _PAN_DIGITS and "pan" not in kinds:
        return words.t("search.check_digit_pan")
    if _PHONE_MIN <= len(digits) <= _PHONE_MAX and len(digits) != _EAN13_DIGITS:
        return words.t("search.country_code")
    return ""
