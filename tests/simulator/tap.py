"""Listens on a register's line and notes every copy that is sent and every answer that arrives, for the judge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import msgpack

from protocol.codes import OPERATION_FIRST, OPERATION_LAST, Message, Outcome
from protocol.framing import FrameReader
from protocol.messages import Request, decode
from protocol.requests import (
    BalanceRequest,
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
from tests.judge.events import ANSWERED, GAVE_UP, REFUSED, SENT, Event
from tests.simulator.programme import card

Note = Callable[[Event], None]

#: Where a frame of ours has its request id: behind the array's head, the type, and the head of 16 bytes (SPEC.md).
_ID = slice(4, 20)
_TRUE = 0xC3
#: Numbers of cards that may move to another account begin here.
MOVABLE = 1_000


class Asked:
    """Every request that any register has made, by its id, and the number of its card."""

    def __init__(self, active: int, issued: int) -> None:
        """Take how many cards are in use, and how many behind them wait to be activated or to replace another one."""
        self.requests: dict[bytes, Request] = {}
        self._numbers = {card(number).value: number for number in range(active + issued)}
        self._movable_from = active
        #: Ids under which something else was sent as well.
        self.reused: set[bytes] = set()
        #: Copies that were sent and not answered, by their id.
        self.under_way: Counter[bytes] = Counter()

    def add(self, request: Request) -> None:
        """Remember a request before it is sent."""
        self.requests.setdefault(request.request_id, request)

    def movable(self, request: Request) -> bool:
        """Return whether the card may replace another one, and then leads to that one's account."""
        return self._numbers[request.card.value] >= self._movable_from

    def number(self, request: Request) -> int:
        """Return the number of a request's card."""
        number = self._numbers[request.card.value]
        if not self.movable(request):
            return number
        # The judge takes a card to lead to one account for ever, so it is told of this one as of a new one each time.
        return number + MOVABLE * (1 + int.from_bytes(request.request_id[:4], "big"))


class Tap:
    """One connection of one register, numbered by `line`."""

    def __init__(self, asked: Asked, note: Note, now_ms: Callable[[], int], register: str, line: int) -> None:
        self._asked = asked
        self._note = note
        self._now_ms = now_ms
        self._register = register
        self._line = line
        # What was asked on this very line: somebody else may have used the same id for something else.
        self._own: dict[bytes, Request] = {}
        self._sent = FrameReader()
        self._heard = FrameReader()

    def sent(self, data: bytes) -> None:
        """Note what the register writes."""
        for payload in self._sent.feed(data):
            if OPERATION_FIRST <= payload[1] <= OPERATION_LAST:
                request_id = payload[_ID]
                if request_id in self._asked.requests and request_id not in self._asked.reused:
                    request = self._asked.requests[request_id]
                else:
                    # A reversal that the client itself has made, or other content under an id that is known.
                    message = decode(payload)
                    assert isinstance(message, Request)
                    self._asked.add(message)
                    request = message
                self._own[request_id] = request
                self._event(
                    SENT,
                    request.request_id,
                    points=_points(request),
                    amount=_amount(request),
                    target=target_of(request),
                )

    def heard(self, data: bytes) -> None:
        """Note what the register reads."""
        for payload in self._heard.feed(data):
            kind = payload[1]
            if kind == Message.ANSWER:
                self._answered(payload[_ID], payload[_ID.stop] == _TRUE, payload[_ID.stop + 1 :])
            elif kind == Message.ERROR:
                fields = msgpack.unpackb(payload)
                self._event(REFUSED, fields[1], outcome=fields[2])

    def _answered(self, request_id: bytes, replayed: bool, body: bytes) -> None:
        outcome, points, _, balance, _, detail = msgpack.unpackb(body)[:6]
        request = self._own[request_id]
        # A decline of a card that has moved since told the balance of an account of which the judge knows nothing.
        ambiguous = outcome > Outcome.APPROVED_PARTIAL and self._asked.movable(request)
        told = None if balance is None or ambiguous else tuple(balance)
        self._event(
            ANSWERED,
            request_id,
            points=points,
            target=target_of(request),
            outcome=outcome,
            replayed=replayed,
            body=body,
            balance=told,
            provisional=isinstance(request, BalanceRequest) and bool(detail) and len(detail) > 1 and bool(detail[1]),
            status=int(detail[0]) if isinstance(request, StatusRequest) and detail else None,
        )

    def _event(self, kind: str, request_id: bytes, **fields: object) -> None:
        request = self._own[request_id]
        number = self._asked.number(request)
        self._asked.under_way[request_id] += 1 if kind == SENT else -1
        self._note(
            Event(self._now_ms(), self._register, kind, request_id, request.op.name, number, line=self._line, **fields)  # type: ignore[arg-type]
        )


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
    request = asked.requests[request_id]
    return Event(at_ms, register, GAVE_UP, request_id, request.op.name, asked.number(request))
