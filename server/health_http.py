"""Health and metrics over HTTP, in a thread of its own so that it answers even when the supervisor's loop hangs."""

import socket
import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

import uvicorn
from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse

_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_STOP_TIMEOUT_S = 5.0


def health_app(health: Callable[[], Mapping[str, Any]], metrics: Callable[[], bytes]) -> FastAPI:
    """Return the application: `/live`, `/ready`, `/health` answer 200 or 503 by what is true, `/metrics` Prometheus."""
    app = FastAPI(title="Tillwire", openapi_url=None, docs_url=None, redoc_url=None)

    @app.get("/live")
    def live() -> JSONResponse:
        found = health()
        return JSONResponse({"live": found["live"]}, 200 if found["live"] else 503)

    @app.get("/ready")
    def ready() -> JSONResponse:
        found = health()
        return JSONResponse({"ready": found["ready"], "down": found["down"]}, 200 if found["ready"] else 503)

    @app.get("/health")
    def everything() -> JSONResponse:
        found = health()
        return JSONResponse(dict(found), 200 if found["live"] and found["ready"] else 503)

    @app.get("/metrics")
    def scrape() -> Response:
        return Response(metrics(), media_type=_METRICS_TYPE)

    return app


class HttpThread:
    """Serves an application on an already listening socket until closed. A context manager."""

    def __init__(self, app: FastAPI, listening: socket.socket) -> None:
        self._socket = listening
        config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", server_header=False)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._serve, name="health", daemon=True)

    def __enter__(self) -> Self:
        """Begin to serve."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop serving and close the socket."""
        self._server.should_exit = True
        self._thread.join(_STOP_TIMEOUT_S)
        self._socket.close()

    def _serve(self) -> None:
        self._server.run(sockets=[self._socket])
