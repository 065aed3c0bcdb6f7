"""One request of a relay that waits for its answer: where the answer goes, and what must happen before it leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ledger.relays import RelayConflict
from ledger.submission import Refusal
from protocol import tokens
from protocol.answers import outcome_of
from protocol.codes import ErrorCode, Outcome
from protocol.messages import LENGTH_BYTES, answer_frame, error_frame
from protocol.relay_messages import ReplyItem
from protocol.requests import Receipt, Request
from server.bridge.conflicts import Conflicts
from server.bridge.session import Session

_APPROVED_LAST: Final = int(Outcome.APPROVED_PARTIAL)
# Asked again they would end the same way; the others may end well.
_FINAL: Final = frozenset({int(ErrorCode.MALFORMED), int(ErrorCode.UNSUPPORTED), int(ErrorCode.ID_REUSED)})
_UNREADABLE: Final = "?"

Done = Callable[["Asked"], None]


class Asked:
    """Takes the answer of a register's request (`server.registers.pending.Sender`) into its session."""

    __slots__ = ("_done", "_terminal", "backlog", "session")

    def __init__(self, session: Session, terminal: str, done: Done, *, backlog: bool) -> None:
        """Take whose request it is; `done` is told once, when its answer is in the session."""
        self.session = session
        self.backlog = backlog
        self._terminal = terminal
        self._done = done

    def send_answer(self, request_id: bytes, replayed: bool, body: bytes) -> None:
        """Put an answer into the session's next publication."""
        self.reply(answer_frame(request_id, replayed, body))

    def send_error(self, request_id: bytes, code: int, text: str, retry_after_ms: int) -> None:
        """Put an error into the session's next publication."""
        self.reply(error_frame(request_id, code, text, retry_after_ms))

    def drop(self) -> None:
        """Give up a request that cannot be answered."""
        self._done(self)

    def reply(self, frame: bytes) -> None:
        """Put a frame into the session's next publication."""
        unsaid = self.session.backlog if self.backlog else self.session.live
        unsaid.put(ReplyItem(self._terminal, frame[LENGTH_BYTES:]))
        self._done(self)


class Advice:
    """The same for what the relay has approved already: a "no" is written down for people before the relay hears it."""

    __slots__ = ("_asked", "_conflicts", "_of")

    def __init__(self, asked: Asked, conflicts: Conflicts, of: Callable[[int], RelayConflict]) -> None:
        """`of` makes the conflict of an outcome or of the code of an error."""
        self._asked = asked
        self._conflicts = conflicts
        self._of = of

    def send_answer(self, request_id: bytes, replayed: bool, body: bytes) -> None:
        """Pass an approval on at once, a decline when it is on the list."""
        outcome = outcome_of(body)
        if outcome <= _APPROVED_LAST:
            self._asked.send_answer(request_id, replayed, body)
        else:
            self._list(request_id, outcome, answer_frame(request_id, replayed, body))

    def send_error(self, request_id: bytes, code: int, text: str, retry_after_ms: int) -> None:
        """Pass an error on, one that will not pass when it is on the list."""
        if code in _FINAL:
            self._list(request_id, code, error_frame(request_id, code, text, retry_after_ms))
        else:
            self._asked.send_error(request_id, code, text, retry_after_ms)

    def _list(self, request_id: bytes, outcome: int, frame: bytes) -> None:
        def told(committed: bool) -> None:
            text = "it was declined, and that could not be written down: ask again"
            self._asked.reply(frame if committed else error_frame(request_id, int(Refusal.UNAVAILABLE), text))

        self._conflicts.note(self._of(outcome), told)


def conflict_of(
    request: Request,
    session: Session,
    terminal_id: int,
    token: bytes | None,
    sale_ms: int,
    outcome: int,
) -> RelayConflict:
    """Return what people need of a request that a relay approved and the ledger did not; `token` is the card's hash."""
    asked: Any = request
    receipt: Receipt = getattr(request, "receipt", Receipt(0, "", ""))
    about: bytes = getattr(request, "original_id", b"") or getattr(request, "hold_id", b"")
    return RelayConflict(
        request_id=request.request_id,
        relay_id=session.relay_id,
        terminal_id=terminal_id,
        token=token,
        op=int(request.op),
        outcome=outcome,
        masked=_UNREADABLE if asked.card.token is None else tokens.masked(asked.card.token),
        points=getattr(request, "points", 0),
        amount=receipt.amount,
        currency=receipt.currency,
        reference=receipt.reference or about.hex(),
        sale_ms=sale_ms,
    )
