"""Card tokens: what identifies a card, whatever way it was presented (SPEC.md, cards).

The canonical token is `<scheme>:<value>`; a magnetic track leads to the same token as the PAN inside it.
"""

import re
from typing import Final

from protocol.codes import CardKind

EAN13_DIGITS: Final = 13
PAN_DIGITS: Final = 16
_SHOWN_MAX: Final = 4
_PHONE_SHOWN: Final = 2

_PHONE = re.compile(r"\+[1-9][0-9]{6,14}")
_VIRTUAL = re.compile(r"[A-Za-z0-9_-]{8,64}")
# Readers differ: some strip the sentinels (% ; ?) and chip readers write D for the = of track 2. What follows the PAN's
# end is neither needed nor kept; of two tracks the first is read.
_TRACK = re.compile(r"%?[Bb]([0-9]{16})\^|;?([0-9]{16})(?:[=Dd?]|\Z)")
# What each digit weighs when Luhn's rule doubles it, as ASCII digits so that sums can be taken over bytes.
_LUHN_DOUBLED: Final = bytes.maketrans(b"0123456789", b"0246813579")


class BadCard(ValueError):  # noqa: N818 (the protocol's own word, as in outcome 102)
    """A presented card that leads to no token; `reason` holds no part of the card."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def _is_number(value: str, digits: int) -> bool:
    return len(value) == digits and value.isascii() and value.isdigit()


def ean13_check_digit(first12: str) -> str:
    """Return the check digit that completes 12 digits to an EAN-13 (GS1 General Specifications, 7.9)."""
    if not _is_number(first12, EAN13_DIGITS - 1):
        raise ValueError("an EAN-13 needs 12 digits before its check digit")
    digits = first12.encode()
    return str(-(sum(digits[::2]) + 3 * sum(digits[1::2]) - 24 * 48) % 10)


def luhn_check_digit(first15: str) -> str:
    """Return the check digit that completes 15 digits to a 16-digit PAN (ISO/IEC 7812-1, annex B)."""
    if not _is_number(first15, PAN_DIGITS - 1):
        raise ValueError("a PAN needs 15 digits before its check digit")
    digits = first15.encode()
    return str(-(sum(digits[::2].translate(_LUHN_DOUBLED)) + sum(digits[1::2]) - 15 * 48) % 10)


def _ean13(value: str) -> str:
    if len(value) != EAN13_DIGITS or not (value.isascii() and value.isdigit()):
        raise BadCard("an EAN-13 has 13 digits")
    digits = value.encode()
    # The 48 of each ASCII digit vanishes: 7 * 48 + 3 * 6 * 48 is a multiple of ten.
    if (sum(digits[::2]) + 3 * sum(digits[1::2])) % 10:
        raise BadCard("the check digit of the EAN-13 is wrong")
    return "ean13:" + value


def _pan(value: str) -> str:
    if len(value) != PAN_DIGITS or not (value.isascii() and value.isdigit()):
        raise BadCard("a PAN has 16 digits")
    digits = value.encode()
    if (sum(digits[::2].translate(_LUHN_DOUBLED)) + sum(digits[1::2]) - 16 * 48) % 10:
        raise BadCard("the check digit of the PAN is wrong")
    return "pan:" + value


def _track(value: str) -> str:
    found = _TRACK.match(value.strip(" \t\r\n"))
    if found is None:
        raise BadCard("no track 1 or track 2 with a 16-digit PAN")
    return _pan(found[1] or found[2])


def _phone(value: str) -> str:
    if not _PHONE.fullmatch(value):
        raise BadCard("a phone number is + and 7 to 15 digits")
    return "phone:" + value


def _virtual(value: str) -> str:
    if not _VIRTUAL.fullmatch(value):
        raise BadCard("a virtual token has 8 to 64 of A-Z a-z 0-9 _ -")
    return "virtual:" + value


_READERS: Final = {
    int(CardKind.EAN13): _ean13,
    int(CardKind.PAN): _pan,
    int(CardKind.TRACK): _track,
    int(CardKind.PHONE): _phone,
    int(CardKind.VIRTUAL): _virtual,
}


def canonical(kind: int, value: str) -> str:
    """Return the canonical token of a presented card, e.g. `ean13:2000000000015`.

    Raises BadCard when the kind is unknown, the form is wrong or a check digit does not fit.
    """
    reader = _READERS.get(kind)
    if reader is None:
        raise BadCard("unknown kind of card")
    return reader(value)


def masked(token: str) -> str:
    """Return a canonical token fit for a log: at most its first and last four characters, of a phone only the last two.

    A third of the value at least is hidden, because short tokens would otherwise be shown in full.
    """
    scheme, _, value = token.partition(":")
    if scheme == "phone":
        return f"phone:{'*' * (len(value) - _PHONE_SHOWN)}{value[-_PHONE_SHOWN:]}"
    shown = min(_SHOWN_MAX, len(value) // 3)
    return f"{scheme}:{value[:shown]}{'*' * (len(value) - 2 * shown)}{value[len(value) - shown :]}"
