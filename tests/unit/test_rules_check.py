from dataclasses import replace
from typing import Any

import pytest

from ledger.programme import Rules
from ledger.rules_check import RANGES, BadRules, check

GOOD = Rules(0, earn_rate_bp=500, expiry_months=12, expiry_at_month_end=True, redeem_min=100, slip=("{available}",))


def faults(**changes: Any) -> list[str]:
    with pytest.raises(BadRules) as bad:
        check(replace(GOOD, **changes))
    return [fault.field for fault in bad.value.faults]


def test_the_defaults_and_ordinary_rules_are_good() -> None:
    check(Rules(0))
    check(GOOD)


@pytest.mark.parametrize("field", RANGES)
def test_each_number_has_a_range_and_its_ends_are_allowed(field: str) -> None:
    least, most = RANGES[field]
    assert field in faults(**{field: least - 1})
    assert field in faults(**{field: most + 1})
    others = {"hold_default_ms": least, "hold_max_ms": most} if field.startswith("hold_") else {}
    check(replace(Rules(0), **{**others, field: most, "expiry_at_month_end": False}))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"redeem_max": 99}, "redeem_max"),
        ({"day_points_max": 99}, "day_points_max"),
        ({"terminal_day_points_max": 99}, "terminal_day_points_max"),
        ({"hold_default_ms": 60_000, "hold_max_ms": 59_999}, "hold_default_ms"),
        ({"expiry_months": 0}, "expiry_at_month_end"),
        ({"expiry_months": 1, "activation_days": 63}, "activation_days"),
        ({"expiry_months": 0, "expiry_at_month_end": False, "expiry_days": 5, "activation_days": 6}, "activation_days"),
    ],
)
def test_rules_that_contradict_each_other_are_told(changes: dict[str, Any], field: str) -> None:
    assert faults(**changes) == [field]


@pytest.mark.parametrize(
    "changes",
    [
        {"redeem_max": 100},
        {"redeem_max": 0, "day_points_max": 0},
        {"hold_default_ms": 60_000, "hold_max_ms": 60_000},
        {"expiry_months": 0, "expiry_days": 1},
        {"expiry_months": 1, "activation_days": 62},
        {"expiry_months": 0, "expiry_at_month_end": False, "activation_days": 3_650},
    ],
)
def test_the_edge_of_a_contradiction_is_none(changes: dict[str, Any]) -> None:
    check(replace(GOOD, **changes))


def test_a_slip_line_is_named_by_its_number() -> None:
    assert faults(slip=("{available}", "{nonsense}", "x" * 129)) == ["slip.1", "slip.2"]
    assert faults(slip=("x",) * 256) == ["slip"]
    check(replace(GOOD, slip=("x" * 128,) * 255))


def test_slip_lines_that_no_frame_holds_are_refused_together() -> None:
    check(replace(GOOD, slip=("\U0001f381" * 128,) * 125))
    assert faults(slip=("\U0001f381" * 128,) * 126) == ["slip"]
    check(replace(GOOD, slip=("{available}" * 10,) * 255))


def test_all_that_is_out_of_range_is_told_at_once() -> None:
    assert faults(earn_rate_bp=-1, holds_max=0, slip=("{",)) == ["earn_rate_bp", "holds_max", "slip.0"]
