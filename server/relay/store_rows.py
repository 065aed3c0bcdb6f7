"""What the relay's store takes and gives: rows without a connection."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from protocol.answers import Balance


class Advice(NamedTuple):
    """A request that the relay answers itself, with its answer, and what headquarters will be told later.

    `card` is the store's hash of the card, `fingerprint` and `message` (MessagePack, without a length) are those of
    SPEC.md; `target` is the request that a REVERSE names. `hold_id` is the allowance that a REDEEM is taken from.
    Times are ms since 1970 UTC, by headquarters' clock as far as it is known.
    """

    request_id: bytes
    fingerprint: bytes
    op: int
    card: bytes
    terminal: str
    message: bytes
    body: bytes
    sale_ms: int
    taken_ms: int
    target: bytes | None = None
    hold_id: bytes | None = None


class Taken(NamedTuple):
    """What the store has of a request after `Store.take`: `fresh` unless it was there before.

    `body` and `fingerprint` are of the first copy, so that a later one can be compared and answered alike.
    """

    fresh: bool
    fingerprint: bytes
    body: bytes


class Fate(IntEnum):
    """What became of a request that the relay answered itself."""

    QUEUED = 0
    DONE = 1
    CONFLICT = 2


class Remembered(NamedTuple):
    """An answer of the relay's own, kept for 30 days after headquarters answered."""

    fingerprint: bytes
    body: bytes
    card: bytes


class Queued(NamedTuple):
    """An advice that waits to be sent. All of one `lane` are sent one after the other, in the order of `seq`."""

    seq: int
    request_id: bytes
    lane: bytes
    terminal: str
    message: bytes
    sale_ms: int
    hold_id: bytes | None


class Finish(NamedTuple):
    """Headquarters' last word on a queued request.

    `outcome` and `error` are those of SPEC.md (one of them is None) if it became a conflict, both None otherwise.
    `release` lets a REDEEM's allowance be given back, because its points were not taken out of it.
    """

    request_id: bytes
    answered_ms: int
    outcome: int | None = None
    error: int | None = None
    release: bool = False

    @property
    def fate(self) -> Fate:
        """Whether it is done, or somebody must look at it."""
        return Fate.DONE if self.outcome is None and self.error is None else Fate.CONFLICT


class Conflict(NamedTuple):
    """What the relay had approved and headquarters did not; `masked` is how the card may be shown."""

    request_id: bytes
    terminal: str
    op: int
    masked: str
    points: int
    amount: int
    currency: str
    reference: str
    sale_ms: int
    answered_ms: int
    outcome: int | None
    error: int | None


class KnownBalance(NamedTuple):
    """The balance of a card as headquarters told it last, and when (ms since 1970 UTC, headquarters' clock)."""

    balance: Balance
    at_ms: int


class AllowanceState(IntEnum):
    """How far a reserved allowance has come."""

    ASKED = 0
    GRANTED = 1
    SPENT = 2
    RELEASING = 3


class Allowance(NamedTuple):
    """Points of a card that headquarters set aside for this store (a hold of the relay's own).

    May be spent off line while headquarters' time is within `from_ms` and `until_ms`. `kind` and `value` are the
    card: without it nothing could be released; it is erased with the row.
    """

    card: bytes
    hold_id: bytes
    kind: int
    value: str
    state: AllowanceState
    points: int
    from_ms: int
    until_ms: int


class StoreLimits(NamedTuple):
    """What bounds a relay's store."""

    #: Advices that wait for headquarters; more are refused as BUSY.
    queue_max: int = 100_000
    #: Answers of the relay's own that are remembered, queued ones included; more are refused as BUSY.
    answers_max: int = 1_000_000
    #: Cards whose last balance is known; past it the oldest is forgotten.
    balances_max: int = 100_000
    #: Conflicts that are listed; past it the oldest is forgotten (headquarters has them all).
    conflicts_max: int = 10_000
    #: Cards that may have a reserved allowance at one time.
    allowances_max: int = 1_000
    #: Jobs that may wait for the store's thread; more are refused as BUSY.
    jobs_max: int = 10_000
    #: Jobs that are committed together.
    group_max: int = 1_000
    #: For how long an answer is remembered after headquarters answered (SPEC.md, section 8.1).
    remembered_ms: int = 30 * 86_400_000
