"""Listens on a register's line and notes every copy that is sent and every answer that arrives, for the judge."""

from __future__ import annotations

from collections.abc import Callable

from protocol.framing import FrameError, FrameReader
from protocol.messages import AnswerMessage, ErrorMessage, Malformed, Request, UnknownType, decode
from protocol.requests import (
    CaptureRequest,
    EarnRequest,
    HoldRequest,
    RedeemRequest,
    RefundRequest,
    ReleaseRequest,
    ReverseRequest,
    SaleRequest,
    StatusRequest,
)
from tests.simulator.programme import card
from tests.judge.events import ANSWERED, GAVE_UP, REFUSED, SENT, Event

Note = Callable[[Event], None]


class Asked:
    """Every request that any register has made, by its id, and the number of its card."""

    def __init__(self, active: int, issued: int) -> None:
        """Take how many cards are in use, and how many behind them wait to be activated or to replace another one."""
        self.requests: dict[bytes, tuple[Request, int]] = {}
        self.numbers = {card(number).value: number for number in range(active + issued)}
        self.movable_from = active

    def add(self, request: Request) -> None:
        """Remember a request before it is sent."""
        self.requests.setdefault(request.request_id, (request, self.numbers[request.card.value]))

    def event(self, at_ms: int, register: str, kind: str, request_id: bytes, **fields: object) -> Event:
        """Return an event about a known request."""
        request, number = self.requests[request_id]
        return Event(at_ms, register, kind, request_id, request.op.name, number, **fields)  # type: ignore[arg-type]


class Tap:
    """One connection of one register, numbered by `line`."""

    def __init__(self, asked: Asked, note: Note, now_ms: Callable[[], int], register: str, line: int) -> None:
        self._asked = asked
        self._note = note
        self._now_ms = now_ms
        self._register = register
        self._line = line
        self._sent = FrameReader()
        self._heard = FrameReader()

    def sent(self, data: bytes) -> None:
        """Note what the register writes."""
        for payload in self._sent.feed(data):
            message = decode(payload)
            if isinstance(message, Request):
                self._asked.requests.setdefault(message.request_id, (message, self._asked.numbers[message.card.value]))
                self._event(
                    SENT,
                    message.request_id,
                    points=_points(message),
                    amount=_amount(message),
                    target=target_of(message),
                )

    def heard(self, data: bytes) -> None:
        """Note what the register reads."""
        try:
            for payload in self._heard.feed(data):
                message = decode(payload)
                if isinstance(message, AnswerMessage):
                    self._answered(message)
                elif isinstance(message, ErrorMessage):
                    self._event(REFUSED, message.request_id, outcome=message.code)
        except (FrameError, Malformed, UnknownType) as error:
            raise AssertionError(f"the server sent what is no frame: {error}") from error

    def _answered(self, message: AnswerMessage) -> None:
        answer = message.answer
        request, number = self._asked.requests[message.request_id]
        # A card that replaces another one moves to its account, and the judge takes a card to lead to one only.
        balance = None if answer.balance is None or number >= self._asked.movable_from else tuple(answer.balance)
        self._event(
            ANSWERED,
            message.request_id,
            points=answer.points,
            target=target_of(request),
            outcome=answer.outcome,
            replayed=message.replayed,
            body=message.body,
            balance=balance,
            status=int(answer.detail[0]) if isinstance(request, StatusRequest) and answer.detail else None,
        )

    def _event(self, kind: str, request_id: bytes, **fields: object) -> None:
        self._note(self._asked.event(self._now_ms(), self._register, kind, request_id, line=self._line, **fields))


def target_of(request: Request) -> bytes | None:
    """Return the id of the request that this one is about."""
    if isinstance(request, CaptureRequest | ReleaseRequest):
        return request.hold_id
    if isinstance(request, RefundRequest | ReverseRequest | StatusRequest):
        return request.original_id
    return None


def _points(request: Request) -> int | None:
    if isinstance(request, RedeemRequest | HoldRequest | SaleRequest | CaptureRequest):
        return request.points
    return None


def _amount(request: Request) -> int | None:
    if isinstance(request, EarnRequest | SaleRequest | RefundRequest | RedeemRequest | HoldRequest | CaptureRequest):
        return request.receipt.amount
    return None


def gave_up(asked: Asked, at_ms: int, register: str, request_id: bytes) -> Event:
    """Return the note that a register wants no answer to a request any more."""
    return asked.event(at_ms, register, GAVE_UP, request_id)
