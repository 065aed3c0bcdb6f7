"""Terminals: what they may do, their secrets, and shutting them out. Connections feel it within a second."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from admin_api.coalition import terminals
from admin_api.coalition.terminals import (
    OPERATIONS,
    Acted,
    Credentials,
    Rotated,
    State,
    Terminal,
    TerminalChange,
    TerminalOfStore,
)
from admin_api.fields import Id, IdFilter, Search, Told
from admin_api.idempotency import IdempotencyKey, Reply, once_in_registry
from admin_api.office import Office
from admin_api.paging import Cursor, Page
from admin_api.problem import PROBLEMS
from admin_api.security.actor import Actor
from admin_api.security.authentication import InOffice, acting
from admin_api.security.permissions import Permission

router = APIRouter(prefix="/v1", tags=["terminals"], responses=PROBLEMS)

Reading = Annotated[Actor, Depends(acting(Permission.COALITION_READ))]
Writing = Annotated[Actor, Depends(acting(Permission.TERMINALS_WRITE))]


class OperationNames(Told):
    """Everything that a terminal can be permitted."""

    operations: list[str]


@router.get("/terminals", summary="Terminals by id.")
async def list_terminals(
    office: InOffice,
    actor: Reading,
    position: Cursor,
    partner_id: IdFilter = None,
    network_id: IdFilter = None,
    store_id: IdFilter = None,
    code: Search = None,
    state: State | None = None,
    relay: bool | None = None,
) -> Page[Terminal]:
    """`code` is a part of the code, in any case; `relay` asks for relays, or for everything else."""
    return await terminals.list_terminals(
        office, actor, position, partner_id=partner_id, network_id=network_id, store_id=store_id, code=code,
        state=state, relay=relay,
    )  # fmt: skip


@router.get("/terminals/operations", summary="What a terminal can be permitted.")
async def list_operations(_actor: Reading) -> OperationNames:
    """REVERSE and STATUS of its own partner's requests a terminal may ask for in any case."""
    return OperationNames(operations=list(OPERATIONS))


@router.get("/terminals/{terminal_id}", summary="One terminal.")
async def get_terminal(office: InOffice, actor: Reading, terminal_id: Id) -> Terminal:
    """Return a cash register of a store."""
    return await terminals.get_terminal(office, actor, terminal_id)


@router.post("/terminals", summary="Add a terminal to a store.", status_code=201, response_model=Credentials)
async def add_terminal(office: InOffice, actor: Writing, key: IdempotencyKey, asked: TerminalOfStore) -> JSONResponse:
    """Its secret is told in this answer only."""

    async def work(_request_id: bytes) -> Reply:
        return Reply.of(await terminals.add_terminal(office, actor, asked), 201)

    return await once_in_registry(office, actor, key, asked, work)


@router.patch("/terminals/{terminal_id}", summary="Change what a terminal may do.")
async def change_terminal(office: InOffice, actor: Writing, terminal_id: Id, asked: TerminalChange) -> Terminal:
    """Replace the list of what it may do; see `GET /v1/terminals/operations`."""
    return await terminals.change_terminal(office, actor, terminal_id, asked)


@router.post("/terminals/{terminal_id}/suspend", summary="Suspend a terminal.", response_model=Terminal)
async def suspend(office: InOffice, actor: Writing, key: IdempotencyKey, terminal_id: Id) -> JSONResponse:
    """Send it away; it cannot sign on until it is resumed."""
    return await _once(office, actor, key, lambda: terminals.set_active(office, actor, terminal_id, active=False))


@router.post("/terminals/{terminal_id}/resume", summary="Let a suspended terminal work again.", response_model=Terminal)
async def resume(office: InOffice, actor: Writing, key: IdempotencyKey, terminal_id: Id) -> JSONResponse:
    """Let it sign on again with the secret that it has."""
    return await _once(office, actor, key, lambda: terminals.set_active(office, actor, terminal_id, active=True))


@router.post("/terminals/{terminal_id}/rotate", summary="Give a terminal a new secret.", response_model=Credentials)
async def rotate(office: InOffice, actor: Writing, key: IdempotencyKey, terminal_id: Id) -> JSONResponse:
    """Make the old secret open nothing any more; the new one is told in this answer only."""
    return await _once(office, actor, key, lambda: terminals.rotate(office, actor, terminal_id))


@router.post("/terminals/{terminal_id}/revoke", summary="Shut a terminal out for ever.", response_model=Terminal)
async def revoke(office: InOffice, actor: Writing, key: IdempotencyKey, terminal_id: Id) -> JSONResponse:
    """Its keys are destroyed. Its code stays taken, because the journal names it."""
    return await _once(office, actor, key, lambda: terminals.revoke(office, actor, terminal_id))


@router.post("/stores/{store_id}/terminals/suspend", summary="Suspend all terminals of a store.", response_model=Acted)
async def suspend_store(office: InOffice, actor: Writing, key: IdempotencyKey, store_id: Id) -> JSONResponse:
    """Revoked ones are left alone; the store's relay is suspended, too."""
    return await _once(office, actor, key, lambda: terminals.set_store_active(office, actor, store_id, active=False))


@router.post("/stores/{store_id}/terminals/resume", summary="Resume all terminals of a store.", response_model=Acted)
async def resume_store(office: InOffice, actor: Writing, key: IdempotencyKey, store_id: Id) -> JSONResponse:
    """Revoked ones are left alone."""
    return await _once(office, actor, key, lambda: terminals.set_store_active(office, actor, store_id, active=True))


@router.post(
    "/stores/{store_id}/terminals/rotate", summary="Give all terminals of a store new secrets.", response_model=Rotated
)
async def rotate_store(office: InOffice, actor: Writing, key: IdempotencyKey, store_id: Id) -> JSONResponse:
    """Revoked ones and the relay are left alone. The secrets are told in this answer only."""
    return await _once(office, actor, key, lambda: terminals.rotate_store(office, actor, store_id))


async def _once(office: Office, actor: Actor, key: str, act: Callable[[], Awaitable[BaseModel]]) -> JSONResponse:
    """Do once what is asked for by the path alone."""

    async def work(_request_id: bytes) -> Reply:
        return Reply.of(await act())

    return await once_in_registry(office, actor, key, {}, work)
