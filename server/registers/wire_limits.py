"""The limits of connections and requests as the settings give them."""

from __future__ import annotations

from server.registers.dispatch import DispatchLimits
from server.registers.reception import ConnectionLimits
from server.settings import Settings


def connection_limits(settings: Settings) -> ConnectionLimits:
    """Return what bounds the connections of registers."""
    return ConnectionLimits(
        connections_max=settings.connections_max,
        frame_bytes_max=settings.frame_bytes_max,
        in_flight_max=settings.in_flight_max,
        send_buffer_bytes_max=settings.send_buffer_bytes_max,
        handshake_timeout_ms=settings.handshake_timeout_ms,
        frame_timeout_ms=settings.frame_timeout_ms,
        idle_timeout_ms=settings.idle_timeout_ms,
        heartbeat_ms=settings.heartbeat_ms,
        ttl_default_ms=settings.ttl_default_ms,
        ttl_max_ms=settings.ttl_max_ms,
        reconnect_after_ms=settings.reconnect_after_ms,
        listen_backlog_connections_max=settings.listen_backlog_connections_max,
    )


def dispatch_limits(settings: Settings) -> DispatchLimits:
    """Return what bounds a single request."""
    return DispatchLimits(
        ttl_default_ms=settings.ttl_default_ms,
        ttl_max_ms=settings.ttl_max_ms,
        advice_future_max_ms=settings.advice_future_max_ms,
        amount_max=settings.amount_max,
        busy_retry_after_ms=settings.busy_retry_after_ms,
    )
