"""The HTTP side of the process: is it alive, is it ready, what does it count."""

from __future__ import annotations

from fastapi import FastAPI, Response
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


def create_app(process: Process) -> FastAPI:
    """Return the application for a process."""
    app = FastAPI(title="Tillwire", summary="Health and metrics of a loyalty-card authorisation server.")

    @app.get(
        "/health/live",
        summary="Is the process alive?",
        response_model=Liveness,
        responses={503: {"model": Liveness, "description": "It hangs: restart it."}},
    )
    def live() -> JSONResponse:
        alive = bool(process.health()["live"])
        return JSONResponse({"live": alive}, 200 if alive else 503, _FRESH)

    @app.get(
        "/health/ready",
        summary="Can registers be answered now?",
        response_model=Readiness,
        responses={503: {"model": Readiness, "description": "Something is down; the body says what."}},
    )
    def ready() -> JSONResponse:
        health = dict(process.health())
        return JSONResponse(health, 200 if health["live"] and health["ready"] else 503, _FRESH)

    @app.get("/metrics", summary="Counters and gauges for Prometheus.", response_class=Response)
    def metrics() -> Response:
        return Response(process.metrics(), media_type=CONTENT_TYPE_LATEST)

    return app
