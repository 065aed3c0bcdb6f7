"""The running installation: live figures, draining, proofs of the books."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, StreamingResponse

from admin_api import operations
from admin_api.idempotency import IdempotencyKey, Reply, once
from admin_api.office import Office
from admin_api.operations import Draining, Live, Proof
from admin_api.problem import PROBLEMS, unavailable
from admin_api.security.actor import Actor
from admin_api.security.authentication import InOffice, acting
from admin_api.security.permissions import Permission

router = APIRouter(prefix="/v1/operations", tags=["operations"], responses=PROBLEMS)

Reading = Annotated[Actor, Depends(acting(Permission.OPERATIONS_READ))]
Writing = Annotated[Actor, Depends(acting(Permission.OPERATIONS_WRITE))]
_ACCEPTED = 202
_AGAIN_S = 5
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Events named `live` whose data is one line of JSON, the answer of `GET /v1/operations/live`, "
        "about once a second. The stream ends now and then; connect again.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}


@router.get("/live", summary="How is the installation now?")
async def get_live(office: InOffice, actor: Reading) -> Live:
    """Tell of workers, partitions, queues and the lag of the journal."""
    return await operations.live_now(office, actor)


@router.get("/events", summary="The same, once a second.", response_class=StreamingResponse, responses=_STREAM)
async def get_events(request: Request, office: InOffice, actor: Reading) -> StreamingResponse:
    """Stream the live figures."""
    operations.check_reading(actor)
    if _open_streams(request) >= office.limits.streams_max:
        raise unavailable("too many streams of live figures are open", retry_after_s=_AGAIN_S)
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(_events(request, office, actor), media_type="text/event-stream", headers=headers)


@router.post(
    "/drain", status_code=_ACCEPTED, response_model=Draining, summary="End the installation in an orderly way."
)
async def post_drain(office: InOffice, actor: Writing, key: IdempotencyKey) -> JSONResponse:
    """Let registers have their answers and go, then end all processes; what starts them may start them again."""

    async def work(request_id: bytes) -> Reply:
        return Reply.of(await operations.drain(office, actor, request_id), _ACCEPTED)

    return await once(office, actor, key, {}, work)


@router.post("/verify", status_code=_ACCEPTED, response_model=Proof, summary="Prove the books.")
async def post_verify(office: InOffice, actor: Writing, key: IdempotencyKey) -> JSONResponse:
    """Recompute every account from its journal, in a process of its own; one at a time."""

    async def work(request_id: bytes) -> Reply:
        return Reply.of(await operations.prove(office, actor, request_id), _ACCEPTED)

    return await once(office, actor, key, {}, work)


@router.get("/verify", summary="How far is the proof, or what did it find?")
async def get_verify(office: InOffice, actor: Reading) -> Proof:
    """Tell of the proof that is under way, or of the last one."""
    return operations.proof(office, actor)


def _open_streams(request: Request) -> int:
    """Return how many streams of this application are open."""
    return int(getattr(request.app.state, "streams", 0))


async def _events(request: Request, office: Office, actor: Actor) -> AsyncIterator[bytes]:
    # Counted here and not before: a client may be gone before its stream begins, and then this never runs.
    request.app.state.streams = _open_streams(request) + 1
    try:
        async with aclosing(operations.live_forever(office, actor)) as lives:
            async for live in lives:
                yield b"event: live\ndata: " + live.model_dump_json().encode() + b"\n\n"
    finally:
        request.app.state.streams -= 1
