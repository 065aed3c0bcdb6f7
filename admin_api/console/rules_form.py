"""Rules as people read and type them: per cent, points, days and minutes instead of what the ledger counts in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Literal, NamedTuple

from admin_api.console.entering import Refused
from admin_api.console.words import Words
from admin_api.programme.rules import RulesChange, RulesFields
from ledger.rules_check import RANGES

Unit = Literal["percent", "points", "days", "months", "times", "minutes", "hours", "holds"]
_SCALES: dict[str, int] = {"percent": 100, "points": 100, "minutes": 60_000, "hours": 3_600_000}


class Rule(NamedTuple):
    """A number among the rules: its name, and the unit in which people type it."""

    name: str
    unit: Unit


#: The form's sections, in the order in which they are read.
SECTIONS: dict[str, tuple[Rule, ...]] = {
    "earning": (Rule("earn_rate_bp", "percent"), Rule("activation_days", "days")),
    "expiry": (Rule("expiry_months", "months"), Rule("expiry_days", "days")),
    "spending": (Rule("share_bp", "percent"), Rule("redeem_min", "points"), Rule("redeem_max", "points")),
    "limits": (
        Rule("day_points_max", "points"),
        Rule("day_count_max", "times"),
        Rule("terminal_day_points_max", "points"),
    ),
    "holds": (Rule("hold_default_ms", "minutes"), Rule("hold_max_ms", "hours"), Rule("holds_max", "holds")),
}
NUMBERS: dict[str, Rule] = {rule.name: rule for rules in SECTIONS.values() for rule in rules}
TICKS = ("expiry_at_month_end", "greeting")
#: Where 0 says that there is no such limit.
_NONE_IF_0 = frozenset(
    {"redeem_max", "day_points_max", "day_count_max", "terminal_day_points_max", "redeem_min", "activation_days"}
)


class RulesForm:
    """The texts of a form of rules. `base` has what a text means that nobody touched, to the last digit."""

    def __init__(self, words: Words, base: RulesFields, typed: dict[str, str]) -> None:
        self._words = words
        self._base = base
        self.typed = typed

    @classmethod
    def of(cls, words: Words, base: RulesFields, typed: Mapping[str, str] | None = None) -> RulesForm:
        """Return the form that shows rules, or what somebody typed over them."""
        if typed is not None:
            return cls(words, base, dict(typed))
        texts = {name: _text(words, rule, getattr(base, name)) for name, rule in NUMBERS.items()}
        texts |= {name: "yes" if getattr(base, name) else "" for name in TICKS}
        return cls(words, base, {**texts, "slip": "\n".join(base.slip)})

    def change(self, only: Iterable[str] = ()) -> RulesChange:
        """Return what was typed, all of it or only some. Raises Refused with a sentence for each field."""
        wanted = tuple(only)
        found: dict[str, Any] = {}
        wrong: dict[str, str] = {}
        for name, rule in NUMBERS.items():
            if wanted and name not in wanted:
                continue
            text = self.typed.get(name, "")
            before = getattr(self._base, name)
            value = before if text == _text(self._words, rule, before) else _value(rule, text)
            least, most = RANGES[name]
            if value is None or not least <= value <= most:
                wrong[name] = self._range(rule)
            else:
                found[name] = value
        if wrong:
            raise Refused(self._words.t("entry.mend"), wrong)
        if wanted:
            return RulesChange(**found)
        ticks = {name: bool(self.typed.get(name)) for name in TICKS}
        return RulesChange(**found, **ticks, slip=_lines(self.typed.get("slip", "")))

    def fault(self, name: str, what: str) -> tuple[str, str]:
        """Return the field, and in the visitor's words what is the matter with it; `what` is what the check says."""
        words = self._words
        name = name.removeprefix("rules.")
        if name.startswith("slip"):
            number = name.partition(".")[2]
            kind = next((kind for kind in _SLIP_FAULTS if _SLIP_FAULTS[kind] in what), "other")
            line = str(int(number) + 1) if number.isdigit() else ""
            return "slip", words.t(f"rules.slip_{kind}", line=line, detail=what)
        if name in NUMBERS and what.startswith("must be from"):
            return name, self._range(NUMBERS[name])
        key = f"rules.contradiction_{name}"
        return name, words.t(key) if words.known(key) else what

    def _range(self, rule: Rule) -> str:
        least, most = (_shown(self._words, rule, limit) for limit in RANGES[rule.name])
        return self._words.t("rules.out_of_range", least=least, most=most)


_SLIP_FAULTS = {"long": "longer than", "unknown": "unknown placeholder", "lines": "more than"}


def told(words: Words, name: str, value: Any) -> str:
    """Return the value of a rule in words."""
    if name in TICKS:
        return words.t("rules.yes" if value else "rules.no")
    if name == "slip":
        return "\n".join(value) or words.t("rules.no_slip")
    if not value and name in _NONE_IF_0:
        return words.t(f"rules.none_{name}")
    return _shown(words, NUMBERS[name], value)


def _shown(words: Words, rule: Rule, value: int) -> str:
    amount = Decimal(value) / _SCALES.get(rule.unit, 1)
    written = words.number(float(amount), 4)
    return words.plural(f"rules.unit_{rule.unit}", round(amount), shown=written)


def _text(words: Words, rule: Rule, value: int) -> str:
    amount = Decimal(value) / _SCALES.get(rule.unit, 1)
    plain = f"{amount.quantize(Decimal('0.0001')):f}".rstrip("0").rstrip(".") if amount % 1 else f"{int(amount)}"
    return plain.replace(".", ",") if words.language == "ru" else plain


def _value(rule: Rule, text: str) -> int | None:
    """Return what was typed in the ledger's unit; None if it is no number of whole such units."""
    tidy = "".join(text.split()).replace(",", ".").removesuffix("%")
    try:
        amount = Decimal(tidy or "0")
    except InvalidOperation:
        return None
    if not amount.is_finite() or abs(amount.adjusted()) > 18:  # noqa: PLR2004 - far beyond every range
        return None
    scaled = amount * _SCALES.get(rule.unit, 1)
    return int(scaled) if scaled == scaled.to_integral_value() else None


def _lines(text: str) -> list[str]:
    lines = [line.rstrip() for line in text.replace("\r\n", "\n").split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines
