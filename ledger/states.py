"""An account's state from the outside: its fields by name, and its packed form, which ledger/lua/state.lua explains."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from ledger.hot_store import pack, unpack

#: Requests that the ring remembers (ledger/lua/entry.lua).
RING_MAX = 8
#: What an account's status says.
OPEN, BLOCKED, CLOSED = range(3)
#: What an entry says of a card that leads to the account no more; a state has no such card.
CARD_GONE = 4

# Bytes of each number by form: small, holding, large.
_SMALL, _HOLDING, _LARGE = range(3)
_SMALL_HEADER = (1, 6, 5, 1, 4, 4, 4, 1, 3, 4, 4, 1, 3, 2)
_HEADERS = (_SMALL_HEADER, _SMALL_HEADER, (1, 6, 5, 1, 7, 7, 7, 1, 3, 7, 4, 1, 3, 2))
_LOTS = ((3, 3, 4, 1), (3, 3, 4, 4), (3, 3, 7, 7))
# The status stands behind form, account and seq.
_STATUS_AT, _CLOSED = sum(_SMALL_HEADER[:3]), bytes((CLOSED,))
_SMALL_END, _HELD_END = 2**32, 256
_ID_BYTES = 16
_TOKEN_BYTES = 17

#: First and last day (0 = never ends), points free and held.
Lot = tuple[int, int, int, int]


@dataclass(slots=True)
class State:
    """An account as a decision finds it: points are minor units, days count from 1970-01-01, times are milliseconds.

    `status` is 0 active, 1 blocked, 2 closed; `lots` are sorted by their last day; `holds` are lists of id, until_ms,
    amount, alloc, day and partner; `tokens` are cards of 16 bytes with their status; `ring` is the requests remembered,
    newest last, and `forgot` 1 once it has forgotten one, or taken in another account;
    `day` is the day whose redemptions are counted.
    """

    account: int
    seq: int = 0
    status: int = 0
    balance: int = 0
    held: int = 0
    owed: int = 0
    lots: list[Lot] = field(default_factory=list)
    holds: list[Any] = field(default_factory=list)
    tokens: dict[bytes, int] = field(default_factory=dict)
    ring: list[bytes] = field(default_factory=list)
    forgot: int = 0
    day: int = 0
    day_points: int = 0
    day_count: int = 0

    def packed(self) -> bytes:
        """Return the form that is stored. Raises OverflowError for a number that is none of its kind."""
        large = max(self.balance, self.owed, self.day_points) >= _SMALL_END
        form = _LARGE if large else _SMALL if self.held < _HELD_END else _HOLDING
        numbers = (
            form, self.account, self.seq, self.status, self.balance, self.held, self.owed, self.forgot, self.day,
            self.day_points, self.day_count, len(self.ring) * _ID_BYTES, len(self.tokens) * _TOKEN_BYTES,
            len(self.lots),
        )  # fmt: skip
        return b"".join(
            (
                _packed(numbers, _HEADERS[form]),
                *self.ring,
                *(token + bytes((status,)) for token, status in self.tokens.items()),
                _packed(list(chain.from_iterable(self.lots)), _LOTS[form] * len(self.lots)),
                pack(self.holds) if self.holds else b"",
            )
        )

    @classmethod
    def unpacked(cls, packed: bytes) -> State:
        """Return the state of a stored form. Raises ValueError when it is none."""
        form = packed[0] if packed else _LARGE
        if form > _LARGE:
            raise ValueError("the state has an unknown form")
        (
            _, account, seq, status, balance, held, owed, forgot, day, day_points, day_count, ring_bytes, tokens_bytes,
            lots,
        ), ring_at = _unpacked(packed, 0, _HEADERS[form])  # fmt: skip
        if ring_bytes % _ID_BYTES or tokens_bytes % _TOKEN_BYTES:
            raise ValueError("the state has half a request or half a card")
        tokens_at = ring_at + ring_bytes
        lots_at = tokens_at + tokens_bytes
        numbers, holds_at = _unpacked(packed, lots_at, _LOTS[form] * lots)
        tokens = {packed[at : at + _ID_BYTES]: packed[at + _ID_BYTES] for at in range(tokens_at, lots_at, _TOKEN_BYTES)}
        holds = unpack(packed[holds_at:]) if holds_at < len(packed) else []
        if not isinstance(holds, list):
            raise ValueError("the state has something behind its lots that is no holds")  # noqa: TRY004 - the value is
        return cls(
            account, seq, status, balance, held, owed,
            list(zip(*(numbers[position::4] for position in range(4)), strict=True)),
            holds, tokens,
            [packed[at : at + _ID_BYTES] for at in range(ring_at, tokens_at, _ID_BYTES)],
            forgot, day, day_points, day_count,
        )  # fmt: skip


def is_closed(packed: bytes) -> bool:
    """Return whether a packed state, or what should be one, is that of an account that was merged into another one."""
    return packed[_STATUS_AT : _STATUS_AT + 1] == _CLOSED


def first_state(account: int, tokens: Iterable[tuple[bytes, int]]) -> bytes:
    """Return the packed state of a new account with its cards as (16-byte token, status)."""
    return State(account, tokens=dict(tokens)).packed()


def _packed(numbers: Sequence[int], widths: Sequence[int]) -> bytes:
    return b"".join([number.to_bytes(width, "big") for number, width in zip(numbers, widths, strict=True)])


def _unpacked(packed: bytes, at: int, widths: Sequence[int]) -> tuple[list[int], int]:
    if at + sum(widths) > len(packed):
        raise ValueError("the state is too short")
    numbers = []
    for width in widths:
        numbers.append(int.from_bytes(packed[at : at + width], "big"))
        at += width
    return numbers, at
