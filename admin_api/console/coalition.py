"""Who takes part: lists of partners, networks, stores and terminals to look through, and a page for each of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Literal, get_args
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Response

from admin_api.coalition import coalition, relays, terminals
from admin_api.coalition.terminals import OPERATIONS, State, Terminal
from admin_api.console.forms import new_key
from admin_api.console.relay_words import relay_told
from admin_api.console.rendering import page
from admin_api.console.visitor import Visitor, go, seen, visiting
from admin_api.fields import INTEGER_MAX, Id
from admin_api.office import Office
from admin_api.paging import Page, Position, decode
from admin_api.security.authentication import InOffice
from admin_api.security.permissions import Permission

router = APIRouter()
Looking = Annotated[Visitor, Depends(visiting(Permission.COALITION_READ))]
View = Literal["stores", "terminals", "networks", "partners"]
VIEWS: tuple[str, ...] = get_args(View)

# Forms send an empty field where all are meant.
_Number = Annotated[str, Query(pattern=r"^\d{0,9}$")]
_WITHIN_ROWS_MAX = 200
_QUESTION_CHARACTERS_MAX = 128


@dataclass(frozen=True, slots=True)
class Chosen:
    """What somebody wants to see of the coalition, as it stands in the address; an empty text wants all."""

    view: str = "stores"
    q: str = ""
    state: str = ""
    partner: str = ""
    network: str = ""

    @staticmethod
    def of_query(
        view: View = "stores",
        q: Annotated[str, Query(max_length=400)] = "",
        state: Annotated[str, Query(max_length=20)] = "",
        partner: _Number = "",
        network: _Number = "",
    ) -> Chosen:
        """Return what an address asks for; what makes no sense is left out."""
        q = " ".join(q.split())[:_QUESTION_CHARACTERS_MAX]
        known = state if view == "terminals" and state in get_args(State) else ""
        return Chosen(view, q if q.isprintable() else "", known, partner, network)

    def query(self, **other: str) -> str:
        """Return the address's query with something else in it."""
        return urlencode({name: value for name, value in {**asdict(self), **other}.items() if value})

    @property
    def filtered(self) -> bool:
        """Whether anything may be left out."""
        return bool(self.q or self.state or self.partner or self.network)


@router.get("/coalition")
async def show_list(
    visitor: Looking,
    office: InOffice,
    chosen: Annotated[Chosen, Depends(Chosen.of_query)],
    cursor: Annotated[str, Query(max_length=1_024)] = "",
) -> Response:
    """Show who takes part, kind by kind."""
    position = Position(key=decode(cursor)) if cursor else Position()
    found = await _found(office, visitor, chosen, position)
    return page(
        visitor, "coalition.html", views=VIEWS, states=get_args(State), chosen=chosen, items=found.items,
        next=chosen.query(cursor=found.next) if found.next else "",
    )  # fmt: skip


@router.get("/coalition/partners/{partner_id}")
async def show_partner(visitor: Looking, office: InOffice, partner_id: Id) -> Response:
    """Show a partner and its networks."""
    actor = seen(visitor)
    partner = await coalition.get_partner(office, actor, partner_id)
    networks = await coalition.list_networks(office, actor, _WITHIN, partner_id=partner_id)
    return page(
        visitor, "partner.html", partner=partner, networks=networks.items, more=bool(networks.next), key=new_key()
    )


@router.get("/coalition/networks/{network_id}")
async def show_network(visitor: Looking, office: InOffice, network_id: Id) -> Response:
    """Show a network and its stores."""
    actor = seen(visitor)
    network = await coalition.get_network(office, actor, network_id)
    stores = await coalition.list_stores(office, actor, _WITHIN, network_id=network_id)
    return page(visitor, "network.html", network=network, stores=stores.items, more=bool(stores.next), key=new_key())


@router.get("/coalition/stores/{store_id}")
async def show_store(visitor: Looking, office: InOffice, store_id: Id) -> Response:
    """Show a store and its terminals."""
    actor = seen(visitor)
    store = await coalition.get_store(office, actor, store_id)
    network = await coalition.get_network(office, actor, store.network_id)
    found = await terminals.list_terminals(office, actor, _WITHIN, store_id=store_id, relay=False)
    own = await relays.list_relays(office, actor, _WITHIN, store_id=store_id)
    relay = next((one for one in own.items if one.state != "revoked"), None)
    return page(
        visitor, "store.html", store=store, network=network, terminals=found.items, more=bool(found.next),
        relay=relay and relay_told(visitor.words, relay, office.clock.now_ms()), key=new_key(),
    )  # fmt: skip


@router.get("/coalition/terminals/{terminal_id}")
async def show_terminal(visitor: Looking, office: InOffice, terminal_id: Id) -> Response:
    """Show a terminal, and what it may do."""
    terminal = await terminals.get_terminal(office, seen(visitor), terminal_id)
    if terminal.relay:
        return go(f"/relays/{terminal_id}")
    return page(
        visitor,
        "terminal.html",
        terminal=terminal,
        operations=tuple(OPERATIONS),
        registers_at=office.registers_at,
        key=new_key(),
    )


_WITHIN = Position(limit=_WITHIN_ROWS_MAX)
_Rows = Page[coalition.Partner] | Page[coalition.Network] | Page[coalition.Store] | Page[Terminal]


async def _found(office: Office, visitor: Visitor, chosen: Chosen, position: Position) -> _Rows:
    actor, name = seen(visitor), chosen.q or None
    partner_id, network_id = _id(chosen.partner), _id(chosen.network)
    match chosen.view:
        case "partners":
            return await coalition.list_partners(office, actor, position, name=name)
        case "networks":
            return await coalition.list_networks(office, actor, position, name=name, partner_id=partner_id)
        case "terminals":
            state: State | None = next((one for one in get_args(State) if one == chosen.state), None)
            return await terminals.list_terminals(
                office, actor, position, partner_id=partner_id, network_id=network_id, code=name, state=state
            )
    return await coalition.list_stores(office, actor, position, name=name, partner_id=partner_id, network_id=network_id)


def _id(number: str) -> int | None:
    return int(number) if number and 0 < int(number) <= INTEGER_MAX else None
