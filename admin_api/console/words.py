"""Texts by key in the languages of the console, and how numbers, points, money and times are written there."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, tzinfo
from decimal import Decimal
from functools import cache, lru_cache
from importlib import resources
from typing import Any

from babel import Locale
from babel.dates import format_date, format_datetime, format_timedelta
from babel.numbers import (
    format_compact_decimal,
    format_currency,
    format_decimal,
    format_percent,
    get_currency_precision,
)

LANGUAGES = ("en", "ru")
_BABEL = {"en": "en_GB", "ru": "ru_RU"}
_POINTS_DIGITS = 2
_FEW, _MANY, _LARGE = 10, 100, 10_000
_ACCEPTED = re.compile(r"\s*([a-zA-Z]{2})")


@cache
def texts(language: str) -> Mapping[str, str]:
    """Return all texts of a language by key: the table and the name in it, joined by a dot."""
    source = resources.files("admin_api.console").joinpath("words", f"{language}.toml").read_text("utf-8")
    return dict(_flat("", tomllib.loads(source)))


def _flat(prefix: str, table: Mapping[str, Any]) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for name, value in table.items():
        key = f"{prefix}{name}"
        found += [(key, value)] if isinstance(value, str) else _flat(f"{key}.", value)
    return found


def preferred(accept_language: str) -> str:
    """Return the first language of an Accept-Language header that there is; else English."""
    for part in accept_language.split(","):
        match = _ACCEPTED.match(part)
        if match and match[1].lower() in LANGUAGES:
            return match[1].lower()
    return LANGUAGES[0]


@cache
def _locale(language: str) -> Locale:
    return Locale.parse(_BABEL[language])


@lru_cache(maxsize=8_192)
def _decimal(value: float, pattern: str, language: str) -> str:
    return format_decimal(value, format=pattern, locale=_locale(language))


@dataclass(frozen=True, slots=True)
class Words:
    """One language in one time zone. Points and money come as integers in minor units, times in ms since 1970 UTC."""

    language: str
    zone: tzinfo

    @property
    def locale(self) -> Locale:
        """Babel's locale."""
        return _locale(self.language)

    def t(self, key: str, **fields: object) -> str:
        """Return a text, with fields put in. Raises KeyError."""
        text = texts(self.language)[key]
        return text.format(**fields) if fields else text

    def known(self, key: str) -> bool:
        """Return whether there is such a text."""
        return key in texts(self.language)

    def plural(self, key: str, count: int, **fields: object) -> str:
        """Return the form of a text that goes with a number, which is put in as {n}."""
        form = self.locale.plural_form(count)
        found = texts(self.language)
        text = found.get(f"{key}.{form}") or found[f"{key}.other"]
        return text.format(n=self.number(count), **fields)

    def outcome(self, name: str) -> str:
        """Return a decline, or an approval, in plain words; `name` is that of SPEC.md in any case."""
        key = f"outcome.{name.lower()}"
        return self.t(key) if self.known(key) else name.lower().replace("_", " ")

    def reason(self, name: str) -> str:
        """Return why something was declined, where it is plain that it was."""
        return self.outcome(name).partition(": ")[2] or self.outcome(name)

    def operation(self, name: str) -> str:
        """Return an operation in plain words."""
        key = f"operation.{name.lower()}"
        return self.t(key) if self.known(key) else name.lower().replace("_", " ")

    def number(self, value: float, digits: int = 0) -> str:
        """Write a number with at most so many digits behind the point."""
        pattern = "#,##0" + ("." + "#" * digits if digits else "")
        return _decimal(value, pattern, self.language)

    def measure(self, value: float) -> str:
        """Write something measured: whole numbers when large, one or two digits behind the point when small."""
        return self.number(value, 0 if abs(value) >= _MANY else 1 if abs(value) >= _FEW else 2)

    def compact(self, value: float, gap: float) -> str:
        """Write a number short, for an axis on which the next one is so far away: as fine as it takes to differ."""
        unit = 1_000 ** (math.floor(math.log10(abs(value))) // 3) if value else 1
        digits = math.ceil(math.log10(unit / gap) - 1e-9)
        if abs(value) < _LARGE or digits > 1:
            return self.number(value, max(0, -math.floor(math.log10(gap))))
        return format_compact_decimal(value, locale=self.locale, fraction_digits=max(0, digits))

    def percent(self, share: float, digits: int = 1) -> str:
        """Write a share of 1 as per cent."""
        return format_percent(share, format="#,##0." + "0" * digits + "%", locale=self.locale)

    def points(self, minor: int) -> str:
        """Write points with both digits behind the point."""
        return format_decimal(Decimal(minor).scaleb(-_POINTS_DIGITS), format="#,##0.00", locale=self.locale)

    def whole_points(self, minor: int) -> str:
        """Write points without what is behind the point, where a great many are told."""
        return self.number(abs(minor) // 10**_POINTS_DIGITS * (-1 if minor < 0 else 1))

    def money(self, minor: int, currency: str) -> str:
        """Write an amount of money."""
        digits = get_currency_precision(currency)
        return format_currency(Decimal(minor).scaleb(-digits), currency, locale=self.locale)

    def moment(self, at_ms: int) -> str:
        """Write day and time."""
        return format_datetime(self._local(at_ms), "medium", tzinfo=self.zone, locale=self.locale)

    def clock(self, at_ms: int, *, seconds: bool = False) -> str:
        """Write the time of day."""
        # The same in both languages, and asked for a thousand times a page: Babel would take most of the page's time.
        return self._local(at_ms).astimezone(self.zone).strftime("%H:%M:%S" if seconds else "%H:%M")

    def day(self, at_ms: int, pattern: str = "long") -> str:
        """Write the day of a moment; `pattern` is Babel's."""
        return format_date(self._local(at_ms).astimezone(self.zone).date(), pattern, locale=self.locale)

    def calendar_day(self, day: date, pattern: str = "long") -> str:
        """Write a day of the calendar; `pattern` is Babel's."""
        return format_date(day, pattern, locale=self.locale)

    def span(self, ms: float) -> str:
        """Write how long something took or is ago, roughly."""
        return format_timedelta(round(ms / 1000), locale=self.locale)

    def ago(self, ms: float) -> str:
        """Write how long ago something was, roughly, as in "5 minutes ago"."""
        return format_timedelta(-max(1, round(ms / 1000)), locale=self.locale, add_direction=True)

    @staticmethod
    def _local(at_ms: int) -> datetime:
        return datetime.fromtimestamp(at_ms / 1000, UTC)
