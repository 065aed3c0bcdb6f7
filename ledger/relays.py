"""Relays as the ledger knows them: stores' own computers that speak for their registers (SPEC.md, MQTT)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ledger.programme import Terminal


@dataclass(frozen=True, slots=True)
class Relay:
    """A relay: the terminal that it is itself, which of its keys holds, and what it may reserve for a card.

    `allowance_points` (minor units, 0 = nothing) may be spent off line for `allowance_ms`.
    """

    terminal: Terminal
    generation: int
    allowance_points: int
    allowance_ms: int


class RelayReport(NamedTuple):
    """What a relay last said of itself. Times are ms since 1970 UTC.

    `oldest_ms` is since when the oldest of the `queued` requests waits, `offline_since_ms` since when the relay was
    last alone; None if there is no such time.
    """

    relay_id: int
    software: str
    heard_ms: int
    queued: int
    oldest_ms: int | None
    offline_since_ms: int | None


class RelayConflict(NamedTuple):
    """What a relay approved by itself and the ledger then declined; fields as in the table office.conflict.

    `token` is the card's keyed hash, None for a card that cannot be read.
    """

    request_id: bytes
    relay_id: int
    terminal_id: int
    token: bytes | None
    op: int
    outcome: int
    masked: str
    points: int
    amount: int
    currency: str
    reference: str
    sale_ms: int
