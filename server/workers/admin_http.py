"""The HTTP server of the admin process: uvicorn on the socket that the supervisor has bound, within bounds."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from server.settings import Settings

# How long answers under way may take when the process ends; streams are cut after it.
_GRACE_S = 2
_BACKLOG = 512


class _Connection(H11Protocol):
    """Ends connections that fall silent in the middle of a request, or before the first: uvicorn waits for ever."""

    silence_s: float

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._heard_at = self.loop.time()
        self._watch()

    def data_received(self, data: bytes) -> None:
        self._heard_at = self.loop.time()
        super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._silence.cancel()
        super().connection_lost(exc)

    def _watch(self) -> None:
        self._silence = self.loop.call_later(self.silence_s, self._end_if_silent)

    def _end_if_silent(self) -> None:
        cycle = self.cycle
        # While an answer is being made or read, the silence is not the other end's.
        waited_for = cycle is not None and (cycle.more_body or cycle.response_complete)
        if cycle is None or (waited_for and self.loop.time() - self._heard_at >= self.silence_s):
            self.transport.abort()
        else:
            self._watch()


class AdminHttp:
    """Serves an ASGI application until `stop`."""

    def __init__(self, settings: Settings, application: Any, listening: socket.socket) -> None:
        self._listening = listening
        silence_s = settings.admin_silence_ms / 1000
        tls: dict[str, Any] = {}
        if settings.admin_tls_cert_file is not None and settings.admin_tls_key_file is not None:
            tls = {"ssl_certfile": settings.admin_tls_cert_file, "ssl_keyfile": settings.admin_tls_key_file}
        config = uvicorn.Config(
            application,
            http=type("Connection", (_Connection,), {"silence_s": silence_s}),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=bool(settings.forwarded_allow_ips),
            forwarded_allow_ips=settings.forwarded_allow_ips,
            limit_concurrency=settings.admin_connections_max,
            timeout_graceful_shutdown=_GRACE_S,
            backlog=_BACKLOG,
            **tls,
        )
        self._server = _Server(config)

    @property
    def serving(self) -> bool:
        """Whether it accepts connections."""
        return self._server.started and not self._server.should_exit

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._server.server_state.connections)

    async def run(self) -> None:
        """Serve. Raises OSError when the TLS files cannot be used."""
        await self._server.serve(sockets=[self._listening])

    def stop(self) -> None:
        """Accept nobody more, let what is under way be answered, end."""
        self._server.should_exit = True


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the process: uvicorn would end it by them."""
        yield
