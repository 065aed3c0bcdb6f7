"""Rows of a file as what they mean, or the column and the reason why they mean nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date

import orjson

from ledger.journal.enrolment import NewCard
from ledger.registry.personal import EXTERNAL_ID, EXTERNAL_SOURCE, PersonalFields, tidied
from protocol.codes import CardKind
from protocol.tokens import masked
from server.moving import values
from server.moving.columns import ATTRIBUTE, CONSENT, Columns
from server.moving.reading import Cell, RawRow, as_text

TokenHash = Callable[[str], bytes]
_CONSENT = re.compile(r"[a-z][a-z0-9_]{0,39}")
_LISTED = re.compile(r"[,;|\s]+")


class BadRow(ValueError):  # noqa: N818 - it is a finding
    """A row that cannot be used: the column (as the file calls it) and the reason, which holds nothing of the value.

    `points` is what the row would have brought, in minor units, as far as that could be read.
    """

    def __init__(self, column: str, reason: str, *, conflict: bool = False, points: int | None = None) -> None:
        super().__init__(f"{column} {reason}")
        self.column = column
        self.reason = reason
        self.conflict = conflict
        self.points = points


@dataclass(frozen=True, slots=True)
class MemberRow:
    """A member with the id of the old system; `greeting` only where the file has one of its own."""

    line: int
    external_id: str
    told: PersonalFields = field(repr=False)
    greeting: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class CardRow:
    """A card, of a member or of nobody yet ("")."""

    line: int
    external_id: str
    card: NewCard


@dataclass(frozen=True, slots=True)
class BalanceRow:
    """A lot: minor points, its last day and the day from which it can be spent (days since 1970, 0: none told).

    Whose it is says `external_id`, or else `token`. `lot` tells lots of the same days apart.
    """

    line: int
    external_id: str
    token: bytes
    points: int
    expiry_day: int
    active_day: int
    lot: str


class RowReader:
    """Reads the rows of one file; `today` is the business day in days since 1970."""

    def __init__(self, columns: Columns, token_of: TokenHash, source: str, today: int) -> None:
        self._columns = columns
        self._positions = columns.positions
        self._token_of = token_of
        self._source = source
        self._today = today
        self._consents = [name for name in columns.positions if name.startswith(CONSENT)]
        self._attributes = [name for name in columns.positions if name.startswith(ATTRIBUTE)]

    def member(self, row: RawRow) -> MemberRow:
        """Read a member. Raises BadRow."""
        cells = self._cells(row)
        external_id = self._external_id(cells)
        if not external_id:
            raise self._bad("external_id", "is empty")
        birthday = self._day(cells, "birthday")
        attributes = {name.removeprefix(ATTRIBUTE): as_text(cells[self._positions[name]]) for name in self._attributes}
        attributes |= self._listed_attributes(cells)
        attributes[EXTERNAL_ID] = external_id
        if self._source:
            attributes[EXTERNAL_SOURCE] = self._source
        phone_cell = self._cell(cells, "phone")
        given = PersonalFields(
            given_name=self._text(cells, "given_name"),
            family_name=self._text(cells, "family_name"),
            phone=values.phone(self._number(phone_cell, "phone"), self._columns.format),
            email=self._text(cells, "email"),
            birthday=date.fromordinal(birthday + values.EPOCH_DAY).isoformat() if birthday is not None else None,
            language=_language(self._text(cells, "language")),
            consents=self._told_consents(cells),
            attributes=attributes,
        )
        told, faults = tidied(given, date.fromordinal(self._today + values.EPOCH_DAY))
        if faults:
            raise self._bad(*faults[0])
        greeting = self._text(cells, "greeting")
        if len(greeting) > 100 or not greeting.isprintable():  # noqa: PLR2004 - as long as a name may be
            raise self._bad("greeting", "has more than 100 characters, or some that cannot be printed")
        return MemberRow(row.line, external_id, told, greeting)

    def card(self, row: RawRow) -> CardRow:
        """Read a card. Raises BadRow."""
        cells = self._cells(row)
        external_id = self._external_id(cells)
        kind, canonical = self._card(cells)
        try:
            status = values.status(self._text(cells, "status"))
        except values.BadValue as error:
            raise self._bad("status", str(error)) from None
        return CardRow(row.line, external_id, NewCard(self._token_of(canonical), int(kind), masked(canonical), status))

    def balance(self, row: RawRow) -> BalanceRow:
        """Read a lot. Raises BadRow."""
        cells = self._cells(row)
        try:
            points = values.points(self._cell(cells, "points"), self._columns.format)
        except values.BadValue as error:
            raise self._bad("points", str(error)) from None
        try:
            return self._lot(row.line, cells, points)
        except BadRow as bad:
            raise BadRow(bad.column, bad.reason, points=points) from None

    def _lot(self, line: int, cells: Sequence[Cell], points: int) -> BalanceRow:
        external_id, token = self._external_id(cells), b""
        if as_text(self._cell(cells, "number")):
            token = self._token_of(self._card(cells)[1])
        if not external_id and not token:
            raise self._bad("external_id", "is empty, and so is the card's number")
        expiry_day, active_day = self._day(cells, "expires_on"), self._day(cells, "pending_from")
        if expiry_day is not None and expiry_day < self._today:
            raise self._bad("expires_on", "lies in the past: these points have expired")
        if expiry_day is not None and active_day is not None and expiry_day < active_day:
            raise self._bad("pending_from", "is later than the last day of these points")
        lot = " ".join(self._number(self._cell(cells, "lot"), "lot").split())
        if len(lot) > values.LOT_CHARACTERS_MAX:
            raise self._bad("lot", f"has more than {values.LOT_CHARACTERS_MAX} characters")
        return BalanceRow(line, external_id, token, points, expiry_day or 0, active_day or 0, lot)

    def _cells(self, row: RawRow) -> Sequence[Cell]:
        if row.fault:
            raise BadRow("", row.fault)
        return row.cells

    def _cell(self, cells: Sequence[Cell], name: str) -> Cell:
        at = self._positions.get(name)
        return self._columns.constants.get(name, "") if at is None else cells[at]

    def _text(self, cells: Sequence[Cell], name: str) -> str:
        return as_text(self._cell(cells, name))

    def _number(self, cell: Cell, name: str) -> str:
        try:
            return values.whole_number(cell)
        except values.BadValue as error:
            raise self._bad(name, str(error)) from None

    def _external_id(self, cells: Sequence[Cell]) -> str:
        try:
            return values.external_id(self._cell(cells, "external_id"))
        except values.BadValue as error:
            raise self._bad("external_id", str(error)) from None

    def _card(self, cells: Sequence[Cell]) -> tuple[CardKind, str]:
        try:
            return values.card(self._cell(cells, "number"), self._text(cells, "kind"), self._columns.format)
        except values.BadValue as error:
            raise self._bad("number", str(error)) from None

    def _day(self, cells: Sequence[Cell], name: str) -> int | None:
        """Return a day, None for an empty cell."""
        cell = self._cell(cells, name)
        if cell == "" or cell is None:
            return None
        try:
            return values.day(cell, self._columns.format) if as_text(cell) else None
        except values.BadValue as error:
            raise self._bad(name, str(error)) from None

    def _told_consents(self, cells: Sequence[Cell]) -> dict[str, bool]:
        told: dict[str, bool] = {}
        for listed in filter(None, _LISTED.split(self._text(cells, "consents").casefold())):
            name = listed.removeprefix("-")
            if not _CONSENT.fullmatch(name):
                raise self._bad("consents", "is no list of names such as marketing, -profiling (refused)")
            told[name] = name == listed
        for column in self._consents:
            try:
                agreed = values.truth(cells[self._positions[column]])
            except values.BadValue as error:
                raise self._bad(column, str(error)) from None
            if agreed is not None:
                told[column.removeprefix(CONSENT)] = agreed
        return told

    def _listed_attributes(self, cells: Sequence[Cell]) -> dict[str, str]:
        text = self._text(cells, "attributes")
        if not text:
            return {}
        try:
            listed = orjson.loads(text)
        except orjson.JSONDecodeError:
            listed = None
        if not isinstance(listed, dict) or not all(isinstance(value, str) for value in listed.values()):
            raise self._bad("attributes", "is no JSON object of texts")
        return listed

    def _bad(self, name: str, reason: str) -> BadRow:
        return BadRow(self._columns.column_of(name), reason)


def _language(text: str) -> str:
    """Return a language's tag: "RU" and "ru_RU" are written by many systems."""
    head, *rest = text.replace("_", "-").split("-")
    return "-".join([head.lower(), *rest])
