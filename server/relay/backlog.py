"""Sends what the relay answered itself to headquarters: in order for each card, at a bounded rate."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from server.relay.asking import Line
from server.relay.store import Store


class Backlog:
    """Drains a store's queue over the line; a request leaves the queue when headquarters has spoken its last word."""

    def __init__(self, store: Store, line: Line, random: Random, monotonic_s: Callable[[], float]) -> None:
        raise NotImplementedError

    async def run(self) -> None:
        """Drain until cancelled."""
        raise NotImplementedError

    def wake(self) -> None:
        """Look again at once: the line came up, or something was queued."""
        raise NotImplementedError
