"""The limits of connections and requests as the settings give them."""

from __future__ import annotations

from pydantic import BaseModel

from server.registers.dispatch import DispatchLimits
from server.registers.reception import ConnectionLimits
from server.settings import Settings


def connection_limits(settings: BaseModel) -> ConnectionLimits:
    """Return what bounds the connections of registers: what the settings of a server or a relay name alike."""
    names = ConnectionLimits.__dataclass_fields__.keys() & type(settings).model_fields.keys()
    return ConnectionLimits(**{name: getattr(settings, name) for name in names})


def dispatch_limits(settings: Settings) -> DispatchLimits:
    """Return what bounds a single request."""
    return DispatchLimits(
        ttl_default_ms=settings.ttl_default_ms,
        ttl_max_ms=settings.ttl_max_ms,
        advice_future_max_ms=settings.advice_future_max_ms,
        amount_max=settings.amount_max,
        busy_retry_after_ms=settings.busy_retry_after_ms,
    )
