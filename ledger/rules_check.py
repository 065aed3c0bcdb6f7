"""Are these rules ones that can be lived by? Asked before they are saved, by whoever saves them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ledger.programme import Rules
from ledger.slip import LINES_MAX, SlipTemplates, TemplateError, check_template

#: Beyond it Lua's numbers, which are doubles, would round.
POINTS_MAX = 2**53 - 1
_HOLD_MS_MAX = 3_650 * 86_400_000

#: Least and most of each number; the table `rules` demands the same, or less.
RANGES: dict[str, tuple[int, int]] = {
    "earn_rate_bp": (0, 1_000_000),
    "activation_days": (0, 3_650),
    "expiry_days": (0, 36_500),
    "expiry_months": (0, 1_200),
    "redeem_min": (0, POINTS_MAX),
    "redeem_max": (0, POINTS_MAX),
    "share_bp": (0, 10_000),
    "day_points_max": (0, POINTS_MAX),
    "day_count_max": (0, 65_535),
    "terminal_day_points_max": (0, POINTS_MAX),
    "hold_default_ms": (1, _HOLD_MS_MAX),
    "hold_max_ms": (1, _HOLD_MS_MAX),
    "holds_max": (1, 256),
}
_DAYS_OF_A_MONTH_MAX = 31


class Fault(NamedTuple):
    """What is wrong with a field of the rules, in words; a slip line is "slip.0" and so on."""

    field: str
    what: str


class BadRules(ValueError):  # noqa: N818 - it is what they are
    """Rules that contradict themselves or leave their ranges; `faults` says where."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(f"{fault.field}: {fault.what}" for fault in self.faults))


def check(rules: Rules) -> None:
    """Raise BadRules unless every value is in its range, no two contradict each other and the slip can be printed."""
    faults = [*_out_of_range(rules), *_unprintable(rules.slip)] or [*_contradictions(rules)]
    if faults:
        raise BadRules(faults)


def _out_of_range(rules: Rules) -> Iterator[Fault]:
    for field, (least, most) in RANGES.items():
        if not least <= getattr(rules, field) <= most:
            yield Fault(field, f"must be from {least} to {most}")


def _unprintable(slip: tuple[str, ...]) -> Iterator[Fault]:
    if len(slip) > LINES_MAX:
        yield Fault("slip", f"has more than {LINES_MAX} lines")
    each_fits = len(slip) <= LINES_MAX
    for number, line in enumerate(slip):
        try:
            check_template(line)
        except TemplateError as error:
            each_fits = False
            yield Fault(f"slip.{number}", str(error))
    if each_fits:
        try:
            SlipTemplates(slip)
        except TemplateError as error:
            yield Fault("slip", str(error))


def _contradictions(rules: Rules) -> Iterator[Fault]:
    for most in ("redeem_max", "day_points_max", "terminal_day_points_max"):
        if 0 < getattr(rules, most) < rules.redeem_min:
            yield Fault(most, "is below redeem_min, so nothing could ever be spent; 0 is no limit")
    if rules.hold_default_ms > rules.hold_max_ms:
        yield Fault("hold_default_ms", "is above hold_max_ms")
    expires = rules.expiry_days or rules.expiry_months
    if rules.expiry_at_month_end and not expires:
        yield Fault("expiry_at_month_end", "says when points expire that never do: expiry_days and expiry_months are 0")
    months = rules.expiry_months + (1 if rules.expiry_at_month_end else 0)
    if expires and rules.activation_days > rules.expiry_days + months * _DAYS_OF_A_MONTH_MAX:
        yield Fault("activation_days", "ends after the points have expired")
