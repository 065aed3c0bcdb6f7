"""The real client, with everything noted that it sends and hears: each copy of each request, before the bytes leave."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from protocol.client import Client
from protocol.codes import CardKind, Message
from protocol.framing import FrameReader
from protocol.messages import AnswerMessage, ErrorMessage, decode
from protocol.requests import Card, Request
from protocol.steady_clock import SteadyClock
from tests.judge.events import ANSWERED, GAVE_UP, REFUSED, SENT, Event, EventLog

_TARGETS = ("original_id", "hold_id")


def card_of(number: str) -> Card:
    """Return the card with an EAN-13 number."""
    return Card(CardKind.EAN13, number)


class Notebook:
    """The notes of all registers of a process in one round: which card is which, which id is what, and the log."""

    def __init__(self) -> None:
        self.now_ms = SteadyClock()
        self._log: EventLog | None = None
        self._cards: dict[str, int] = {}
        self._requests: dict[bytes, Request] = {}

    def begin(self, log: EventLog, numbers: list[str]) -> None:
        """Begin a round with its own log and cards; what still comes of the round before is not noted."""
        if self._log is not None:
            self._log.close()
        self._log = log
        self._cards = {str(card_of(number).token): index for index, number in enumerate(numbers)}
        self._requests.clear()

    def sent(self, register: str, line: int, request: Request) -> None:
        """Note a copy that is about to leave."""
        if request.card.token in self._cards:
            self._requests[request.request_id] = request
            receipt = getattr(request, "receipt", None)
            points = getattr(request, "points", None)
            self._note(SENT, register, line, request, points=points, amount=receipt and receipt.amount)

    def heard(self, register: str, line: int, message: AnswerMessage | ErrorMessage) -> None:
        """Note what came back for a copy."""
        request = self._requests.get(message.request_id)
        if request is None:
            return
        if isinstance(message, ErrorMessage):
            self._note(REFUSED, register, line, request, outcome=message.code)
            return
        answer = message.answer
        told: dict[str, Any] = {
            "outcome": answer.outcome,
            "points": answer.points,
            "replayed": message.replayed,
            "body": message.body,
            "balance": None if answer.balance is None else tuple(answer.balance),
            "provisional": request.op == Message.BALANCE and answer.approved and answer.provisional,
        }
        if request.op == Message.STATUS and answer.approved:
            told["status"] = answer.status
        self._note(ANSWERED, register, line, request, **told)

    def gave_up(self, register: str, request: Request) -> None:
        """Note that the register wants no answer any more."""
        if request.request_id in self._requests:
            self._note(GAVE_UP, register, 0, request)

    def _note(self, event: str, register: str, line: int, request: Request, **told: Any) -> None:
        target = next((getattr(request, name) for name in _TARGETS if hasattr(request, name)), None)
        noted = Event(
            self.now_ms(), register, event, request.request_id, request.op.name,
            self._cards[str(request.card.token)], target=target, line=line, **told,
        )  # fmt: skip
        if self._log is not None:
            self._log.write(noted)


class NotedClient(Client):
    """A client whose connections are lines `first_line`, `first_line` + 1, … of its register's notes."""

    def __init__(self, notebook: Notebook, first_line: int, host: str, port: int, code: str, secret: str) -> None:
        super().__init__(host, port, code, secret, now_ms=notebook.now_ms)
        self._notebook, self._line_number, self._code = notebook, first_line, code
        self._outgoing, self._incoming = FrameReader(), FrameReader()
        self._register.data_to_send = self._noting(self._register.data_to_send)  # type: ignore[method-assign]

    def _noting(self, data_to_send: Callable[[], bytes]) -> Callable[[], bytes]:
        def noted() -> bytes:
            data = data_to_send()
            for payload in self._outgoing.feed(data):
                message = decode(payload)
                if isinstance(message, Request):
                    self._notebook.sent(self._code, self._line_number, message)
            return data

        return noted

    def _opened(self, line: Any) -> None:
        self._line_number += 1
        self._outgoing, self._incoming = FrameReader(), FrameReader()
        super()._opened(line)

    def _received(self, data: bytes) -> None:
        for payload in self._incoming.feed(data):
            message = decode(payload)
            if isinstance(message, AnswerMessage | ErrorMessage):
                self._notebook.heard(self._code, self._line_number, message)
        super()._received(data)

    def gave_up(self, request: Request) -> None:
        """Note that its register wants no answer any more."""
        self._notebook.gave_up(self._code, request)
