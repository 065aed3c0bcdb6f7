"""Values as other systems and spreadsheets write them: exactly read, or refused with the reason."""

from __future__ import annotations

import datetime as dt
import re
from datetime import date
from functools import lru_cache

from protocol import tokens
from protocol.codes import CardKind
from server.moving.columns import Format
from server.moving.reading import Cell, as_text

EPOCH_DAY = date(1970, 1, 1).toordinal()
EXTERNAL_ID_CHARACTERS_MAX = 128
LOT_CHARACTERS_MAX = 128
#: Minor points of a point (SPEC.md, values), and the most minor points that are believed of one row.
POINT = 100
POINTS_MAX = 10**13
_DIGITS_EXACT_MAX = 15
_ISO = re.compile(r"(\d{4})-(\d{1,2})-(\d{1,2})(?:[ T]\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?Z?)?")
_DOTTED = re.compile(r"(\d{1,2})\.(\d{1,2})\.(\d{4})(?: \d{1,2}:\d{2}(?::\d{2})?)?")
_SCIENTIFIC = re.compile(r"([1-9])(?:[.,](\d+))?[eE]\+?(\d{1,2})")
_POWER = re.compile(r"[-+]?[\d.,]+[eE][-+]?\d+")
_SPACES = re.compile(r"[\s\u00a0\u2009\u202f']")
_SEPARATORS = re.compile(r"[\s().\-/\u00a0\u2010-\u2015]+")
_KINDS = {
    "ean13": CardKind.EAN13, "ean-13": CardKind.EAN13, "ean": CardKind.EAN13, "barcode": CardKind.EAN13,
    "штрихкод": CardKind.EAN13, "pan": CardKind.PAN, "magnetic": CardKind.PAN, "магнитная": CardKind.PAN,
    "phone": CardKind.PHONE, "телефон": CardKind.PHONE, "virtual": CardKind.VIRTUAL, "виртуальная": CardKind.VIRTUAL,
}  # fmt: skip
#: What PostgreSQL and Lua call the states of a card (ledger/lua/cards.lua).
STATUSES = {
    "issued": 0, "new": 0, "inactive": 0, "not active": 0, "выдана": 0, "не активна": 0, "неактивна": 0, "новая": 0,
    "active": 1, "1": 1, "активна": 1, "активная": 1, "действует": 1,
    "blocked": 2, "lost": 2, "stolen": 2, "заблокирована": 2, "блокирована": 2, "утеряна": 2,
    "replaced": 3, "closed": 3, "заменена": 3, "закрыта": 3,
}  # fmt: skip
STATUS_NAMES = ("issued", "active", "blocked", "replaced")
_YES = frozenset({"yes", "y", "true", "1", "да", "д", "+", "истина"})
_NO = frozenset({"no", "n", "false", "0", "нет", "н", "-", "ложь"})


class BadValue(ValueError):  # noqa: N818 - it is a finding
    """What is wrong with a value, in words that hold nothing of it."""


def whole_number(cell: Cell) -> str:
    """Return an identifier of digits as text, where a spreadsheet may have made a number of it. Raises BadValue."""
    if isinstance(cell, float):
        if not cell.is_integer() or cell < 0:
            raise BadValue("is a number with a fraction or a sign: format the column as text")
        text = str(int(cell))
        if len(text) > _DIGITS_EXACT_MAX:
            raise BadValue(
                f"has {len(text)} digits as a number, of which a spreadsheet keeps {_DIGITS_EXACT_MAX}: the rest is "
                "lost, format the column as text in the source"
            )
        return text
    text = as_text(cell)
    if found := _SCIENTIFIC.fullmatch(text):
        digits, places = found[1] + (found[2] or ""), int(found[3]) + 1
        if len(digits) != places:
            raise BadValue(
                f"was written by a spreadsheet as a power of ten: {len(digits)} of {places} digits are left, format "
                "the column as text in the source"
            )
        if places > _DIGITS_EXACT_MAX:
            raise BadValue(f"has {places} digits, of which a spreadsheet keeps {_DIGITS_EXACT_MAX}")
        return digits
    return text


def external_id(cell: Cell) -> str:
    """Return the id that a member had elsewhere, "" for none. Raises BadValue."""
    text = " ".join(whole_number(cell).split())
    if len(text) > EXTERNAL_ID_CHARACTERS_MAX or not text.isprintable():
        raise BadValue(f"is no id: at most {EXTERNAL_ID_CHARACTERS_MAX} printable characters")
    return text


def card(cell: Cell, kind: str, form: Format) -> tuple[CardKind, str]:
    """Return the kind of a card and its canonical token; without a kind it is known by its form. Raises BadValue."""
    text = whole_number(cell)
    named = None
    if kind:
        named = _KINDS.get(kind.casefold())
        if named is None:
            raise BadValue("is no kind of card: ean13, pan, phone or virtual")
    packed = _SEPARATORS.sub("", text)
    if named is None:
        named = _kind_by_form(text, packed)
    if named is CardKind.PHONE:
        text = phone(text, form)
    elif named is not CardKind.VIRTUAL:
        text = packed
    try:
        return named, tokens.canonical(named, text)
    except tokens.BadCard as error:
        raise BadValue(f"is no card: {error.reason}") from None


def _kind_by_form(text: str, packed: str) -> CardKind:
    if packed.startswith("+"):
        return CardKind.PHONE
    if packed.isdigit() and len(packed) == tokens.EAN13_DIGITS:
        return CardKind.EAN13
    if packed.isdigit() and len(packed) == tokens.PAN_DIGITS:
        return CardKind.PAN
    if packed.isdigit() and len(packed) == tokens.EAN13_DIGITS - 1:
        raise BadValue("has 12 digits: an EAN-13 that lost its leading zero? Format the column as text")
    if text.isdigit() and len(text) < tokens.PAN_DIGITS:
        raise BadValue(f"has {len(text)} digits: an EAN-13 has 13, a PAN 16; name the kind if it is another one")
    return CardKind.VIRTUAL


def phone(text: str, form: Format) -> str:
    """Return a phone number as + and digits where that can be known; else as it is, for others to refuse."""
    digits = _SEPARATORS.sub("", text)
    if not digits or digits.startswith("+"):
        return digits
    if digits.startswith("00"):
        return "+" + digits[2:]
    country = form.phone_country
    if not country or not digits.isdigit():
        return digits
    if country == "7" and len(digits) == 11 and digits[0] in "78":  # noqa: PLR2004 - 7 or 8 and ten digits
        return "+7" + digits[1:]
    if digits.startswith(country) and len(digits) > len(country) + 9:
        return "+" + digits
    return f"+{country}{digits.lstrip('0')}"


def status(text: str) -> int:
    """Return a card's status; without one it is active. Raises BadValue."""
    found = STATUSES.get(" ".join(text.casefold().split()), None if text else 1)
    if found is None:
        raise BadValue(f"is no status of a card: {', '.join(STATUS_NAMES)}")
    return found


def truth(cell: Cell) -> bool | None:
    """Return yes, no, or None for an empty cell. Raises BadValue."""
    text = as_text(cell).casefold()
    if not text:
        return None
    if text in _YES or text in _NO:
        return text in _YES
    raise BadValue("is neither yes nor no")


def day(cell: Cell, form: Format) -> int:
    """Return a day as days since 1970, 0 for an empty cell. Raises BadValue."""
    if isinstance(cell, date):
        # A date with a time of day is its day.
        return cell.toordinal() - EPOCH_DAY
    if isinstance(cell, (float, int)) and not isinstance(cell, bool):
        raise BadValue("is a number: give the cells of the column the format of a date")
    if isinstance(cell, (dt.time, dt.timedelta)):
        raise BadValue("is a time of day, no date")
    return _day(as_text(cell), form.dates)


@lru_cache(4096)
def _day(text: str, pattern: str) -> int:
    if not text:
        return 0
    try:
        if pattern:
            return dt.datetime.strptime(text, pattern).date().toordinal() - EPOCH_DAY  # noqa: DTZ007 - a day has no zone
        if found := _ISO.fullmatch(text):
            return date(int(found[1]), int(found[2]), int(found[3])).toordinal() - EPOCH_DAY
        if found := _DOTTED.fullmatch(text):
            return date(int(found[3]), int(found[2]), int(found[1])).toordinal() - EPOCH_DAY
    except ValueError:
        raise BadValue(f"is no date of the form {pattern or '2026-12-31 or 31.12.2026'}") from None
    raise BadValue("is no date of the form 2026-12-31 or 31.12.2026: name the form in a mapping file (format.dates)")


def points(cell: Cell, form: Format) -> int:
    """Return minor points. Raises BadValue, for a negative number too."""
    if isinstance(cell, bool):
        raise BadValue("is no number")
    # A spreadsheet's number is what it shows with up to 15 digits, not the binary fraction behind it.
    text = format(cell, ".15g") if isinstance(cell, float) else as_text(cell)
    if isinstance(cell, (float, int)):
        form = Format(points=form.points, decimal_comma=False)
    if _POWER.fullmatch(text):
        raise BadValue("is written as a power of ten: not all of its digits are there")
    number = _minor(_SPACES.sub("", text), form.decimal_comma, 2 if form.points == "points" else 0)
    if number > POINTS_MAX:
        raise BadValue(f"is more than {POINTS_MAX // POINT} points: is it minor units?")
    return number


@lru_cache(65_536)
def _minor(text: str, decimal_comma: bool | None, places: int) -> int:
    if not text:
        raise BadValue("is empty")
    if text.startswith(("-", "\u2212")):
        raise BadValue("is negative: what a member owes cannot be moved in")
    whole, fraction = _cut(text.removeprefix("+"), decimal_comma)
    if not (whole or fraction) or not (whole + fraction).isascii() or not (whole + fraction).isdigit():
        raise BadValue("is no number")
    fraction = fraction.rstrip("0")
    if len(fraction) > places:
        what = "points have two decimals" if places else "minor units are whole"
        raise BadValue(f"has {len(fraction)} decimals: {what}")
    return int((whole or "0") + fraction.ljust(places, "0"))


def _cut(text: str, decimal_comma: bool | None) -> tuple[str, str]:
    """Return what stands before and behind the decimal sign."""
    if decimal_comma is None:
        marks = {mark for mark in ".," if mark in text}
        if len(marks) == 1:
            (mark,) = marks
            behind = text.rpartition(mark)[2]
            if text.count(mark) > 1 or (len(behind) == 3 and text[0] != "0"):  # noqa: PLR2004 - a group of thousands has three
                raise BadValue("may be thousands or decimals: say format.decimal_comma in a mapping file")
            decimal_comma = mark == ","
        else:
            # Of two kinds of marks the last one is the decimal sign.
            decimal_comma = text.rfind(",") > text.rfind(".")
    sign, group = (",", ".") if decimal_comma else (".", ",")
    whole, found, fraction = text.partition(sign)
    if group in whole and not re.fullmatch(rf"[1-9]\d{{0,2}}(?:{re.escape(group)}\d{{3}})+", whole):
        raise BadValue("has thousands at places where there are none")
    if found and not fraction:
        raise BadValue("is no number")
    return whole.replace(group, ""), fraction
