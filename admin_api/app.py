"""The HTTP side of the process: is it alive, is it ready, what does it count."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, ConfigDict

from admin_api.process import Process


class Liveness(BaseModel):
    """The process runs; says nothing about whether it can answer a register."""

    live: bool = True


class Readiness(BaseModel):
    """Whether registers are answered now; `down` names what is missing."""

    model_config = ConfigDict(extra="allow")

    ready: bool
    down: list[str] = []


def create_app(process: Process) -> FastAPI:
    """Return the application for a process (see `admin_api.process.Process`)."""
    app = FastAPI(title="Tillwire", summary="Health and metrics of a loyalty-card authorisation server.")

    @app.get("/health/live", summary="Is the process alive?")
    async def live() -> Liveness:
        return Liveness()

    @app.get(
        "/health/ready",
        summary="Can registers be answered now?",
        response_model=Readiness,
        responses={503: {"model": Readiness, "description": "Something is down; the body says what."}},
    )
    async def ready() -> JSONResponse:
        content = readiness(process)
        return JSONResponse(
            content, status_code=200 if content["ready"] else 503, headers={"cache-control": "no-store"}
        )

    @app.get("/metrics", summary="Counters and gauges for Prometheus.", response_class=Response)
    def metrics() -> Response:
        return Response(process.metrics(), media_type=CONTENT_TYPE_LATEST)

    return app


def readiness(process: Process) -> dict[str, Any]:
    """Return the health of the process; ready only if it says so itself and names nothing that is down."""
    health = dict(process.health())
    down = [str(part) for part in health.get("down", ())]
    return {**health, "down": down, "ready": health.get("ready") is True and not down}
