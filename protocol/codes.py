"""Every number that has a name on the wire (SPEC.md: messages, outcomes, errors).

A number is never reused and never changes its meaning; new ones are added.
Where a precedence applies, it is the order here.
"""

from enum import IntEnum
from typing import Final

PROTOCOL_VERSIONS: Final = (1,)
"""Versions this package speaks, oldest first."""

INT_MAX: Final = 2**53 - 1
"""Largest integer on the wire: beyond it a double, hence Lua and JavaScript, would round."""

AMOUNT_MAX: Final = 100_000_000_000
"""Most points or money (minor units) in one field of a request; their products with rates then stay exact in Lua."""

REQUEST_ID_BYTES: Final = 16
FRAME_BYTES_MAX_DEFAULT: Final = 65_536


class Message(IntEnum):
    """Element 0 of every frame."""

    HELLO = 1
    CHALLENGE = 2
    PROOF = 3
    WELCOME = 4
    GOODBYE = 5
    PING = 6
    PONG = 7
    BALANCE = 16
    REDEEM = 17
    HOLD = 18
    CAPTURE = 19
    RELEASE = 20
    EARN = 21
    SALE = 22
    REFUND = 23
    REVERSE = 24
    STATUS = 25
    ACTIVATE = 32
    BLOCK = 33
    REPLACE = 34
    ANSWER = 64
    ERROR = 65


OPERATION_FIRST: Final = 16
OPERATION_LAST: Final = 63
"""Types in this range are operations: element 1 is a request id, so an unknown one can be answered UNSUPPORTED."""


class CardKind(IntEnum):
    """How the card was presented."""

    EAN13 = 1
    PAN = 2
    TRACK = 3
    PHONE = 4
    VIRTUAL = 5


class Outcome(IntEnum):
    """What was decided. 0 and 1 approve, all others decline; the lowest that applies wins."""

    APPROVED = 0
    APPROVED_PARTIAL = 1
    REVERSED = 100
    NOT_PERMITTED = 101
    BAD_CARD = 102
    UNKNOWN_CARD = 103
    CARD_INACTIVE = 104
    CARD_BLOCKED = 105
    CARD_REPLACED = 106
    ACCOUNT_BLOCKED = 107
    WRONG_CURRENCY = 108
    BAD_SALE_TIME = 109
    ORIGINAL_UNKNOWN = 110
    ORIGINAL_UNSUITABLE = 111
    ORIGINAL_OTHER_CARD = 112
    ORIGINAL_REVERSED = 113
    REFUND_EXCEEDS = 114
    HOLD_UNKNOWN = 115
    HOLD_CLOSED = 116
    HOLD_EXPIRED = 117
    CAPTURE_EXCEEDS = 118
    CARD_IN_USE = 119
    ALREADY_ACTIVE = 120
    TOO_MANY_HOLDS = 121
    BELOW_MINIMUM = 122
    ABOVE_MAXIMUM = 123
    ABOVE_SHARE = 124
    ACCOUNT_LIMIT = 125
    TERMINAL_LIMIT = 126
    INSUFFICIENT = 127
    OFFLINE = 128


class ErrorCode(IntEnum):
    """Why a request got no decision; the lowest that applies wins."""

    MALFORMED = 1
    UNSUPPORTED = 2
    BUSY = 3
    EXPIRED = 4
    ID_REUSED = 5
    UNAVAILABLE = 6


class Goodbye(IntEnum):
    """Why a connection ends."""

    NORMAL = 0
    DRAIN = 1
    VERSION = 2
    AUTH_FAILED = 3
    PROTOCOL = 4
    TOO_LARGE = 5
    IDLE = 6
    SLOW = 7
    BUSY = 8
    SUSPENDED = 9
    INTERNAL = 10


class StatusState(IntEnum):
    """What became of a request, in the detail of a STATUS answer."""

    UNKNOWN = 0
    STANDS = 1
    REVERSED = 2
    HELD = 3
    CAPTURED = 4
    RELEASED = 5
    EXPIRED = 6
    REFUNDED = 7


class BlockReason(IntEnum):
    """Why a card is blocked."""

    OTHER = 0
    LOST = 1
    STOLEN = 2
    DAMAGED = 3
    FRAUD = 4
