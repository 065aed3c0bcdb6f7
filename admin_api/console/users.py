"""People who use the console: inviting them, what they may do, suspending them, new links."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Response

from admin_api.api.users import UserAsked, UserChange, change_user, invite_user, list_users, look_at_user, new_link
from admin_api.coalition import coalition
from admin_api.coalition.coalition import Partner
from admin_api.console.credentials import told_once
from admin_api.console.entering import Refused, asked_of, taken_once
from admin_api.console.forms import FormKey, Typed, new_key
from admin_api.console.rendering import page
from admin_api.console.visitor import Flash, Visitor, go, seen, visiting
from admin_api.console.words import LANGUAGES, Words
from admin_api.fields import Id
from admin_api.office import Office
from admin_api.paging import Position, decode
from admin_api.security.authentication import InOffice
from admin_api.security.permissions import Permission, Role

router = APIRouter()
Looking = Annotated[Visitor, Depends(visiting(Permission.USERS_READ))]
Writing = Annotated[Visitor, Depends(visiting(Permission.USERS_WRITE))]
Verb = Literal["suspend", "resume", "link"]
ROLES = tuple(role.value for role in Role)
_PARTNERS_MAX = 200


@router.get("/users")
async def show_all(
    visitor: Looking, office: InOffice, cursor: Annotated[str, Query(max_length=1_024)] = ""
) -> Response:
    """Show everybody, suspended ones too."""
    position = Position(key=decode(cursor)) if cursor else Position()
    found = await list_users(office, seen(visitor), position)
    return page(
        visitor, "users.html", users=found.items, next=found.next or "", partners=await _partners(visitor, office)
    )


@router.get("/users/new")
async def ask_new(visitor: Writing, office: InOffice) -> Response:
    """Ask who is to be invited, and as what."""
    return await _new_page(visitor, office, {"language": visitor.words.language, "role": Role.OPERATOR})


@router.post("/users/new")
async def invite(
    visitor: Writing, office: InOffice, key: FormKey, email: Typed = "", name: Typed = "", role: Typed = "",
    partner: Typed = "", language: Typed = "en",
) -> Response:  # fmt: skip
    """Invite somebody, and show the link once."""
    typed = {"email": email, "name": name, "role": role, "partner": partner, "language": language}
    words = visitor.words
    try:
        asked = asked_of(
            words, UserAsked, email=email, name=name, role=role, language=language,
            partner_id=_partner_id(words, role, partner),
        )  # fmt: skip
        done = await taken_once(
            office, visitor, key, "invite", asked, lambda: invite_user(office, seen(visitor), asked)
        )
    except Refused as told:
        return await _new_page(visitor, office, typed, told)
    place = f"/users/{done['user_id']}"
    return told_once(visitor, "users", done["link"], place, name=name.strip(), until_ms=done["expires_ms"])


@router.get("/users/{user_id}")
async def show(visitor: Looking, office: InOffice, user_id: Id) -> Response:
    """Show a user, and what can be done."""
    return await _user_page(visitor, office, user_id)


@router.post("/users/{user_id}")
async def change(
    visitor: Writing, office: InOffice, user_id: Id, key: FormKey, name: Typed = "", role: Typed = "",
    partner: Typed = "", language: Typed = "en",
) -> Response:  # fmt: skip
    """Change name, role and language."""
    words = visitor.words
    try:
        asked = asked_of(
            words, UserChange, name=name, role=role, language=language,
            partner_id=_partner_id(words, role, partner),
        )  # fmt: skip
        await taken_once(
            office, visitor, key, f"change user {user_id}", asked,
            lambda: change_user(office, seen(visitor), user_id, asked),
        )  # fmt: skip
    except Refused as told:
        return await _user_page(visitor, office, user_id, told)
    return go(f"/users/{user_id}", Flash("done", "users.change_done", {}))


@router.get("/users/{user_id}/{verb}")
async def ask(visitor: Writing, office: InOffice, user_id: Id, verb: Verb) -> Response:
    """Ask whether somebody is to be suspended, let in again, or sent a new link."""
    return await _asking(visitor, office, user_id, verb)


@router.post("/users/{user_id}/{verb}")
async def do(visitor: Writing, office: InOffice, user_id: Id, verb: Verb, key: FormKey) -> Response:
    """Suspend somebody, let in again, or make a new link, which is shown once."""
    actor = seen(visitor)
    place = f"/users/{user_id}"
    user = await look_at_user(office, actor, user_id)
    try:
        if verb == "link":
            done = await taken_once(
                office, visitor, key, f"link {user_id}", {}, lambda: new_link(office, actor, user_id)
            )
            return told_once(visitor, "users", done["link"], place, name=user.name, until_ms=done["expires_ms"])
        asked = UserChange(active=verb == "resume")
        await taken_once(
            office, visitor, key, f"{verb} user {user_id}", asked,
            lambda: change_user(office, actor, user_id, asked),
        )  # fmt: skip
    except Refused as told:
        return await _asking(visitor, office, user_id, verb, told)
    return go(place, Flash("done", f"users.{verb}_done", {"name": user.name}))


async def _new_page(visitor: Visitor, office: Office, typed: dict[str, Any], told: Refused | None = None) -> Response:
    return page(
        visitor, "user_new.html", status=told.status if told else 200, typed=typed, roles=ROLES,
        spoken=LANGUAGES, partners=await _partners(visitor, office), wrong=told.sentence if told else "",
        faults=told.fields if told else {}, key=new_key(),
    )  # fmt: skip


async def _user_page(visitor: Visitor, office: Office, user_id: int, told: Refused | None = None) -> Response:
    user = await look_at_user(office, seen(visitor), user_id)
    return page(
        visitor, "user.html", status=told.status if told else 200, user=user, roles=ROLES, spoken=LANGUAGES,
        partners=await _partners(visitor, office), locked=user.locked_until_ms > office.clock.now_ms(),
        wrong=told.sentence if told else "", faults=told.fields if told else {}, key=new_key(),
    )  # fmt: skip


async def _asking(visitor: Visitor, office: Office, user_id: int, verb: str, told: Refused | None = None) -> Response:
    user = await look_at_user(office, seen(visitor), user_id)
    asking = {
        "deed": f"{verb}_user", "name": user.name, "back": f"/users/{user_id}", "danger": verb == "suspend",
        "fields": (),
    }  # fmt: skip
    return page(
        visitor, "ask.html", status=told.status if told else 200, asking=asking, section="users",
        trail=(("/users", visitor.words.t("users.title")), (f"/users/{user_id}", user.name)),
        wrong=told.sentence if told else "", key=new_key(),
    )  # fmt: skip


async def _partners(visitor: Visitor, office: Office) -> list[Partner]:
    if not visitor.may(Permission.COALITION_READ):
        return []
    return (await coalition.list_partners(office, seen(visitor), Position(limit=_PARTNERS_MAX))).items


def _partner_id(words: Words, role: str, text: str) -> int | None:
    """Return whose people somebody is one of; only the role of a partner's people has one. Raises Refused."""
    if role != Role.PARTNER:
        return None
    if not (text.isdecimal() and text.isascii()):
        raise Refused(words.t("entry.mend"), {"partner": words.t("users.partner_needed")})
    return int(text)
