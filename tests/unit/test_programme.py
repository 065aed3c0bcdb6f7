"""When points can be spent, and which rules hold at a moment."""

from datetime import date

import pytest

from ledger.programme import Network, Rules


def day(text: str) -> int:
    return (date.fromisoformat(text) - date(1970, 1, 1)).days


@pytest.mark.parametrize(
    ("sold", "rules", "first", "last"),
    [
        ("2027-01-31", Rules(0), "2027-01-31", None),
        ("2027-01-31", Rules(0, activation_days=14), "2027-02-14", None),
        ("2027-01-31", Rules(0, expiry_months=1), "2027-01-31", "2027-02-28"),
        ("2028-01-31", Rules(0, expiry_months=1), "2028-01-31", "2028-02-29"),
        ("2028-02-29", Rules(0, expiry_months=12), "2028-02-29", "2029-02-28"),
        ("2028-02-29", Rules(0, expiry_months=48), "2028-02-29", "2032-02-29"),
        ("2027-08-31", Rules(0, expiry_months=18), "2027-08-31", "2029-02-28"),
        ("2027-12-15", Rules(0, expiry_months=1), "2027-12-15", "2028-01-15"),
        ("2027-11-30", Rules(0, expiry_months=12), "2027-11-30", "2028-11-30"),
        ("2027-01-01", Rules(0, expiry_days=365), "2027-01-01", "2028-01-01"),
        ("2028-01-01", Rules(0, expiry_days=365), "2028-01-01", "2028-12-31"),
        ("2027-01-10", Rules(0, expiry_days=30, expiry_months=1), "2027-01-10", "2027-03-09"),
        ("2027-01-10", Rules(0, expiry_months=12, expiry_at_month_end=True), "2027-01-10", "2028-01-31"),
        ("2027-03-31", Rules(0, expiry_months=11, expiry_at_month_end=True), "2027-03-31", "2028-02-29"),
        ("2027-12-31", Rules(0, expiry_days=1, expiry_at_month_end=True), "2027-12-31", "2028-01-31"),
        ("2100-01-31", Rules(0, expiry_months=1), "2100-01-31", "2100-02-28"),
    ],
)
def test_points_begin_and_end_on_the_day_that_a_calendar_shows(
    sold: str, rules: Rules, first: str, last: str | None
) -> None:
    assert rules.earning_days(day(sold)) == (day(first), day(last) if last else 0)


def test_points_never_end_before_they_begin() -> None:
    rules = Rules(0, activation_days=30, expiry_days=10)
    assert rules.earning_days(day("2027-01-01")) == (day("2027-01-31"), day("2027-01-31"))


def test_a_month_end_is_never_passed_by_the_months_added() -> None:
    rules = Rules(0, expiry_months=1)
    for start in range(day("2027-01-01"), day("2029-01-01")):
        _, last = rules.earning_days(start)
        assert 28 <= last - start <= 31
        assert rules.earning_days(start + 1)[1] >= last


def test_the_rules_in_force_are_the_last_that_have_begun() -> None:
    old, new, newest = Rules(1000), Rules(2000, earn_rate_bp=1), Rules(3000, earn_rate_bp=2)
    network = Network(1, 1, "Network", "EUR", (old, new, newest))
    at = {0: old, 1000: old, 1999: old, 2000: new, 2999: new, 3000: newest, 10**15: newest}
    assert {moment: network.rules_at(moment) for moment in at} == at
