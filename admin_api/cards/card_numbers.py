"""New cards: numbers with their check digits, and what the ledger keeps of them."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from ledger.card_tokens import token_hash
from ledger.journal.enrolment import NewCard
from protocol import tokens
from protocol.codes import CardKind

ISSUED, ACTIVE = 0, 1
#: Digits before the check digit, of the kinds that have one.
DIGITS = {CardKind.EAN13: tokens.EAN13_DIGITS - 1, CardKind.PAN: tokens.PAN_DIGITS - 1}
_CHECK_DIGIT = {CardKind.EAN13: tokens.ean13_check_digit, CardKind.PAN: tokens.luhn_check_digit}
# A token's kind is how it is written; a track is only another way to read a PAN.
_WRITTEN = {CardKind.TRACK: CardKind.PAN}
_VIRTUAL_BYTES = 15
_ROUNDS = 6
_PAN_GROUP = 4


def new_card(kind: CardKind, number: str, token_key: bytes, *, active: bool) -> NewCard:
    """Return a card ready to be enrolled. Raises protocol.tokens.BadCard."""
    canonical = tokens.canonical(kind, number)
    status = ACTIVE if active else ISSUED
    return NewCard(
        token_hash(canonical, token_key), int(_WRITTEN.get(kind, kind)), tokens.masked(canonical), status
    )  # fmt: skip


def ean13_numbers(first12: str, count: int) -> list[str]:
    """Return so many consecutive EAN-13 numbers; the first begins with these 12 digits. Raises ValueError."""
    bodies = [str(int(first12) + i).zfill(len(first12)) for i in range(count)]
    return [body + tokens.ean13_check_digit(body) for body in bodies]


def grouped(kind: CardKind, number: str) -> str:
    """Return a number as it is printed for people to read."""
    if kind == CardKind.EAN13:
        return f"{number[:1]} {number[1:7]} {number[7:]}"
    if kind == CardKind.PAN:
        return " ".join(number[i : i + _PAN_GROUP] for i in range(0, len(number), _PAN_GROUP))
    return number


@dataclass(frozen=True, slots=True)
class Series:
    """A series of card numbers, each different, the same whenever it is asked for.

    The digits behind `prefix` count from `first` up, or if `scattered` come in an order that `seed` (16 bytes) makes
    and nobody can guess who has seen some of the cards. Virtual numbers are always scattered. `skipped` are places of
    numbers that were taken when the series was made.
    """

    kind: CardKind
    prefix: str
    first: int
    scattered: bool
    seed: bytes = field(repr=False)
    skipped: frozenset[int] = frozenset()

    @property
    def size(self) -> int:
        """How many numbers there are in all."""
        if self.kind not in DIGITS:
            return 2**62
        return int(10 ** (DIGITS[self.kind] - len(self.prefix))) - self.first

    def number(self, place: int) -> str:
        """Return the number at a place, counted from 0."""
        if self.kind not in DIGITS:
            random = hashlib.blake2b(place.to_bytes(8, "big"), digest_size=_VIRTUAL_BYTES, key=self.seed).digest()
            return self.prefix + base64.urlsafe_b64encode(random).decode()
        digits = self.first + (_scattered(place, self.size, self.seed) if self.scattered else place)
        body = self.prefix + str(digits).zfill(DIGITS[self.kind] - len(self.prefix))
        return body + _CHECK_DIGIT[self.kind](body)

    def places(self) -> Iterator[int]:
        """Yield the places whose numbers belong to the series."""
        return (place for place in range(self.size) if place not in self.skipped)


def _scattered(place: int, size: int, seed: bytes) -> int:
    """Return where a place goes in a permutation of 0..size-1: a Feistel network, walked until it is in range."""
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    while True:
        left, right = place >> half, place & mask
        for turn in range(_ROUNDS):
            mixed = hashlib.blake2b(right.to_bytes(8, "big") + bytes((turn,)), digest_size=8, key=seed).digest()
            left, right = right, left ^ (int.from_bytes(mixed, "big") & mask)
        place = left << half | right
        if place < size:
            return place
