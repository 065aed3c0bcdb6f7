"""Slip lines: what a register prints below the receipt, filled in from the templates of a network's rules."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from functools import lru_cache
from string import Formatter

from ledger.operations import Operation, Outcome

EPOCH = date(1970, 1, 1)
#: What SPEC.md allows of one answer.
LINES_MAX = 255
LINE_CHARACTERS_MAX = 128
#: What all lines of an answer may fill, printed with the longest amounts: a register takes frames of 65,536 bytes, and
#: 1,024 hold the rest of any answer, also of a STATUS that tells this one.
BYTES_MAX = 64_512
# Bytes of a character, and before a string of this length in MessagePack, at most.
_CHARACTER_BYTES, _HEAD_BYTES = 4, 3

_SPENDS = frozenset({int(Operation.REDEEM), int(Operation.SALE), int(Operation.CAPTURE)})
_GIVES_BACK = frozenset({int(Operation.RELEASE), int(Operation.REFUND), int(Operation.REVERSE)})
_APPROVED_LAST = int(Outcome.APPROVED_PARTIAL)

# The order is the order of the amounts that a line is printed from.
PLACEHOLDERS = (
    "spent",
    "earned",
    "given_back",
    "taken_back",
    "available",
    "held",
    "pending",
    "owed",
    "expiring",
    "expiring_on",
)
_POSITIONS = {name: position for position, name in enumerate(PLACEHOLDERS)}
_AVAILABLE = _POSITIONS["available"]
_EXPIRING_ON = _POSITIONS["expiring_on"]


class TemplateError(ValueError):
    """A slip line that cannot be printed; the message says which line and why."""


def check_template(line: str) -> None:
    """Raise `TemplateError` unless every placeholder of the line is one of `PLACEHOLDERS` and it fits on one line."""
    _Line(line)


def printed_points(points: int) -> str:
    """Return minor points as a register prints them: two decimals, for instance 12.50."""
    sign = "-" if points < 0 else ""
    whole, minor = divmod(abs(points), 100)
    return f"{sign}{whole}.{minor:02d}"


@lru_cache(maxsize=4096)
def calendar_day(day: int) -> int:
    """Return a day number (days since 1970) as yyyymmdd; 0 stays 0, days past the year 9999 are its last day."""
    if day <= 0:
        return 0
    when = EPOCH + timedelta(days=min(day, (date.max - EPOCH).days))
    return when.year * 10_000 + when.month * 100 + when.day


def _printed_day(yyyymmdd: int) -> str:
    text = f"{yyyymmdd:08d}"
    return f"{text[:4]}-{text[4:6]}-{text[6:]}"


_WIDEST_POINTS = len(printed_points(2**53 - 1))
_WIDEST_DAY = len(_printed_day(99991231))


class _Line:
    """One template, compiled to a %-format and the positions of the amounts it names; `bytes_max`: what it can fill."""

    __slots__ = ("bytes_max", "format", "positions")

    def __init__(self, line: str) -> None:
        if len(line) > LINE_CHARACTERS_MAX:
            raise TemplateError(f"slip line {line!r} is longer than {LINE_CHARACTERS_MAX} characters")
        if not line.isprintable():
            raise TemplateError(f"slip line {line!r} holds a control character")
        parts: list[str] = []
        filled = 0
        positions: list[int] = []
        try:
            parsed = list(Formatter().parse(line))
        except ValueError as error:
            raise TemplateError(f"slip line {line!r}: {error}") from error
        for text, name, spec, conversion in parsed:
            parts.append(text.replace("%", "%%"))
            filled += len(text.encode())
            if name is None:
                continue
            if name not in _POSITIONS:
                raise TemplateError(f"slip line {line!r} names the unknown placeholder {{{name}}}")
            if spec or conversion:
                raise TemplateError(f"slip line {line!r}: {{{name}}} takes no format")
            parts.append("%s")
            positions.append(_POSITIONS[name])
            filled += _WIDEST_DAY if _POSITIONS[name] == _EXPIRING_ON else _WIDEST_POINTS
        self.format = "".join(parts)
        self.positions = tuple(positions)
        self.bytes_max = _HEAD_BYTES + min(filled, LINE_CHARACTERS_MAX * _CHARACTER_BYTES)

    def printed(self, amounts: Sequence[int]) -> str | None:
        """Return the line, or None where it would name an amount of nothing."""
        texts = []
        for position in self.positions:
            amount = amounts[position]
            if amount == 0 and position != _AVAILABLE:
                return None
            texts.append(_printed_day(amount) if position == _EXPIRING_ON else printed_points(amount))
        return (self.format % tuple(texts))[:LINE_CHARACTERS_MAX]


class SlipTemplates:
    """The compiled slip lines of one rules object. Immutable; `lines` is pure."""

    __slots__ = ("_balance_lines", "_lines")

    def __init__(self, lines: Sequence[str]) -> None:
        """Compile; raises `TemplateError` for the first line that is wrong, and for more than an answer holds."""
        if len(lines) > LINES_MAX:
            raise TemplateError(f"{len(lines)} slip lines are more than {LINES_MAX}")
        self._lines = tuple(_Line(line) for line in lines)
        filled = sum(line.bytes_max for line in self._lines)
        if filled > BYTES_MAX:
            raise TemplateError(f"the slip lines can fill {filled} bytes; an answer holds {BYTES_MAX} of them")
        self._balance_lines = tuple(line for line in self._lines if _AVAILABLE in line.positions)

    def lines(self, op: int, outcome: int, points: int, earned: int, balance: Sequence[int]) -> list[str]:
        """Return the lines for what was decided: `balance` as a renderer gets it, but its last day as yyyymmdd.

        A decline prints the balance lines alone: nothing else happened that could be printed.
        """
        if outcome > _APPROVED_LAST:
            return _printed(self._balance_lines, (0, 0, 0, 0, *balance))
        spent = points if op in _SPENDS else 0
        given_back = points if op in _GIVES_BACK else 0
        return _printed(self._lines, (spent, max(earned, 0), given_back, max(-earned, 0), *balance))


def _printed(lines: Sequence[_Line], amounts: Sequence[int]) -> list[str]:
    printed = (line.printed(amounts) for line in lines)
    return [text for text in printed if text is not None]
