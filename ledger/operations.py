"""The numbers by which the ledger, its Lua and its journal name operations, outcomes and results (SPEC.md, Operations).

The wire uses the same numbers; those from 40 on are made by the ledger itself and never travel.
"""

from enum import IntEnum


class Operation(IntEnum):
    """What an entry of the journal, or a request to an account, does."""

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
    EXPIRE_LOTS = 40
    EXPIRE_HOLD = 41
    SETTLE = 42
    TOMBSTONE = 43
    ADJUST = 44
    UNBLOCK = 45
    LINK = 46
    MERGE_OUT = 47
    MERGE_IN = 48
    BLOCK_ACCOUNT = 49
    UNBLOCK_ACCOUNT = 50
    UNLINK = 51


class Outcome(IntEnum):
    """What a decision says. The order is the precedence: of several declines that apply, the lowest is given."""

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
    """Said by a relay that cannot ask (SPEC.md, 25.10); the ledger never decides it."""


class Decision(IntEnum):
    """What became of a request in the decision itself (position 0 of its result)."""

    DECIDED = 0
    REPLAY = 1
    NEED_CONTEXT = 2
    STALE_CONTEXT = 3
