"""The body of an ANSWER: packed once by the server, stored and replayed byte for byte (SPEC.md, answers)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Self

import msgpack

from protocol.codes import INT_MAX, Outcome
from protocol.fields import Malformed, array, text, uint, unpack

SLIP_LINES_MAX: Final = 255
SLIP_LINE_CHARACTERS_MAX: Final = 128
GREETING_CHARACTERS_MAX: Final = 128
NO_DETAIL: Final = b"\xc0"
"""The packed detail of an operation that has none: nil."""

_BODY_FIELDS: Final = 6
_PROVISIONAL: Final = 1
_AGE: Final = 2
_ONE_BYTE_LAST: Final = 0x7F
_UINT8: Final = 0xCC
_FIVE_ELEMENTS: Final = b"\x95"
_SIX_ELEMENTS: Final = b"\x96"
_TWO_ELEMENTS: Final = b"\x92"
# One packer for all: making one costs more than packing a body.
_pack: Final[Callable[[Any], bytes]] = msgpack.Packer().pack


class Balance(NamedTuple):
    """What the account holds after the answer, in minor units of points; expiring_on is yyyymmdd or 0 for never."""

    available: int
    held: int
    pending: int
    owed: int
    expiring_points: int
    expiring_on: int


def encode_body(
    outcome: int,
    points: int,
    earned: int,
    balance: Balance | tuple[int, int, int, int, int, int] | None,
    slip: Sequence[str] = (),
    detail: bytes = NO_DETAIL,
) -> bytes:
    """Return the packed body of an ANSWER; `detail` comes packed from one of the functions below.

    `earned` may be negative (what was taken back), everything else is 0..2^53-1.
    """
    if detail is NO_DETAIL:
        return _pack((outcome, points, earned, balance, slip, None))
    return _SIX_ELEMENTS + _pack((outcome, points, earned, balance, slip))[len(_FIVE_ELEMENTS) :] + detail


def balance_detail(greeting: str | None) -> bytes:
    """Return the packed detail of a BALANCE answer; the greeting is personal data, hence never in a stored body."""
    return _pack((greeting,))


def provisional_detail(age_ms: int | None = None) -> bytes:
    """Return the packed detail of a BALANCE that was answered without the journal; it has no greeting.

    `age_ms` is how long ago the figures were true, None where that is not known.
    """
    return _pack((None, True) if age_ms is None else (None, True, age_ms))


def hold_detail(hold_until_ms: int) -> bytes:
    """Return the packed detail of a HOLD answer: when the hold expires, in ms since the epoch."""
    return _pack((hold_until_ms,))


def status_detail(state: int, original_body: bytes | None) -> bytes:
    """Return the packed detail of a STATUS answer; the original's stored body goes in byte for byte."""
    return _TWO_ELEMENTS + _pack(state) + (NO_DETAIL if original_body is None else original_body)


def outcome_of(body: bytes) -> int:
    """Return the outcome of a body that this package packed, without reading the rest of it."""
    first = body[1]
    if first <= _ONE_BYTE_LAST:
        return first
    # A larger one stands behind a byte that says how many bytes it has: 1, 2, 4 or 8.
    return int.from_bytes(body[2 : 2 + (1 << first - _UINT8)])


@dataclass(frozen=True, slots=True)
class Answer:
    """A body as a register reads it; `detail` is decoded but unchecked, the properties below check it.

    `outcome` may be a number this version does not name: up to 1 approves, everything else declines.
    """

    outcome: int
    points: int
    earned: int
    balance: Balance | None
    slip: tuple[str, ...] = field(repr=False)  # Slip and detail may hold the member's name, which no log may.
    detail: Any = field(repr=False)

    @classmethod
    def from_body(cls, body: bytes) -> Self:
        """Read a packed body; raises Malformed."""
        return cls.from_fields(unpack(body))

    @classmethod
    def from_fields(cls, value: Any) -> Self:
        """Check a decoded body; raises Malformed. Elements after the known ones are ignored."""
        outcome, points, earned, balance, slip, detail = array(value, "body", None, _BODY_FIELDS)[:_BODY_FIELDS]
        if type(earned) is not int or not -INT_MAX <= earned <= INT_MAX:
            raise Malformed("earned", f"must be an integer of {-INT_MAX}..{INT_MAX}", None)
        return cls(
            uint(outcome, "outcome", None),
            uint(points, "points", None),
            earned,
            None if balance is None else _read_balance(balance),
            _read_slip(slip),
            detail,
        )

    @property
    def approved(self) -> bool:
        """Whether it took effect, in full or in part."""
        return self.outcome <= Outcome.APPROVED_PARTIAL

    @property
    def greeting(self) -> str | None:
        """The member's name in a BALANCE answer, if the programme allows it."""
        name = array(self.detail, "detail", None, 1)[0]
        return None if name is None else text(name, "detail.greeting", None, 0, GREETING_CHARACTERS_MAX)

    @property
    def provisional(self) -> bool:
        """Whether a BALANCE was answered without the journal, so that it may still change by what was under way."""
        fields = () if self.detail is None else array(self.detail, "detail", None, 1)
        if len(fields) <= _PROVISIONAL:
            return False
        if type(fields[_PROVISIONAL]) is not bool:
            raise Malformed("detail.provisional", "must be a boolean", None)
        return bool(fields[_PROVISIONAL])

    @property
    def age_ms(self) -> int | None:
        """How long ago the figures of a provisional BALANCE were true, in ms; None where that was not told."""
        fields = () if self.detail is None else array(self.detail, "detail", None, 1)
        if len(fields) <= _AGE or fields[_AGE] is None:
            return None
        return uint(fields[_AGE], "detail.age_ms", None)

    @property
    def hold_until_ms(self) -> int:
        """When the hold of a HOLD answer expires, in ms since the epoch."""
        return uint(array(self.detail, "detail", None, 1)[0], "detail.hold_until_ms", None)

    @property
    def status(self) -> int:
        """The StatusState of a STATUS answer."""
        return uint(array(self.detail, "detail", None, 2)[0], "detail.state", None)

    @property
    def original(self) -> "Answer | None":
        """The original's answer in a STATUS answer."""
        body = array(self.detail, "detail", None, 2)[1]
        return None if body is None else Answer.from_fields(body)


def _read_balance(value: Any) -> Balance:
    numbers = array(value, "balance", None, len(Balance._fields))
    return Balance(*[uint(number, "balance", None) for number in numbers[: len(Balance._fields)]])


def _read_slip(value: Any) -> tuple[str, ...]:
    lines = array(value, "slip", None, 0)
    if len(lines) > SLIP_LINES_MAX:
        raise Malformed("slip", f"must be an array of 0..{SLIP_LINES_MAX} lines", None)
    return tuple([text(line, "slip", None, 0, SLIP_LINE_CHARACTERS_MAX) for line in lines])
