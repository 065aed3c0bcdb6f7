"""New cards: numbers with their check digits, and what the ledger keeps of them."""

from __future__ import annotations

from ledger.card_tokens import token_hash
from ledger.journal.enrolment import NewCard
from protocol import tokens
from protocol.codes import CardKind

_ISSUED, _ACTIVE = 0, 1
# A token's kind is how it is written; a track is only another way to read a PAN.
_WRITTEN = {CardKind.TRACK: CardKind.PAN}


def new_card(kind: CardKind, number: str, token_key: bytes, *, active: bool) -> NewCard:
    """Return a card ready to be enrolled. Raises protocol.tokens.BadCard."""
    canonical = tokens.canonical(kind, number)
    status = _ACTIVE if active else _ISSUED
    return NewCard(token_hash(canonical, token_key), int(_WRITTEN.get(kind, kind)), tokens.masked(canonical), status)


def ean13_numbers(first12: str, count: int) -> list[str]:
    """Return so many consecutive EAN-13 numbers; the first begins with these 12 digits. Raises ValueError."""
    bodies = [str(int(first12) + i).zfill(len(first12)) for i in range(count)]
    return [body + tokens.ean13_check_digit(body) for body in bodies]
