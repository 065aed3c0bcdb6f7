"""One request that waits for its answer: whom to tell, what to count, and what its answer settles."""

from __future__ import annotations

from typing import Any, Protocol

import msgpack

from ledger.clock import Clock
from ledger.submission import Refusal
from protocol.answers import outcome_of
from protocol.codes import ErrorCode, Outcome
from server.observation.metrics import Metrics
from server.registers.terminal_room import Reservation, TerminalRoom

_APPROVED_LAST = int(Outcome.APPROVED_PARTIAL)
_REFUSAL_TEXTS = {
    int(Refusal.BUSY): "too much under way, not executed",
    int(Refusal.EXPIRED): "the time to live passed, not executed",
    int(Refusal.ID_REUSED): "this request id was used for another request",
    int(
        Refusal.UNAVAILABLE
    ): "not known whether it was executed: retry with the same id, reverse it, or ask for its status",
}


class Sender(Protocol):
    """The session that a request came from."""

    def send_answer(self, request_id: bytes, replayed: bool, body: bytes) -> None:
        """Put an answer into the connection's next write."""

    def send_error(self, request_id: bytes, code: int, text: str, retry_after_ms: int) -> None:
        """Put an error into the connection's next write."""


class Pending:
    """A request under way (`ledger.submission.ReplyTo`); one small object, answered exactly once.

    A connection may send the same id twice before the first answer is out, so this is not looked up by id.
    """

    __slots__ = ("_clock", "_metrics", "_op", "_room", "_started", "_store_id", "reservation", "sender")

    def __init__(
        self,
        sender: Sender,
        store_id: int,
        op: int,
        started: float,
        metrics: Metrics,
        room: TerminalRoom,
        clock: Clock,
    ) -> None:
        """Take whom to tell, and in which store; `started` is when the request was complete (monotonic clock)."""
        self.sender = sender
        self._store_id = store_id
        self._op = op
        self._started = started
        self._metrics = metrics
        self._room = room
        self._clock = clock
        self.reservation: Reservation | None = None

    def answer(self, request_id: bytes, body: bytes, *, replayed: bool) -> None:
        """Pass an answer on."""
        outcome = outcome_of(body)
        seconds = self._clock.monotonic_s() - self._started
        self._metrics.answered(self._store_id, self._op, outcome, seconds, replayed=replayed)
        if self.reservation is not None:
            self._settle(0 if replayed or outcome > _APPROVED_LAST else points_of(body))
        self.sender.send_answer(request_id, replayed, body)

    def refuse(self, request_id: bytes, refusal: Refusal, retry_after_ms: int) -> None:
        """Pass a refusal on; points of a request in doubt count as spent until the journal is read again."""
        if self.reservation is not None:
            if refusal == Refusal.UNAVAILABLE:
                self._room.outdate(self.reservation.terminal_id)
                self._settle(self.reservation.points)
            else:
                self._settle(0)
        self._metrics.refused(self._op, refusal)
        self.sender.send_error(request_id, int(refusal), _REFUSAL_TEXTS[refusal], retry_after_ms)

    def malformed(self, request_id: bytes, text: str) -> None:
        """Tell the register which field is wrong."""
        self._metrics.refused(self._op, ErrorCode.MALFORMED)
        self.sender.send_error(request_id, int(ErrorCode.MALFORMED), text, 0)

    def _settle(self, spent: int) -> None:
        reservation, self.reservation = self.reservation, None
        if reservation is not None:
            self._room.settle(reservation, spent)


def points_of(body: bytes) -> int:
    """Return the points of an answer body (its element 1)."""
    fields: Any = msgpack.unpackb(body, raw=True)
    points: int = fields[1]
    return points
