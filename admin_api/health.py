"""The HTTP side of the process: is it alive, is it ready, what does it count."""

from __future__ import annotations

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, ConfigDict

from admin_api.process import Process

_FRESH = {"cache-control": "no-store"}


class Liveness(BaseModel):
    """Whether the process works at all; says nothing about whether it can answer a register."""

    live: bool


class Readiness(BaseModel):
    """Whether registers are answered now; `down` names what is missing, the rest is for an operator's eyes."""

    model_config = ConfigDict(extra="allow")

    ready: bool
    down: list[str]


def router(process: Process) -> APIRouter:
    """Return the endpoints for a process; whoever reaches the port may ask them."""
    router = APIRouter(tags=["health"])

    @router.get(
        "/health/live",
        summary="Is the process alive?",
        response_model=Liveness,
        responses={503: {"model": Liveness, "description": "It hangs: restart it."}},
    )
    async def live() -> JSONResponse:
        alive = bool((await process.health())["live"])
        return JSONResponse({"live": alive}, 200 if alive else 503, _FRESH)

    @router.get(
        "/health/ready",
        summary="Can registers be answered now?",
        response_model=Readiness,
        responses={503: {"model": Readiness, "description": "Something is down; the body says what."}},
    )
    async def ready() -> JSONResponse:
        health = dict(await process.health())
        return JSONResponse(health, 200 if health["live"] and health["ready"] else 503, _FRESH)

    @router.get("/metrics", summary="Counters and gauges for Prometheus.", response_class=Response)
    def metrics() -> Response:
        return Response(process.metrics(), media_type=CONTENT_TYPE_LATEST)

    return router
