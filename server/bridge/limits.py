"""What bounds the bridge, as the settings give it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from protocol.relay_messages import LineLimits
from server.mqtt import BrokerLimits
from server.settings import Settings

ALLOWANCE_GRACE_MS: Final = 72 * 3_600_000
"""How much longer a reserved allowance is held than it may be spent: as long may an outage last until it is booked."""
HELLOS_WAITING_MAX: Final = 10_000
"""HELLOs that wait for their relay to be looked up; more are dropped, and said again."""
HELLOS_AT_ONCE: Final = 200
"""Relays of one query."""
NONCES_REMEMBERED: Final = 20_000
"""HELLOs whose repetition is recognised."""
ITEMS_A_TURN: Final = 32
"""Live requests that are dispatched in one turn of the loop."""
BACKLOG_ITEMS_A_TURN: Final = 8
"""Requests of backlogs in one turn."""
PUBLICATIONS_A_TURN: Final = 4
"""Publications that are sealed and written in one turn of the loop."""
GATHERING_S: Final = 0.1
"""How long answers to a relay's backlog may wait for each other."""
UNCONFIRMED_S: Final = 30.0
"""How long a session may wait for its relay's first DATA."""
SILENT_HEARTBEATS: Final = 3
"""After so many heartbeats of silence a session ends."""


@dataclass(frozen=True, slots=True)
class BridgeLimits:
    """`line` is what WELCOME tells a relay; the others are the settings of the same names."""

    line: LineLimits
    sessions_max: int
    in_flight_max: int
    backlog_at_once_max: int
    publications_max: int
    qos: int
    busy_retry_after_ms: int

    @classmethod
    def of(cls, settings: Settings) -> BridgeLimits:
        """Return what the settings say."""
        line = LineLimits(
            in_flight_max=settings.bridge_relay_in_flight_max,
            backlog_in_flight_max=settings.bridge_relay_backlog_in_flight_max,
            backlog_per_s_max=settings.bridge_relay_backlog_per_s_max,
            heartbeat_ms=settings.bridge_heartbeat_ms,
            ttl_default_ms=settings.ttl_default_ms,
            ttl_max_ms=settings.ttl_max_ms,
        )
        return cls(
            line=line,
            sessions_max=settings.bridge_sessions_max,
            in_flight_max=settings.bridge_in_flight_max,
            backlog_at_once_max=settings.bridge_backlog_at_once_max,
            publications_max=settings.mqtt_publications_max,
            qos=settings.mqtt_qos,
            busy_retry_after_ms=settings.busy_retry_after_ms,
        )

    @property
    def broker(self) -> BrokerLimits:
        """Return what bounds the connection to the broker."""
        return BrokerLimits(under_way_max=self.publications_max)
