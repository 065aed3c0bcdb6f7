"""Partners, networks and stores; a partner comes in with all of them, and its terminals, in one call."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse

from admin_api.coalition import coalition, onboarding
from admin_api.coalition.coalition import CoalitionChange, Network, NewNetwork, NewPartner, Partner, Store
from admin_api.coalition.onboarding import NewStore, Onboarded, Onboarding, OpenedStore, check_terminals
from admin_api.coalition.terminal_secrets import new_secrets
from admin_api.fields import Id, IdFilter, Search
from admin_api.idempotency import IdempotencyKey, Reply, once_in_registry
from admin_api.paging import Cursor, Page
from admin_api.problem import PROBLEMS
from admin_api.security.actor import Actor
from admin_api.security.authentication import InOffice, acting
from admin_api.security.permissions import Permission

router = APIRouter(prefix="/v1", tags=["coalition"], responses=PROBLEMS)

Reading = Annotated[Actor, Depends(acting(Permission.COALITION_READ))]
Writing = Annotated[Actor, Depends(acting(Permission.COALITION_WRITE))]


@router.get("/partners", summary="Partners by id.")
async def list_partners(office: InOffice, actor: Reading, position: Cursor, name: Search = None) -> Page[Partner]:
    """`name` is a part of the name, in any case."""
    return await coalition.list_partners(office, actor, position, name=name)


@router.get("/partners/{partner_id}", summary="One partner.")
async def get_partner(office: InOffice, actor: Reading, partner_id: Id) -> Partner:
    """Return a partner and how much belongs to it."""
    return await coalition.get_partner(office, actor, partner_id)


@router.post("/partners", summary="Add a partner.", status_code=201, response_model=Partner)
async def add_partner(office: InOffice, actor: Writing, key: IdempotencyKey, asked: NewPartner) -> JSONResponse:
    """Add one that has nothing yet; `POST /v1/partners/onboard` takes in one with everything."""

    async def work(_request_id: bytes) -> Reply:
        return Reply.of(await coalition.add_partner(office, actor, asked), 201)

    return await once_in_registry(office, actor, key, asked, work)


@router.post(
    "/partners/onboard",
    summary="Take in a partner with its network, stores and terminals.",
    status_code=201,
    response_model=Onboarded,
)
async def onboard(office: InOffice, actor: Writing, key: IdempotencyKey, asked: Onboarding) -> JSONResponse:
    """All of it or nothing. The terminals' secrets are told in this answer only, and nobody can look them up again."""
    secrets = await new_secrets(check_terminals(asked.terminals))

    async def work(_request_id: bytes) -> Reply:
        return Reply.of(await onboarding.onboard(office, actor, asked, secrets), 201)

    return await once_in_registry(office, actor, key, asked, work)


@router.patch("/partners/{partner_id}", summary="Rename, suspend or resume a partner.")
async def change_partner(office: InOffice, actor: Writing, partner_id: Id, asked: CoalitionChange) -> Partner:
    """Suspended, nothing that belongs to it works; connected terminals are told to go within a second."""
    return await coalition.change_partner(office, actor, partner_id, asked)


@router.get("/networks", summary="Networks by id.")
async def list_networks(
    office: InOffice, actor: Reading, position: Cursor, name: Search = None, partner_id: IdFilter = None
) -> Page[Network]:
    """`name` is a part of the name, in any case."""
    return await coalition.list_networks(office, actor, position, name=name, partner_id=partner_id)


@router.get("/networks/{network_id}", summary="One network.")
async def get_network(office: InOffice, actor: Reading, network_id: Id) -> Network:
    """Return a chain of stores of one partner."""
    return await coalition.get_network(office, actor, network_id)


@router.post("/networks", summary="Add a network.", status_code=201, response_model=Network)
async def add_network(office: InOffice, actor: Writing, key: IdempotencyKey, asked: NewNetwork) -> JSONResponse:
    """Its rules hold from the beginning; they can be changed, the currency cannot."""

    async def work(_request_id: bytes) -> Reply:
        return Reply.of(await coalition.add_network(office, actor, asked), 201)

    return await once_in_registry(office, actor, key, asked, work)


@router.patch("/networks/{network_id}", summary="Rename, suspend or resume a network.")
async def change_network(office: InOffice, actor: Writing, network_id: Id, asked: CoalitionChange) -> Network:
    """Suspended, none of its terminals works."""
    return await coalition.change_network(office, actor, network_id, asked)


@router.get("/stores", summary="Stores by id.")
async def list_stores(
    office: InOffice,
    actor: Reading,
    position: Cursor,
    name: Search = None,
    partner_id: IdFilter = None,
    network_id: IdFilter = None,
) -> Page[Store]:
    """`name` is a part of the name, in any case."""
    return await coalition.list_stores(office, actor, position, name=name, partner_id=partner_id, network_id=network_id)


@router.get("/stores/{store_id}", summary="One store.")
async def get_store(office: InOffice, actor: Reading, store_id: Id) -> Store:
    """Return a shop of a network."""
    return await coalition.get_store(office, actor, store_id)


@router.post("/stores", summary="Add a store with its terminals.", status_code=201, response_model=OpenedStore)
async def add_store(office: InOffice, actor: Writing, key: IdempotencyKey, asked: NewStore) -> JSONResponse:
    """All of it or nothing. The terminals' secrets are told in this answer only."""
    secrets = await new_secrets(check_terminals(asked.terminals))

    async def work(_request_id: bytes) -> Reply:
        return Reply.of(await onboarding.add_store(office, actor, asked, secrets), 201)

    return await once_in_registry(office, actor, key, asked, work)


@router.patch("/stores/{store_id}", summary="Rename, suspend or resume a store.")
async def change_store(office: InOffice, actor: Writing, store_id: Id, asked: CoalitionChange) -> Store:
    """Suspended, none of its terminals works."""
    return await coalition.change_store(office, actor, store_id, asked)
