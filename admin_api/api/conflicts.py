"""Conflicts: what relays promised while they were alone, and headquarters declined afterwards."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi.responses import JSONResponse

from admin_api.coalition import conflicts
from admin_api.coalition.conflicts import Conflict, ConflictState, Settled
from admin_api.fields import BIGINT_MAX, BigId, IdFilter
from admin_api.idempotency import IdempotencyKey, Reply, once_in_registry
from admin_api.paging import Cursor, Page
from admin_api.problem import PROBLEMS
from admin_api.security.actor import Actor
from admin_api.security.authentication import InOffice, acting
from admin_api.security.permissions import Permission
from ledger.registry.conflicts import Wanted

router = APIRouter(prefix="/v1", tags=["relays"], responses=PROBLEMS)

Reading = Annotated[Actor, Depends(acting(Permission.COALITION_READ))]
Writing = Annotated[Actor, Depends(acting(Permission.ACCOUNTS_WRITE))]
RequestFilter = Annotated[str | None, Query(pattern="^[0-9a-f]{32}$", description="The register's request id.")]
AccountFilter = Annotated[int | None, Query(ge=1, le=BIGINT_MAX, description="For those who may see accounts.")]


@router.get("/conflicts", summary="Conflicts, the newest first.")
async def list_conflicts(
    office: InOffice,
    actor: Reading,
    position: Cursor,
    partner_id: IdFilter = None,
    network_id: IdFilter = None,
    store_id: IdFilter = None,
    relay_id: IdFilter = None,
    account_id: AccountFilter = None,
    request_id: RequestFilter = None,
    state: ConflictState | None = None,
) -> Page[Conflict]:
    """Return what stores approved without a line and what then could not be done, until somebody settles it."""
    raw = None if request_id is None else bytes.fromhex(request_id)
    wanted = Wanted(partner_id, network_id, store_id, relay_id, account_id, request_id=raw)
    return await conflicts.list_conflicts(office, actor, position, wanted, state=state)


@router.get("/conflicts/{conflict_id}", summary="One conflict.")
async def get_conflict(office: InOffice, actor: Reading, conflict_id: BigId) -> Conflict:
    """Return what a register was promised in vain."""
    return await conflicts.get_conflict(office, actor, conflict_id)


@router.post("/conflicts/{conflict_id}/settle", summary="Settle a conflict.", response_model=Conflict)
async def settle(
    office: InOffice, actor: Writing, key: IdempotencyKey, conflict_id: BigId, asked: Settled
) -> JSONResponse:
    """Note what was done about it. Points are not changed by this: adjust them on the account where that is right."""

    async def work(_request_id: bytes) -> Reply:
        return Reply.of(await conflicts.settle(office, actor, conflict_id, asked))

    return await once_in_registry(office, actor, key, asked, work)
