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
# So many silences long may a request take to arrive, and may somebody take no part of what waits for him.
_SILENCES_MAX = 6


class _Connection(H11Protocol):
    """Ends connections that fall silent in the middle of a request, or before the first: uvicorn waits for ever.

    It also ends those that are never quite silent: a request that comes byte by byte, an answer that nobody takes. Each
    would hold one of a bounded number of connections.
    """

    silence_s: float

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._heard_at = self.loop.time()
        self._arriving_since: float | None = None
        self._stuck_since: float | None = None
        self._watch()

    def data_received(self, data: bytes) -> None:
        self._heard_at = self.loop.time()
        if self._arriving_since is None:
            self._arriving_since = self._heard_at
        super().data_received(data)
        cycle = self.cycle
        if cycle is not None and not cycle.more_body and not cycle.response_complete:
            self._arriving_since = None

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stuck_since = self.loop.time()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stuck_since = None

    def connection_lost(self, exc: Exception | None) -> None:
        self._silence.cancel()
        super().connection_lost(exc)

    def _watch(self) -> None:
        self._silence = self.loop.call_later(self.silence_s, self._end_if_silent)

    def _end_if_silent(self) -> None:
        cycle = self.cycle
        # While an answer is being made or read, the silence is not the other end's.
        waited_for = cycle is not None and (cycle.more_body or cycle.response_complete)
        now = self.loop.time()
        slow = any(
            since is not None and now - since >= _SILENCES_MAX * self.silence_s
            for since in (self._arriving_since, self._stuck_since)
        )
        if cycle is None or slow or (waited_for and now - self._heard_at >= self.silence_s):
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
