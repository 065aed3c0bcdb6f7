"""What each register sends next."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from itertools import chain, islice

from loadtests.generator.frames import ANY_CARD, ANY_ID, ANY_ORIGINAL, RequestIds, Template
from protocol.codes import Message
from protocol.requests import (
    BalanceRequest,
    CaptureRequest,
    HoldRequest,
    Receipt,
    ReverseRequest,
    SaleRequest,
)

POINT = 100
"""One point, in the minor units in which points are told."""

NextFrame = Callable[[int], bytes | None]
_RECEIPT_AMOUNT = 2_500
_HOLD_MS = 60_000
_STOCK = 4_096


class Plan(ABC):
    """The requests of one process.

    `next_frame` takes a register and returns its next request, None when there is none left. `approved`, where it is
    not None, wants to hear of each approval: the register and the request's id.
    """

    next_frame: NextFrame
    approved: Callable[[int, bytes], None] | None = None

    @abstractmethod
    def effects(self, approvals: int) -> Counter[str]:
        """Return what must stand in the journal after so many approvals, by operation."""

    def opening(self) -> list[bytes]:
        """Return what has to be answered before anything else is sent."""
        return []

    def prepare(self, requests: int) -> None:  # noqa: B027 - what depends on answers cannot be prepared
        """Encode so many requests now, so that none has to be while it is measured."""


class OneKind(Plan):
    """The same request all the time, of one card or another."""

    def __init__(self, template: Template, op: Message, ids: RequestIds, cards: Iterator[bytes]) -> None:
        self._op = op
        self._stock: Iterator[bytes] = (template.fill(ids.next(), card) for card in cards)
        self.next_frame = self._given_out()

    def prepare(self, requests: int) -> None:
        """Make frames of the next cards."""
        self._stock = chain(list(islice(self._stock, requests)), self._stock)
        self.next_frame = self._given_out()

    def effects(self, approvals: int) -> Counter[str]:
        """Return one effect for each approval, none for reading."""
        return Counter() if self._op is Message.BALANCE else Counter({self._op.name: approvals})

    def _given_out(self) -> NextFrame:
        # A generator's own `send` takes the register and costs no call of Python.
        source = _without_end(self._stock)
        next(source)
        return source.send


def _without_end(stock: Iterator[bytes]) -> Generator[bytes | None, int, None]:
    yield None
    for frame in stock:  # noqa: UP028 - `yield from` would hand the register on to the stock
        yield frame
    while True:
        yield None


class HotCard(OneKind):
    """One point of the same card all the time."""

    def __init__(self, template: Template, opening: Template, ids: RequestIds, card: bytes) -> None:
        super().__init__(template, Message.REDEEM, ids, _always(card))
        self._opening = opening.fill(ids.next(), card)

    def opening(self) -> list[bytes]:
        """Return the EARN that gives the card its points."""
        return [self._opening]

    def effects(self, approvals: int) -> Counter[str]:
        """Return the one EARN and what was spent of it."""
        return Counter({Message.EARN.name: 1, Message.REDEEM.name: approvals - 1}) if approvals else Counter()


def _always(card: bytes) -> Iterator[bytes]:
    while True:
        yield card


class Mix(Plan):
    """A shop's day: most customers ask what they have, some spend, few hold and capture, and now and then one errs."""

    _KINDS = (Message.BALANCE, Message.SALE, Message.HOLD, Message.REVERSE)
    _WEIGHTS = (60, 25, 10, 5)

    def __init__(self, currency: str, ttl_ms: int, ids: RequestIds, cards: Iterator[bytes], seed: int) -> None:
        receipt = Receipt(_RECEIPT_AMOUNT, currency)
        self._templates = {
            Message.BALANCE: Template(BalanceRequest(ANY_ID, ttl_ms, ANY_CARD)),
            Message.SALE: Template(SaleRequest(ANY_ID, ttl_ms, ANY_CARD, receipt, POINT)),
            Message.HOLD: Template(HoldRequest(ANY_ID, ttl_ms, ANY_CARD, POINT, receipt, hold_ms=_HOLD_MS)),
        }
        self._capture = Template(CaptureRequest(ANY_ID, ttl_ms, ANY_CARD, ANY_ORIGINAL, 0, receipt))
        self._reverse = Template(ReverseRequest(ANY_ID, ttl_ms, ANY_CARD, ANY_ORIGINAL))
        self._ids, self._cards = ids, cards
        self._dice = random.Random(seed)  # noqa: S311 - who buys what is no secret
        self._kinds: Iterator[Message] = iter(())
        self._under_way: dict[bytes, tuple[Message, bytes]] = {}
        self._to_capture: dict[int, list[tuple[bytes, bytes]]] = {}
        self._to_reverse: dict[int, list[tuple[bytes, bytes]]] = {}
        self._effects: Counter[str] = Counter()
        self.next_frame = self._next
        self.approved = self._approved

    def effects(self, approvals: int) -> Counter[str]:  # noqa: ARG002 - each approval was told when it came
        """Return what was approved."""
        return self._effects

    def _next(self, register: int) -> bytes:
        request_id = self._ids.next()
        if waiting := self._to_capture.get(register):
            card, original = waiting.pop()
            self._under_way[request_id] = (Message.CAPTURE, card)
            return self._capture.fill_original(request_id, card, original)
        kind = self._draw()
        if kind is Message.REVERSE:
            if sales := self._to_reverse.get(register):
                card, original = sales.pop()
                self._under_way[request_id] = (kind, card)
                return self._reverse.fill_original(request_id, card, original)
            # Nothing to reverse yet: then there is soon.
            kind = Message.SALE
        card = next(self._cards)
        self._under_way[request_id] = (kind, card)
        return self._templates[kind].fill(request_id, card)

    def _draw(self) -> Message:
        kind = next(self._kinds, None)
        if kind is None:
            self._kinds = iter(self._dice.choices(self._KINDS, self._WEIGHTS, k=_STOCK))
            kind = next(self._kinds)
        return kind

    def _approved(self, register: int, request_id: bytes) -> None:
        kind, card = self._under_way.pop(request_id)
        if kind is Message.BALANCE:
            return
        self._effects[kind.name] += 1
        if kind is Message.HOLD:
            self._to_capture.setdefault(register, []).append((card, request_id))
        elif kind is Message.SALE:
            self._to_reverse.setdefault(register, []).append((card, request_id))
