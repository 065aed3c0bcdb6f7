"""What a person types at the till's prompt or command line, as exact values; nothing here touches a float."""

import re
import tomllib
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from protocol.codes import INT_MAX, CardKind
from protocol.requests import Card

POINT_DIGITS: Final = 2
"""1 point is 100 minor units."""

TERMINALS_FILE: Final = "terminals.toml"

# ISO 4217 currencies whose minor unit is not a hundredth.
_WITHOUT_MINOR: Final = frozenset(
    (
        "BIF",
        "CLP",
        "DJF",
        "GNF",
        "ISK",
        "JPY",
        "KMF",
        "KRW",
        "PYG",
        "RWF",
        "UGX",
        "UYI",
        "VND",
        "VUV",
        "XAF",
        "XOF",
        "XPF",
    )
)
_WITH_THOUSANDTHS: Final = frozenset(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"))
_DECIMAL: Final = re.compile(r"([0-9]+)(?:[.,]([0-9]+))?")
_KINDS: Final = {
    "ean13": CardKind.EAN13,
    "pan": CardKind.PAN,
    "track": CardKind.TRACK,
    "phone": CardKind.PHONE,
    "virtual": CardKind.VIRTUAL,
}
_BARE: Final = (
    (re.compile(r"[0-9]{13}"), CardKind.EAN13),
    (re.compile(r"[0-9]{16}"), CardKind.PAN),
    (re.compile(r"\+.*"), CardKind.PHONE),
    (re.compile(r"[%;].*", re.DOTALL), CardKind.TRACK),
)


class BadInput(ValueError):  # noqa: N818 (says what is the matter)
    """A person typed what cannot be meant; the sentence says what is expected."""


@dataclass(frozen=True, slots=True)
class Terminal:
    """Whom the till plays: its id and its secret."""

    terminal_id: str
    secret: str = field(repr=False)


def minor_units(typed: str, digits: int) -> int:
    """Return "12.50" as 1250 for two digits; raises BadInput for a sign, too many digits, or anything else."""
    found = _DECIMAL.fullmatch(typed.strip())
    if found is None:
        raise BadInput(f"{typed!r} is no number such as 12.50")
    whole, fraction = found[1], found[2] or ""
    if len(fraction) > digits:
        raise BadInput(f"{typed!r} has more than {digits} digits after the point")
    value = int(whole + fraction.ljust(digits, "0"))
    if value > INT_MAX:
        raise BadInput(f"{typed!r} is too large")
    return value


def points(typed: str) -> int:
    """Return points in minor units; raises BadInput."""
    return minor_units(typed, POINT_DIGITS)


def money(typed: str, currency: str) -> int:
    """Return money in minor units of an ISO 4217 currency; raises BadInput."""
    return minor_units(typed, _minor_digits(currency))


def decimal(minor: int, digits: int = POINT_DIGITS) -> str:
    """Return minor units as a person reads them: 1250 as "12.50", -5 as "-0.05"."""
    text = str(abs(minor)).rjust(digits + 1, "0")
    sign = "-" if minor < 0 else ""
    return f"{sign}{text[:-digits]}.{text[-digits:]}" if digits else f"{sign}{text}"


def money_text(minor: int, currency: str) -> str:
    """Return money as a person reads it: "12.50 EUR"."""
    return f"{decimal(minor, _minor_digits(currency))} {currency}"


def card(typed: str) -> Card:
    """Return the card that was typed: a bare number, or kind:value. Raises BadInput; check digits are not looked at."""
    kind, colon, value = typed.partition(":")
    if colon and kind.lower() in _KINDS:
        return Card(_KINDS[kind.lower()], value)
    for pattern, bare_kind in _BARE:
        if pattern.fullmatch(typed):
            return Card(bare_kind, typed)
    raise BadInput(
        "a card is 13 digits (EAN-13), 16 digits (PAN), + and a phone number, a track beginning with % or ;, "
        f"or one of {', '.join(f'{name}:…' for name in _KINDS)}"
    )


def request_id(typed: str) -> bytes:
    """Return the 16 bytes of an id typed as a UUID or as 32 hex digits; raises BadInput."""
    try:
        return uuid.UUID(typed).bytes
    except ValueError:
        raise BadInput(f"{typed!r} is no request id (a UUID or 32 hex digits)") from None


def id_text(value: bytes) -> str:
    """Return a request id as a person types it."""
    return str(uuid.UUID(bytes=value))


def _minor_digits(currency: str) -> int:
    return 0 if currency in _WITHOUT_MINOR else 3 if currency in _WITH_THOUSANDTHS else 2


def terminal(folder: Path, wanted: str | None, secret_file: Path | None) -> Terminal:
    """Return the terminal to play: the wanted one, or the first of the data folder's terminals.toml.

    Raises BadInput when it or its secret is not known.
    """
    known = _known_terminals(folder)
    if wanted is None:
        if not known:
            raise BadInput(f"{folder / TERMINALS_FILE} names no terminal; give --terminal and --secret-file")
        wanted = next(iter(known))
    if secret_file is not None:
        return Terminal(wanted, _read(secret_file).strip())
    if wanted not in known:
        raise BadInput(f"terminal {wanted!r} is not in {folder / TERMINALS_FILE}; give --secret-file")
    return Terminal(wanted, known[wanted])


def _known_terminals(folder: Path) -> dict[str, str]:
    path = folder / TERMINALS_FILE
    if not path.exists():
        return {}
    try:
        tables = tomllib.loads(_read(path)).get("terminals", {})
        return {name: str(table["secret"]) for name, table in tables.items()}
    except (tomllib.TOMLDecodeError, AttributeError, KeyError, TypeError) as error:
        raise BadInput(f'{path} is not as expected ([terminals.<id>] secret = "…"): {error}') from None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from None
