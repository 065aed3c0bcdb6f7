"""Relays: giving a store one, its key, and how it is. What is done to terminals is done to relays at /v1/terminals."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi.responses import JSONResponse

from admin_api.coalition import relays
from admin_api.coalition.relays import NewRelay, Relay, RelayChange, RelayCredentials
from admin_api.fields import Id, IdFilter, Search
from admin_api.idempotency import IdempotencyKey, Reply, once_in_registry
from admin_api.paging import Cursor, Page
from admin_api.problem import PROBLEMS
from admin_api.security.actor import Actor
from admin_api.security.authentication import InOffice, acting
from admin_api.security.permissions import Permission

router = APIRouter(prefix="/v1", tags=["relays"], responses=PROBLEMS)

Reading = Annotated[Actor, Depends(acting(Permission.COALITION_READ))]
Writing = Annotated[Actor, Depends(acting(Permission.TERMINALS_WRITE))]
Silent = Annotated[bool, Query(description="Only those that should work and were not heard for a minute.")]


@router.get("/relays", summary="Relays by id.")
async def list_relays(
    office: InOffice,
    actor: Reading,
    position: Cursor,
    partner_id: IdFilter = None,
    network_id: IdFilter = None,
    store_id: IdFilter = None,
    text: Search = None,
    silent: Silent = False,
) -> Page[Relay]:
    """`text` is a part of the code or of the store's name, in any case."""
    return await relays.list_relays(
        office, actor, position, partner_id=partner_id, network_id=network_id, store_id=store_id, text=text,
        silent=silent,
    )  # fmt: skip


@router.get("/relays/{relay_id}", summary="One relay.")
async def get_relay(office: InOffice, actor: Reading, relay_id: Id) -> Relay:
    """Return a relay and what it last told of itself."""
    return await relays.get_relay(office, actor, relay_id)


@router.post("/relays", summary="Give a store its relay.", status_code=201, response_model=RelayCredentials)
async def add_relay(office: InOffice, actor: Writing, key: IdempotencyKey, asked: NewRelay) -> JSONResponse:
    """Its credential is told in this answer only. A store has one relay that is not revoked."""

    async def work(_request_id: bytes) -> Reply:
        return Reply.of(await relays.add_relay(office, actor, asked), 201)

    return await once_in_registry(office, actor, key, asked, work)


@router.patch("/relays/{relay_id}", summary="Change what a relay may reserve.")
async def change_relay(office: InOffice, actor: Writing, relay_id: Id, asked: RelayChange) -> Relay:
    """Points that are set aside already stay so until their time is over."""
    return await relays.change_relay(office, actor, relay_id, asked)


@router.post("/relays/{relay_id}/rotate", summary="Give a relay a new key.", response_model=RelayCredentials)
async def rotate_relay(office: InOffice, actor: Writing, key: IdempotencyKey, relay_id: Id) -> JSONResponse:
    """Make the old key open nothing any more; the new credential is told in this answer only.

    What waits in the relay is not lost: it is sent once the relay has its new credential.
    """

    async def work(_request_id: bytes) -> Reply:
        return Reply.of(await relays.rotate_relay(office, actor, relay_id))

    return await once_in_registry(office, actor, key, {}, work)
