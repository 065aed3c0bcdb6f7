"""What becomes of one register's request at a relay: asked of headquarters, answered here, or refused."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import NamedTuple

from protocol.relay_messages import Roster, RosterTerminal
from protocol.requests import Request
from server.registers.dispatch import Moment
from server.registers.pending import Sender
from server.relay.asking import Line
from server.relay.store import Store


class DeskLimits(NamedTuple):
    """What bounds a relay's desk."""

    #: Requests under way at one time; more are refused as BUSY.
    under_way_max: int = 4_096
    #: How long headquarters is waited for, at most the request's own time to live.
    answer_timeout_ms: int = 5_000
    #: What a refused register is asked to wait.
    busy_retry_after_ms: int = 200
    #: Most points or money in a field of a request.
    amount_max: int = 100_000_000_000


class Desk:
    """Takes the requests of all registers of the store. Never blocks, never raises for bad input."""

    def __init__(
        self, store: Store, line: Line, roster: Callable[[], Roster | None], random: Random, limits: DeskLimits
    ) -> None:
        raise NotImplementedError

    def take(self, request: Request, terminal: RosterTerminal, sender: Sender, at: Moment) -> None:
        """Answer a request through `sender`, exactly once and perhaps much later."""
        raise NotImplementedError

    @property
    def under_way(self) -> int:
        """Requests that wait for their answer."""
        raise NotImplementedError

    async def drain(self) -> None:
        """Return when everything under way is answered; refuse what comes meanwhile as BUSY."""
        raise NotImplementedError
