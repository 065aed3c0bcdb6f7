"""What is done to those who take part: renaming, suspending and resuming; and to terminals' secrets and rights."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Literal, NamedTuple

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel

from admin_api.coalition import coalition, relays, terminals
from admin_api.coalition.coalition import CoalitionChange
from admin_api.coalition.terminals import OPERATIONS, Terminal, TerminalChange
from admin_api.console.credentials import credentials_answer
from admin_api.console.entering import Fields, Refused, asked_of, taken_once
from admin_api.console.forms import FormKey, Typed, new_key
from admin_api.console.relay_words import relay_told
from admin_api.console.rendering import page
from admin_api.console.visitor import Flash, Visitor, go, seen, visiting
from admin_api.fields import Id
from admin_api.office import Office
from admin_api.problem import not_found
from admin_api.security.actor import Actor
from admin_api.security.authentication import InOffice
from admin_api.security.permissions import Permission

router = APIRouter()
Owner = Annotated[Visitor, Depends(visiting(Permission.COALITION_WRITE))]
Keeper = Annotated[Visitor, Depends(visiting(Permission.TERMINALS_WRITE))]

Kind = Literal["partners", "networks", "stores"]
Pause = Literal["suspend", "resume"]
_CHANGES: dict[str, Callable[[Office, Actor, int, CoalitionChange], Awaitable[BaseModel]]] = {
    "partners": coalition.change_partner,
    "networks": coalition.change_network,
    "stores": coalition.change_store,
}
_LOOKS: dict[str, Callable[[Office, Actor, int], Awaitable[BaseModel]]] = {
    "partners": coalition.get_partner,
    "networks": coalition.get_network,
    "stores": coalition.get_store,
}


class _Asking(NamedTuple):
    """A page that asks: what for, to what, where it lies, and what the form sends."""

    deed: str
    name: str
    back: str
    danger: bool = False
    #: A warning that belongs to this one.
    more: str = ""
    fields: tuple[tuple[str, str], ...] = ()


@router.get("/coalition/terminals/{terminal_id}/{verb}")
async def ask_terminal(
    visitor: Keeper, office: InOffice, terminal_id: Id, verb: Literal["suspend", "resume", "rotate", "revoke"]
) -> Response:
    """Ask whether something is to be done to a terminal."""
    terminal = await terminals.get_terminal(office, seen(visitor), terminal_id)
    if terminal.relay and verb == "rotate":
        return go(f"/relays/{terminal_id}/rotate")
    asking = _of_terminal(verb, terminal)
    if terminal.relay and verb == "revoke":
        relay = await relays.get_relay(office, seen(visitor), terminal_id)
        # What waits in it is lost with it.
        more = relay_told(visitor.words, relay, office.clock.now_ms()).waiting if relay.queued else ""
        asking = asking._replace(more=more)
    return _asking(visitor, asking)


@router.post("/coalition/terminals/{terminal_id}/permit")
async def permit(visitor: Keeper, office: InOffice, terminal_id: Id, key: FormKey, fields: Fields) -> Response:
    """Set what a terminal may do."""
    wanted = [name for name in OPERATIONS if name in fields.getlist("permitted")]
    place = f"/coalition/terminals/{terminal_id}"
    try:
        asked = asked_of(visitor.words, TerminalChange, permitted=wanted)
        await taken_once(
            office, visitor, key, f"permit terminal {terminal_id}", asked,
            lambda: terminals.change_terminal(office, seen(visitor), terminal_id, asked),
        )  # fmt: skip
    except Refused as told:
        return go(place, Flash("wrong", "form.said", {"sentence": told.sentence}))
    return go(place, Flash("done", "coalition.permit_done", {}))


@router.post("/coalition/terminals/{terminal_id}/{verb}")
async def do_terminal(
    visitor: Keeper,
    office: InOffice,
    terminal_id: Id,
    verb: Literal["suspend", "resume", "rotate", "revoke"],
    key: FormKey,
    as_file: Typed = "",
) -> Response:
    """Suspend, resume or revoke a terminal, or give it a new secret, which is shown once."""
    actor = seen(visitor)
    before = await terminals.get_terminal(office, actor, terminal_id)
    acts: dict[str, Callable[[], Awaitable[BaseModel]]] = {
        "suspend": lambda: terminals.set_active(office, actor, terminal_id, active=False),
        "resume": lambda: terminals.set_active(office, actor, terminal_id, active=True),
        "rotate": lambda: terminals.rotate(office, actor, terminal_id),
        "revoke": lambda: terminals.revoke(office, actor, terminal_id),
    }
    try:
        done = await taken_once(office, visitor, key, f"{verb} terminal {terminal_id}", {}, acts[verb])
    except Refused as told:
        return _asking(visitor, _of_terminal(verb, before), told)
    place = _of_terminal(verb, before).back
    if verb == "rotate":
        return credentials_answer(
            office, visitor, [(before.store, [done])], "rotated", place, {"key": key}, as_file=bool(as_file)
        )
    done_key = "coalition.suspend_relay_done" if before.relay and verb == "suspend" else f"coalition.{verb}_done"
    return go(place, Flash("done", done_key, {"name": before.code}))


@router.get("/coalition/stores/{store_id}/rotate")
async def ask_rotate_store(visitor: Keeper, office: InOffice, store_id: Id) -> Response:
    """Ask whether all terminals of a store are to have new secrets."""
    store = await coalition.get_store(office, seen(visitor), store_id)
    return _asking(visitor, _of_store(store_id, store.name))


@router.post("/coalition/stores/{store_id}/rotate")
async def rotate_store(visitor: Keeper, office: InOffice, store_id: Id, key: FormKey, as_file: Typed = "") -> Response:
    """Give all terminals of a store new secrets, which are shown once."""
    store = await coalition.get_store(office, seen(visitor), store_id)
    try:
        done = await taken_once(
            office, visitor, key, f"rotate store {store_id}", {},
            lambda: terminals.rotate_store(office, seen(visitor), store_id),
        )  # fmt: skip
    except Refused as told:
        return _asking(visitor, _of_store(store_id, store.name), told)
    place = f"/coalition/stores/{store_id}"
    return credentials_answer(
        office, visitor, [(store.name, done["terminals"])], "rotated", place, {"key": key}, as_file=bool(as_file)
    )


@router.post("/coalition/{kind}/{number}/rename")
async def rename(visitor: Owner, office: InOffice, kind: Kind, number: Id, key: FormKey, name: Typed = "") -> Response:
    """Give a partner, network or store another name."""
    place = f"/coalition/{kind}/{number}"
    try:
        asked = asked_of(visitor.words, CoalitionChange, name=name)
        await taken_once(
            office, visitor, key, f"rename {kind} {number}", asked,
            lambda: _CHANGES[kind](office, seen(visitor), number, asked),
        )  # fmt: skip
    except Refused as told:
        sentence = next(iter(told.fields.values()), told.sentence)
        return go(place, Flash("wrong", "form.said", {"sentence": sentence}))
    return go(place, Flash("done", "coalition.rename_done", {}))


@router.get("/coalition/{kind}/{number}/{verb}")
async def ask_pause(visitor: Owner, office: InOffice, kind: Kind, number: Id, verb: Pause) -> Response:
    """Ask whether a partner, network or store is to be suspended, or to work again."""
    return _asking(visitor, await _of(office, visitor, kind, number, verb))


@router.post("/coalition/{kind}/{number}/{verb}")
async def pause(visitor: Owner, office: InOffice, kind: Kind, number: Id, verb: Pause, key: FormKey) -> Response:
    """Suspend a partner, network or store with all that belongs to it, or let it work again."""
    asking = await _of(office, visitor, kind, number, verb)
    asked = CoalitionChange(active=verb == "resume")
    try:
        await taken_once(
            office, visitor, key, f"{verb} {kind} {number}", asked,
            lambda: _CHANGES[kind](office, seen(visitor), number, asked),
        )  # fmt: skip
    except Refused as told:
        return _asking(visitor, asking, told)
    return go(asking.back, Flash("done", f"coalition.{verb}_done", {"name": asking.name}))


def _of_terminal(verb: str, terminal: Terminal) -> _Asking:
    kind, place = ("relay", "/relays") if terminal.relay else ("terminal", "/coalition/terminals")
    return _Asking(f"{verb}_{kind}", terminal.code, f"{place}/{terminal.terminal_id}", verb == "revoke")


def _of_store(store_id: int, name: str) -> _Asking:
    return _Asking("rotate_store", name, f"/coalition/stores/{store_id}")


async def _of(office: Office, visitor: Visitor, kind: str, number: int, verb: str) -> _Asking:
    if kind not in _LOOKS:
        raise not_found(kind)
    found = await _LOOKS[kind](office, seen(visitor), number)
    return _Asking(f"{verb}_{kind}", str(getattr(found, "name", "")), f"/coalition/{kind}/{number}", verb == "suspend")


def _asking(visitor: Visitor, asking: _Asking, told: Refused | None = None) -> Response:
    return page(
        visitor, "ask.html", status=told.status if told else 200, asking=asking, section="coalition",
        trail=(("/coalition", visitor.words.t("coalition.title")), (asking.back, asking.name)),
        wrong=told.sentence if told else "", key=new_key(),
    )  # fmt: skip
