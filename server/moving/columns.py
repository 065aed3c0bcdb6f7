"""Which column of a file is which field: by names that many systems use, or by a mapping file."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from server.errors import UsageError

IGNORED = "-"
CONSENT, ATTRIBUTE = "consent:", "attribute:"
#: The columns that a file of rejected rows has besides the original ones.
REJECT_COLUMNS = ("reject_line", "reject_column", "reject_reason")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_SEPARATORS = re.compile(r"[\s_\-.:/№#()]+")


class Kind(StrEnum):
    """What a file is about."""

    MEMBERS = "members"
    CARDS = "cards"
    BALANCES = "balances"


_EXTERNAL = (
    "external id", "id", "member id", "member", "customer id", "customer", "client id", "client", "external member id",
    "внешний id", "ид", "код клиента", "клиент", "id клиента", "номер клиента", "код", "участник", "id участника",
)  # fmt: skip
_NUMBER = (
    "number", "card number", "card", "card no", "cardnumber", "barcode", "ean", "ean13", "pan", "номер карты", "карта",
    "штрихкод", "штрих код", "номер",
)  # fmt: skip

#: Fields of each kind of file with the names by which they are known, in lower case and with single spaces.
SYNONYMS: Mapping[Kind, Mapping[str, tuple[str, ...]]] = {
    Kind.MEMBERS: {
        "external_id": _EXTERNAL,
        "given_name": ("given name", "first name", "firstname", "forename", "имя"),
        "family_name": ("family name", "last name", "lastname", "surname", "фамилия"),
        "phone": ("phone", "phone number", "mobile", "mobile phone", "tel", "телефон", "номер телефона", "мобильный",
                  "мобильный телефон"),
        "email": ("email", "e mail", "mail", "email address", "e mail address", "почта", "электронная почта",
                  "эл почта"),
        "birthday": ("birthday", "birth date", "birthdate", "date of birth", "dob", "дата рождения", "день рождения"),
        "language": ("language", "lang", "locale", "язык"),
        "consents": ("consents", "agreed", "согласия", "согласие"),
        "attributes": ("attributes",),
        "greeting": ("greeting", "greeting name", "salutation", "обращение", "приветствие"),
    },
    Kind.CARDS: {
        "external_id": _EXTERNAL,
        "number": _NUMBER,
        "kind": ("kind", "type", "card type", "card kind", "вид", "тип", "тип карты", "вид карты"),
        "status": ("status", "state", "card status", "статус", "состояние", "статус карты"),
    },
    Kind.BALANCES: {
        "external_id": _EXTERNAL,
        "number": _NUMBER,
        "points": ("points", "balance", "bonus", "bonuses", "amount", "points balance", "баллы", "бонусы", "баланс",
                   "остаток", "сумма", "количество баллов"),
        "expires_on": ("expires on", "expires", "expiry", "expiry date", "expiration", "expiration date", "valid until",
                       "valid to", "срок", "дата сгорания", "сгорают", "действуют до", "действует до",
                       "срок действия", "дата окончания"),
        "pending_from": ("pending from", "active from", "valid from", "available from", "activation date",
                         "активны с", "действуют с", "доступны с", "дата активации", "дата начала"),  # noqa: RUF001
        "lot": ("lot", "lot id", "accrual id", "лот", "партия", "id начисления"),
    },
}  # fmt: skip
_REQUIRED = {Kind.MEMBERS: ("external_id",), Kind.CARDS: ("number",), Kind.BALANCES: ("points",)}
#: What `tillwire export` writes beside what can be imported, and what a file of rejected rows has more.
_OWN = frozenset({*REJECT_COLUMNS, "account", "created_ms", "changed_ms", "erased", "kept"})


@dataclass(frozen=True, slots=True)
class Format:
    """How values are written. None and "" leave it to be seen from each value, as far as that is clear."""

    dates: str = ""
    decimal_comma: bool | None = None
    points: str = "points"
    phone_country: str = ""


@dataclass(frozen=True, slots=True)
class Columns:
    """Column positions by field, values for every row, and the format. `shown` tells a person how it is used."""

    kind: Kind
    header: tuple[str, ...]
    positions: dict[str, int]
    constants: dict[str, str] = field(default_factory=dict)
    format: Format = Format()

    def column_of(self, field_name: str) -> str:
        """Return the file's own name for a field."""
        at = self.positions.get(field_name)
        return field_name if at is None else self.header[at]

    def shown(self) -> list[tuple[str, str]]:
        """Return pairs of column and what it is used for, constants behind them."""
        names = {at: name for name, at in self.positions.items()}
        rows = [(title, names.get(at, "left out")) for at, title in enumerate(self.header)]
        return rows + [(f'constant "{value}"', name) for name, value in self.constants.items()]


def mapped(kind: Kind, header: Sequence[str], file: Path | None) -> Columns:
    """Return what the columns are. Raises UsageError, which names every column that is unknown, doubled or missing.

    A mapping file may be the same for all files of a move: what it says of columns and fields that are not in this one
    has no effect.
    """
    columns, constants, form = _read(kind, file) if file is not None else ({}, {}, Format())
    if repeated := [name for name, count in Counter(map(_plain, header)).items() if count > 1 and name]:
        raise UsageError(f"the header has a column more than once: {_quoted(repeated)}")
    by_plain = {_plain(name): target for name, target in columns.items()}
    absent = [name for name in columns if _plain(name) not in set(map(_plain, header))]
    positions: dict[str, int] = {}
    unknown, doubled = [], []
    for at, title in enumerate(header):
        if (said := by_plain.get(_plain(title), IGNORED)) != IGNORED and not _is_field(kind, said):
            raise UsageError(f"{file}: {title!r} is {said!r}, which is no field of {kind}; known are {_known(kind)}")
        target = by_plain.get(_plain(title)) or _by_name(kind, title)
        if target is None:
            unknown.append(title)
        elif target == IGNORED:
            continue
        elif target in positions or target in constants:
            doubled.append(
                f"{title!r} is {target}" + ("" if target in constants else f" like {header[positions[target]]!r}")
            )
        else:
            positions[target] = at
    if unknown:
        raise UsageError(
            f"columns that are not known in {kind}: {_quoted(unknown)}; {_found(header)}; known are {_known(kind)}; "
            'name them in a mapping file, "-" leaves one out'
            + (f"; yours names {_quoted(absent)}, which the file does not have" if absent else "")
        )
    if doubled:
        raise UsageError(f"several columns for one field: {'; '.join(doubled)}; {_found(header)}")
    _require(kind, positions, constants, header, absent)
    return Columns(kind, tuple(header), positions, constants, form)


def _require(
    kind: Kind, positions: dict[str, int], constants: dict[str, str], header: Sequence[str], absent: Sequence[str]
) -> None:
    there = {*positions, *constants}
    missing = [name for name in _REQUIRED[kind] if name not in there]
    if kind is Kind.BALANCES and not there & {"external_id", "number"}:
        missing.append("external_id or number")
    if missing:
        raise UsageError(
            f"columns that {kind} must have are missing: {', '.join(missing)}; {_found(header)}"
            + (f"; the mapping names {_quoted(absent)}, which it does not have" if absent else "")
        )


def _by_name(kind: Kind, title: str) -> str | None:
    name = _plain(title)
    for target, names in SYNONYMS[kind].items():
        if name in names or name == _plain(target):
            return target
    text = title.strip().casefold()
    if kind is Kind.MEMBERS and text.startswith((CONSENT, "consent_")) and _NAME.fullmatch(text[len(CONSENT) :]):
        return CONSENT + text[len(CONSENT) :]
    return IGNORED if text in _OWN or not name else None


def _plain(title: str) -> str:
    return _SEPARATORS.sub(" ", title.casefold().replace("ё", "е")).strip()  # noqa: RUF001


def _found(header: Sequence[str]) -> str:
    return f"the file has {_quoted(header)}"


def _known(kind: Kind) -> str:
    return ", ".join(SYNONYMS[kind]) + (", consent:NAME, attribute:NAME" if kind is Kind.MEMBERS else "")


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names)


def _read(kind: Kind, file: Path) -> tuple[dict[str, str], dict[str, str], Format]:
    try:
        told = tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} is not valid TOML: {error}") from None
    if unknown := sorted(told.keys() - {"columns", "constants", "format"}):
        raise UsageError(f"{file} has tables that are unknown: {', '.join(unknown)}; known: columns, constants, format")
    columns = _strings(told.get("columns", {}), f"{file}: columns")
    constants = _strings(told.get("constants", {}), f"{file}: constants")
    for target in [*columns.values(), *constants]:
        if not any(_is_field(one, target) for one in Kind) and not (target == IGNORED and target not in constants):
            raise UsageError(f"{file}: {target!r} is no field of {kind}; known are {_known(kind)}")
    constants = {name: value for name, value in constants.items() if _is_field(kind, name)}
    return columns, constants, _format(told.get("format", {}), file)


def _strings(table: Any, where: str) -> dict[str, str]:
    if not isinstance(table, dict) or not all(isinstance(value, str) for value in table.values()):
        raise UsageError(f"{where} must be a table of texts")
    return dict(table)


def _is_field(kind: Kind, name: str) -> bool:
    if name in SYNONYMS[kind]:
        return True
    prefix, colon, rest = name.partition(":")
    return kind is Kind.MEMBERS and prefix + colon in (CONSENT, ATTRIBUTE) and bool(_NAME.fullmatch(rest))


def _format(table: Any, file: Path) -> Format:
    kinds = {"dates": str, "decimal_comma": bool, "points": str, "phone_country": str}
    if not isinstance(table, dict) or (unknown := sorted(table.keys() - kinds)):
        raise UsageError(f"{file}: format knows {', '.join(kinds)}, not {', '.join(unknown)}")
    for name, value in table.items():
        if type(value) is not kinds[name]:
            raise UsageError(f"{file}: format.{name} must be a {'truth value' if kinds[name] is bool else 'text'}")
    form = Format(**table)
    if form.points not in ("points", "minor"):
        raise UsageError(f'{file}: format.points is "points" (1 is one point) or "minor" (100 are one point)')
    if form.phone_country and not re.fullmatch(r"[1-9][0-9]{0,2}", form.phone_country):
        raise UsageError(f'{file}: format.phone_country is a country code without +, such as "7"')
    if form.dates and not {"%d", "%m"} <= set(re.findall(r"%.", form.dates)):
        raise UsageError(f'{file}: format.dates is a pattern such as "%d.%m.%Y"')
    return form
