"""The journal of open requests that every register keeps (SPEC.md, section 14), here in memory.

A real register flushes it to its own disk. A thousand of them flushing to the one disk of the machine that is measured
would measure that disk, so what a load test keeps outlives a register's restart but not the test.
"""

from __future__ import annotations

from collections.abc import Callable

from protocol.requests import Request, ReverseRequest
from protocol.retry import GIVING_UP, GivingUp, as_advice


class OpenRequests:
    """Requests with an effect whose fate is not known: a `protocol.ticket.Store`."""

    def __init__(self) -> None:
        self._open: dict[bytes, Request] = {}

    def __len__(self) -> int:
        return len(self._open)

    def put(self, request: Request) -> None:
        """Keep a request that is about to be sent."""
        self._open[request.request_id] = request

    def replace(self, original: Request, reversal: Request) -> None:
        """Keep the reversal instead of its original."""
        self._open.pop(original.request_id, None)
        self._open[reversal.request_id] = reversal

    def done(self, request_id: bytes) -> None:
        """Forget a request: its fate is known."""
        self._open.pop(request_id, None)

    def after_restart(self, new_id: Callable[[], bytes]) -> list[Request]:
        """Return what a register sends first when it starts: what is kept again, the reversal of everything else."""
        for request in list(self._open.values()):
            if GIVING_UP[request.op] is GivingUp.REVERSE:
                self.replace(request, ReverseRequest(new_id(), 0, request.card, request.request_id))
        return [as_advice(request) for request in self._open.values()]
