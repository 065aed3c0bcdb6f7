"""Relays: how each of them is, giving one to a store, its key and its allowances."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Response

from admin_api.coalition import coalition, conflicts, relays
from admin_api.coalition.relay_credentials import ALLOWANCE_MS, ALLOWANCE_MS_MAX
from admin_api.coalition.relays import NewRelay, Relay, RelayChange
from admin_api.console.entering import Refused, asked_of, taken_once
from admin_api.console.forms import FormKey, Typed, at, new_key, points_of
from admin_api.console.relay_words import relay_told
from admin_api.console.rendering import page
from admin_api.console.visitor import Flash, Visitor, go, seen, visiting
from admin_api.console.words import Words
from admin_api.fields import Id
from admin_api.office import Office
from admin_api.paging import Position, decode
from admin_api.security.authentication import InOffice
from admin_api.security.permissions import Permission

router = APIRouter()
Looking = Annotated[Visitor, Depends(visiting(Permission.COALITION_READ))]
Keeper = Annotated[Visitor, Depends(visiting(Permission.TERMINALS_WRITE))]
Which = Literal["all", "silent"]

_HOUR_MS = 3_600_000
_HOURS_MAX = ALLOWANCE_MS_MAX // _HOUR_MS
_QUESTION_CHARACTERS_MAX = 128
_FILE = "relay.credential"


@router.get("/relays")
async def show_list(
    visitor: Looking,
    office: InOffice,
    show: Annotated[Which, Query()] = "all",
    q: Annotated[str, Query(max_length=400)] = "",
    cursor: Annotated[str, Query(max_length=200)] = "",
) -> Response:
    """Show all relays, or those that should be heard and are not."""
    actor, text = seen(visitor), " ".join(q.split())[:_QUESTION_CHARACTERS_MAX]
    text = text if text.isprintable() else ""
    position = Position(key=decode(cursor)) if cursor else Position()
    found = await relays.list_relays(office, actor, position, text=text or None, silent=show == "silent")
    now_ms = office.clock.now_ms()
    chosen = {name: value for name, value in {"show": show, "q": text, "cursor": found.next or ""}.items() if value}
    items = [relay_told(visitor.words, one, now_ms) for one in found.items]
    return page(
        visitor, "relays.html", items=items, show=show, q=text,
        conflicts=await conflicts.count_open(office, actor), next=urlencode(chosen) if found.next else "",
    )  # fmt: skip


@router.get("/relays/{relay_id}")
async def show_relay(visitor: Looking, office: InOffice, relay_id: Id) -> Response:
    """Show a relay: its line, what waits in it, what it may do alone."""
    return await _relay_page(visitor, office, await relays.get_relay(office, seen(visitor), relay_id))


@router.post("/relays/{relay_id}/allowance")
async def change_allowance(
    visitor: Keeper, office: InOffice, relay_id: Id, key: FormKey, points: Typed = "", hours: Typed = ""
) -> Response:
    """Set what a relay may set aside for a card, and for how long."""
    actor, words = seen(visitor), visitor.words
    before = await relays.get_relay(office, actor, relay_id)
    try:
        asked = asked_of(words, RelayChange, **_allowance(words, points, hours))
        await taken_once(
            office, visitor, key, f"allowance of relay {relay_id}", asked,
            lambda: relays.change_relay(office, actor, relay_id, asked),
        )  # fmt: skip
    except Refused as told:
        shown = at(visitor, f"/relays/{relay_id}")
        return await _relay_page(shown, office, before, {"points": points, "hours": hours}, told)
    return go(f"/relays/{relay_id}", Flash("done", "relay.allowance_done", {}))


@router.get("/relays/{relay_id}/rotate")
async def ask_rotate(visitor: Keeper, office: InOffice, relay_id: Id) -> Response:
    """Ask whether a relay is to have a new key."""
    return _rotate_page(visitor, await relays.get_relay(office, seen(visitor), relay_id))


@router.post("/relays/{relay_id}/rotate")
async def rotate(visitor: Keeper, office: InOffice, relay_id: Id, key: FormKey, as_file: Typed = "") -> Response:
    """Give a relay a new key; its credential is shown once."""
    actor = seen(visitor)
    before = await relays.get_relay(office, actor, relay_id)
    try:
        done = await taken_once(
            office, visitor, key, f"rotate relay {relay_id}", {}, lambda: relays.rotate_relay(office, actor, relay_id)
        )  # fmt: skip
    except Refused as told:
        return _rotate_page(visitor, before, told)
    return _credential_page(visitor, done["credential"], before.store, relay_id, {"key": key}, as_file, what="rotated")


@router.get("/coalition/stores/{store_id}/relay")
async def ask_relay(visitor: Keeper, office: InOffice, store_id: Id) -> Response:
    """Ask what the relay of a store is to be called, and what it may do alone."""
    typed = {"code": "", "points": "", "hours": str(ALLOWANCE_MS // _HOUR_MS)}
    return await _new_page(visitor, office, store_id, typed)


@router.post("/coalition/stores/{store_id}/relay")
async def give_relay(
    visitor: Keeper, office: InOffice, store_id: Id, key: FormKey,
    code: Typed = "", points: Typed = "", hours: Typed = "", as_file: Typed = "",
) -> Response:  # fmt: skip
    """Give a store its relay; the credential is shown once."""
    actor, words = seen(visitor), visitor.words
    store = await coalition.get_store(office, actor, store_id)
    typed = {"code": code.strip(), "points": points, "hours": hours}
    try:
        asked = _new_relay(words, store_id, typed)
        done = await taken_once(
            office, visitor, key, f"relay of {store_id}", asked, lambda: relays.add_relay(office, actor, asked)
        )  # fmt: skip
    except Refused as told:
        return await _new_page(at(visitor, f"/coalition/stores/{store_id}/relay"), office, store_id, typed, told)
    sent = {**typed, "key": key}
    return _credential_page(visitor, done["credential"], store.name, done["relay_id"], sent, as_file, what="given")


def _new_relay(words: Words, store_id: int, typed: dict[str, str]) -> NewRelay:
    """Return what is asked for. Raises Refused with everything that is wrong at once."""
    wrong: dict[str, str] = {}
    allowance: dict[str, int] = {}
    try:
        allowance = _allowance(words, typed["points"], typed["hours"])
    except Refused as told:
        wrong = told.fields
    try:
        asked = asked_of(words, NewRelay, store_id=store_id, code=typed["code"], **allowance)
    except Refused as told:
        wrong = {**told.fields, **wrong}
    if wrong:
        raise Refused(words.t("entry.mend"), wrong)
    return asked


def _allowance(words: Words, points: str, hours: str) -> dict[str, int]:
    """Return the fields of an allowance that somebody typed; no points is none. Raises Refused."""
    wrong = {}
    minor = points_of(points) if points.strip(" 0,.") else 0
    if minor is None:
        wrong["points"] = words.t("relay.bad_points")
    tidy = hours.strip()
    if not (tidy.isascii() and tidy.isdecimal() and 0 < int(tidy) <= _HOURS_MAX):
        wrong["hours"] = words.t("relay.bad_hours", most=_HOURS_MAX)
    if minor is None or wrong:
        raise Refused(words.t("entry.mend"), wrong)
    return {"allowance_points": minor, "allowance_ms": int(tidy) * _HOUR_MS}


async def _relay_page(
    visitor: Visitor, office: Office, relay: Relay, typed: dict[str, str] | None = None, told: Refused | None = None
) -> Response:
    words = visitor.words
    kept = {
        "points": _typed_points(relay.allowance_points),
        "hours": str(max(1, relay.allowance_ms // _HOUR_MS)),
    }
    return page(
        visitor, "relay.html", status=told.status if told else 200, relay=relay,
        one=relay_told(words, relay, office.clock.now_ms()), typed=typed or kept, faults=told.fields if told else {},
        wrong=told.sentence if told else "", hours_max=_HOURS_MAX, key=new_key(),
    )  # fmt: skip


def _typed_points(minor: int) -> str:
    """Return points as they are typed: what groups thousands when they are shown is a point when they are read."""
    whole, rest = divmod(minor, 100)
    return (f"{whole}.{rest:02}" if rest else str(whole)) if minor else ""


async def _new_page(
    visitor: Visitor, office: Office, store_id: int, typed: dict[str, str], told: Refused | None = None
) -> Response:
    return page(
        visitor, "relay_new.html", status=told.status if told else 200, typed=typed,
        store=await coalition.get_store(office, seen(visitor), store_id), faults=told.fields if told else {},
        wrong=told.sentence if told else "", hours_max=_HOURS_MAX, key=new_key(),
    )  # fmt: skip


def _rotate_page(visitor: Visitor, relay: Relay, told: Refused | None = None) -> Response:
    asking = {"deed": "rotate", "name": relay.code, "back": f"/relays/{relay.relay_id}", "danger": False}
    return page(
        visitor, "ask.html", status=told.status if told else 200, asking=asking, section="relay",
        trail=(("/relays", visitor.words.t("relay.title")), (asking["back"], relay.code)),
        wrong=told.sentence if told else "", key=new_key(),
    )  # fmt: skip


def _credential_page(
    visitor: Visitor, credential: str, store: str, relay_id: int, sent: dict[str, str], as_file: str, *, what: str
) -> Response:
    """Return a credential that nobody can look up later; `sent` is what the form held, `what` given or rotated."""
    if as_file:
        headers = {"content-disposition": f'attachment; filename="{_FILE}"'}
        return Response(f"{credential}\n", 200, headers, "text/plain; charset=us-ascii")
    return page(
        visitor, "relay_credential.html", credential=credential, store=store, relay_id=relay_id, sent=sent, what=what,
        file=_FILE,
    )  # fmt: skip
