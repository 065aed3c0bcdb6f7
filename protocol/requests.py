"""Requests: what a terminal asks, one class per operation (SPEC.md, operations).

All points and amounts are integers in minor units, all times milliseconds. A request is made either by a register's own
code or by `protocol.messages.decode`; only the latter checks types and ranges.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b
from operator import attrgetter
from typing import Any, ClassVar, Final, NamedTuple, Self

import msgpack

from protocol import tokens
from protocol.codes import AMOUNT_MAX, INT_MAX, REQUEST_ID_BYTES, BlockReason, Message
from protocol.fields import Malformed, array, binary_id, boolean, currency, text, uint

CARD_VALUE_CHARACTERS_MAX: Final = 128
REFERENCE_CHARACTERS_MAX: Final = 64
FINGERPRINT_BYTES: Final = 8
_HEAD_FIELDS: Final = 4

Fields = tuple[Any, ...]
Reader = Callable[[Any, str, bytes], Any]
Layout = tuple[tuple[str, Reader], ...]
# One packer for all: making one costs more than packing a request.
_pack: Final[Callable[[Any], bytes]] = msgpack.Packer().pack


# A frozen dataclass takes three times as long to make, and a server makes three objects of a request. So cards and
# requests are not frozen; all the same nobody changes one.
@dataclass(slots=True, unsafe_hash=True, repr=False, init=False)
class Card:
    """A card as it was presented; `token` is its canonical token, or None when it has none (a BAD_CARD decline)."""

    kind: int
    value: str
    token: str | None = field(compare=False)

    def __init__(self, kind: int, value: str) -> None:
        self.kind = kind
        self.value = value
        try:
            self.token = tokens.canonical(kind, value)
        except tokens.BadCard:
            self.token = None

    def __repr__(self) -> str:
        # Requests get logged when something fails, and a log must never hold a full card number.
        return f"Card(kind={int(self.kind)}, {'unreadable' if self.token is None else tokens.masked(self.token)})"

    def wire(self) -> tuple[int, str]:
        """Return the card as it goes over the wire."""
        return (self.kind, self.value)

    @property
    def identity(self) -> str:
        """The token, or for an unreadable card what was presented."""
        return self.token if self.token is not None else f"bad:{int(self.kind)}:{self.value}"


class Receipt(NamedTuple):
    """The till receipt: amount in minor units of money, ISO 4217 currency, the register's own reference."""

    amount: int
    currency: str
    reference: str = ""


def read_card(value: Any, name: str, request_id: bytes) -> Card:
    """Check [kind, value]; whether it is a good card is decided later, because a bad one is a decline."""
    kind, presented = array(value, name, request_id, 2)[:2]
    if type(presented) is not str or not 1 <= len(presented) <= CARD_VALUE_CHARACTERS_MAX:
        raise Malformed(f"{name}.value", f"must be a str of 1..{CARD_VALUE_CHARACTERS_MAX} characters", request_id)
    if type(kind) is not int or not 0 <= kind <= INT_MAX:
        uint(kind, f"{name}.kind", request_id)
    return Card(kind, presented)


def read_receipt(value: Any, name: str, request_id: bytes) -> Receipt:
    """Check [amount, currency, reference]."""
    amount, code, reference = array(value, name, request_id, 3)[:3]
    if type(amount) is not int or not 0 <= amount <= AMOUNT_MAX:
        uint(amount, "receipt.amount", request_id, 0, AMOUNT_MAX)
    return Receipt(
        amount,
        currency(code, "receipt.currency", request_id),
        text(reference, "receipt.reference", request_id, 0, REFERENCE_CHARACTERS_MAX),
    )


def _amount(value: Any, name: str, request_id: bytes) -> int:
    return uint(value, name, request_id, 0, AMOUNT_MAX)


def _some_points(value: Any, name: str, request_id: bytes) -> int:
    if type(value) is int and 1 <= value <= AMOUNT_MAX:
        return value
    return uint(value, name, request_id, 1, AMOUNT_MAX)


def _amount_or_nil(value: Any, name: str, request_id: bytes) -> int | None:
    return None if value is None else uint(value, name, request_id, 0, AMOUNT_MAX)


def _block_reason(value: Any, name: str, request_id: bytes) -> int:
    return uint(value, name, request_id, 0, max(BlockReason))


def _reader_of(names: list[str]) -> Callable[[Any], Fields]:
    """Return what reads the attributes of these names as one tuple; for several that is a single call."""
    if len(names) > 1:
        return attrgetter(*names)
    return lambda request: tuple([getattr(request, name) for name in names])


@dataclass(slots=True, unsafe_hash=True)
class Request:
    """What every request carries: its id (16 bytes, made by the register), how long it may wait (0 = default), a card.

    A subclass names its code in `op`, and in `layout` the fields after the card in wire order with the check of each;
    `own_fields` reads these of a request.
    """

    op: ClassVar[Message]
    layout: ClassVar[Layout] = ()
    own_fields: ClassVar[Callable[[Any], Fields]]

    request_id: bytes
    ttl_ms: int
    card: Card

    def __init_subclass__(cls) -> None:
        cls.own_fields = staticmethod(_reader_of([name for name, _ in cls.layout]))

    @classmethod
    def from_fields(cls, fields: Fields) -> Self:
        """Check decoded fields, type first; raises Malformed. Elements after the known ones are ignored."""
        if len(fields) < len(cls.layout) + _HEAD_FIELDS:
            raise cls._missing(fields)
        request_id, ttl_ms = fields[1], fields[2]
        # What every request has is looked at here; only what is wrong is worth the call that says so.
        if type(request_id) is not bytes or len(request_id) != REQUEST_ID_BYTES:
            binary_id(request_id, "request_id", None)
        if type(ttl_ms) is not int or not 0 <= ttl_ms <= INT_MAX:
            uint(ttl_ms, "ttl_ms", request_id)
        values = [request_id, ttl_ms, read_card(fields[3], "card", request_id)]
        at = _HEAD_FIELDS
        for name, read in cls.layout:
            values.append(read(fields[at], name, request_id))
            at += 1
        return cls(*values)

    @classmethod
    def _missing(cls, fields: Fields) -> Malformed:
        names = ("type", "request_id", "ttl_ms", "card", *[name for name, _ in cls.layout])
        request_id = binary_id(fields[1], "request_id", None) if len(fields) > 1 else None
        return Malformed(names[len(fields)], "is missing", request_id)

    def tail(self) -> Fields:
        """Return the fields after the card as they go over the wire."""
        return type(self).own_fields(self)

    def identity(self) -> Fields:
        """Return the fields after the card that make two requests with one id the same request."""
        return type(self).own_fields(self)

    def wire(self) -> Fields:
        """Return all fields, type first."""
        return (self.op, self.request_id, self.ttl_ms, self.card.wire(), *self.tail())


def fingerprint(request: Request, terminal_id: str) -> bytes:
    """Return the 8-byte BLAKE2b digest of what identifies a request (SPEC.md, identity of a request).

    A retry has the same fingerprint even when its time to live differs or the card was read in another way.
    """
    card = request.card
    presented = card.identity if card.token is None else card.token
    content = (request.request_id, terminal_id, request.op, presented, *request.identity())
    return blake2b(_pack(content), digest_size=FINGERPRINT_BYTES).digest()


@dataclass(slots=True, unsafe_hash=True)
class BalanceRequest(Request):
    """What may be spent now, and what comes or expires next."""

    op = Message.BALANCE


@dataclass(slots=True, unsafe_hash=True)
class RedeemRequest(Request):
    """Spend points in one step."""

    op = Message.REDEEM
    layout = (("points", _some_points), ("receipt", read_receipt), ("allow_partial", boolean))

    points: int
    receipt: Receipt
    allow_partial: bool = False


@dataclass(slots=True, unsafe_hash=True)
class HoldRequest(Request):
    """Reserve points; hold_ms 0 asks for the network's default."""

    op = Message.HOLD
    layout = (*RedeemRequest.layout, ("hold_ms", uint))

    points: int
    receipt: Receipt
    allow_partial: bool = False
    hold_ms: int = 0


@dataclass(slots=True, unsafe_hash=True)
class CaptureRequest(Request):
    """Take all (points 0) or part of a hold; the rest becomes free."""

    op = Message.CAPTURE
    layout = (("hold_id", binary_id), ("points", _amount), ("receipt", read_receipt))

    hold_id: bytes
    points: int
    receipt: Receipt


@dataclass(slots=True, unsafe_hash=True)
class ReleaseRequest(Request):
    """Give a hold back."""

    op = Message.RELEASE
    layout = (("hold_id", binary_id),)

    hold_id: bytes


@dataclass(slots=True, unsafe_hash=True)
class EarnRequest(Request):
    """Give points for what was paid; eligible_amount None means all of it; offline makes it an advice."""

    op = Message.EARN
    layout = (
        ("receipt", read_receipt),
        ("eligible_amount", _amount_or_nil),
        ("sale_time_ms", uint),
        ("offline", boolean),
    )

    receipt: Receipt
    eligible_amount: int | None
    sale_time_ms: int
    offline: bool = False

    def identity(self) -> Fields:
        """Return the receipt and what of it earns: a register may send an earn that failed again as an advice."""
        return (self.receipt, self.eligible_amount)


@dataclass(slots=True, unsafe_hash=True)
class SaleRequest(Request):
    """Redeem and earn of one receipt as one effect; receipt.amount is the full value before points."""

    op = Message.SALE
    layout = (
        ("receipt", read_receipt),
        ("points", _amount),
        ("allow_partial", boolean),
        ("eligible_amount", _amount_or_nil),
    )

    receipt: Receipt
    points: int = 0
    allow_partial: bool = False
    eligible_amount: int | None = None


@dataclass(slots=True, unsafe_hash=True)
class RefundRequest(Request):
    """Goods came back; receipt.amount is their value, 0 = all that is left of the original."""

    op = Message.REFUND
    layout = (("original_id", binary_id), ("receipt", read_receipt))

    original_id: bytes
    receipt: Receipt


@dataclass(slots=True, unsafe_hash=True)
class ReverseRequest(Request):
    """Whatever became of the original, it must not stand."""

    op = Message.REVERSE
    layout = (("original_id", binary_id),)

    original_id: bytes


@dataclass(slots=True, unsafe_hash=True)
class StatusRequest(Request):
    """What became of the original."""

    op = Message.STATUS
    layout = (("original_id", binary_id),)

    original_id: bytes


@dataclass(slots=True, unsafe_hash=True)
class ActivateRequest(Request):
    """Make an issued card active."""

    op = Message.ACTIVATE


@dataclass(slots=True, unsafe_hash=True)
class BlockRequest(Request):
    """Block a card."""

    op = Message.BLOCK
    layout = (("reason", _block_reason),)

    reason: int


@dataclass(slots=True, unsafe_hash=True)
class ReplaceRequest(Request):
    """Let a new card take the place of the old one on the same account."""

    op = Message.REPLACE
    layout = (("new_card", read_card),)

    new_card: Card

    def tail(self) -> Fields:
        """Return the new card as it goes over the wire."""
        return (self.new_card.wire(),)

    def identity(self) -> Fields:
        """Return the new card's token, however it was read."""
        return (self.new_card.identity,)


REQUESTS: Final[tuple[type[Request], ...]] = (
    BalanceRequest,
    RedeemRequest,
    HoldRequest,
    CaptureRequest,
    ReleaseRequest,
    EarnRequest,
    SaleRequest,
    RefundRequest,
    ReverseRequest,
    StatusRequest,
    ActivateRequest,
    BlockRequest,
    ReplaceRequest,
)
"""Every operation, by its code."""
