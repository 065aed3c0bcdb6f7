from datetime import date, datetime, time

import pytest

from protocol.codes import CardKind
from server.moving import values
from server.moving.columns import Format
from server.moving.values import BadValue

PLAIN = Format()
DAY = date(2026, 12, 31).toordinal() - values.EPOCH_DAY


@pytest.mark.parametrize(
    ("cell", "form", "minor"),
    [
        ("150", PLAIN, 15_000),
        ("150.5", PLAIN, 15_050),
        ("150,50", PLAIN, 15_050),
        ("150.50000", PLAIN, 15_050),
        (" 1 234,56 ", PLAIN, 123_456),
        ("1\u00a0234,5", PLAIN, 123_450),
        ("1,234.56", PLAIN, 123_456),
        ("1.234.567,8", PLAIN, 123_456_780),
        ("0,125", Format(points="minor", decimal_comma=False), None),
        ("1.234", Format(decimal_comma=True), 123_400),
        ("1,234", Format(decimal_comma=False), 123_400),
        ("+7", PLAIN, 700),
        ("0", PLAIN, 0),
        (".5", PLAIN, 50),
        (0.1 + 0.2, PLAIN, 30),
        (12.34, PLAIN, 1_234),
        (1234.0, PLAIN, 123_400),
        (1.234, Format(points="minor"), None),
        ("12345", Format(points="minor"), 12_345),
        ("12345.00", Format(points="minor"), 12_345),
        ("12.5", Format(points="minor"), None),
        ("1,234", PLAIN, None),
        ("0.125", PLAIN, None),
        ("0,001", PLAIN, None),
        ("1.234.5", PLAIN, None),
        ("-5", PLAIN, None),
        ("\u22125", PLAIN, None),
        (-5.0, PLAIN, None),
        ("", PLAIN, None),
        (".", PLAIN, None),
        ("5.", PLAIN, None),
        ("1e5", PLAIN, None),
        (1e22, PLAIN, None),
        ("99999999999999", PLAIN, None),
        ("nan", PLAIN, None),
        (float("nan"), PLAIN, None),
        (float("inf"), PLAIN, None),
        ("\u0661\u0662", PLAIN, None),
        (True, PLAIN, None),
        ("12,34,567", Format(decimal_comma=False), None),
    ],
)
def test_points_are_read_exactly_or_refused(cell: object, form: Format, minor: int | None) -> None:
    if minor is None:
        with pytest.raises(BadValue):
            values.points(cell, form)
    else:
        assert values.points(cell, form) == minor


@pytest.mark.parametrize(
    ("cell", "form", "day"),
    [
        ("2026-12-31", PLAIN, DAY),
        ("31.12.2026", PLAIN, DAY),
        ("2026-12-31 00:00:00", PLAIN, DAY),
        ("2026-12-31T23:59:59.999Z", PLAIN, DAY),
        ("12/31/2026", Format(dates="%m/%d/%Y"), DAY),
        (date(2026, 12, 31), PLAIN, DAY),
        (datetime(2026, 12, 31, 23, 59), PLAIN, DAY),  # noqa: DTZ001 - a sheet has no zone
        ("", PLAIN, 0),
        ("12/31/2026", PLAIN, None),
        ("31.02.2026", PLAIN, None),
        ("2026-13-01", PLAIN, None),
        (46387.0, PLAIN, None),
        (time(1, 2), PLAIN, None),
        ("soon", PLAIN, None),
        ("31.12.2026", Format(dates="%m/%d/%Y"), None),
    ],
)
def test_days_are_read_or_refused(cell: object, form: Format, day: int | None) -> None:
    if day is None:
        with pytest.raises(BadValue):
            values.day(cell, form)
    else:
        assert values.day(cell, form) == day


@pytest.mark.parametrize(
    ("cell", "kind", "canonical"),
    [
        ("2000000000015", "", "ean13:2000000000015"),
        (2000000000015.0, "", "ean13:2000000000015"),
        ("2.000000000015E+12", "", "ean13:2000000000015"),
        ("2 000000 000015", "", "ean13:2000000000015"),
        ("4000 0000 0000 0002", "", "pan:4000000000000002"),
        ("+49 151 123456", "", "phone:+49151123456"),
        ("8 (999) 123-45-67", "phone", "phone:+79991234567"),
        ("app-Token_1", "", "virtual:app-Token_1"),
        ("12345678", "virtual", "virtual:12345678"),
    ],
)
def test_a_card_is_known_by_its_form(cell: object, kind: str, canonical: str) -> None:
    assert values.card(cell, kind, Format(phone_country="7"))[1] == canonical


@pytest.mark.parametrize(
    ("cell", "kind", "why"),
    [
        ("2000000000016", "", "check digit"),
        (4000000000000002.0, "", "spreadsheet keeps"),
        ("2E+12", "", "1 of 13 digits"),
        ("2,00000000001E+12", "", "12 of 13 digits"),
        ("4.000000000000002E+15", "", "spreadsheet keeps"),
        (2.5, "", "fraction"),
        (-3.0, "", "sign"),
        ("000000000001", "", "leading zero"),
        ("12345", "", "5 digits"),
        ("", "", "no card"),
        ("2000000000015", "brass", "no kind"),
        ("89991234567", "phone", "phone number is"),
        ("short", "", "virtual token"),
    ],
)
def test_a_card_that_is_none_is_refused_with_the_reason_and_without_its_number(
    cell: object, kind: str, why: str
) -> None:
    with pytest.raises(BadValue, match=why) as bad:
        values.card(cell, kind, PLAIN)
    assert not str(cell) or str(cell) not in str(bad.value)


def test_a_kind_that_is_named_wins_over_the_form() -> None:
    assert values.card("2000000000015", "virtual", PLAIN)[0] is CardKind.VIRTUAL


@pytest.mark.parametrize(
    ("text", "country", "phone"),
    [
        ("8 999 123-45-67", "7", "+79991234567"),
        ("9991234567", "7", "+79991234567"),
        ("0151 123456", "49", "+49151123456"),
        ("0049151123456", "", "+49151123456"),
        ("+1 (212) 555 0100", "7", "+12125550100"),
        ("0151 123456", "", "0151123456"),
        ("call me", "7", "callme"),
    ],
)
def test_a_phone_gets_its_country_only_where_it_is_told(text: str, country: str, phone: str) -> None:
    assert values.phone(text, Format(phone_country=country)) == phone


@pytest.mark.parametrize(
    ("text", "status"), [("", 1), ("Active", 1), ("заблокирована", 2), ("ISSUED", 0), ("not  active", 0), ("closed", 3)]
)
def test_statuses_are_known_in_both_languages(text: str, status: int) -> None:
    assert values.status(text) == status
    with pytest.raises(BadValue, match="issued, active, blocked, replaced"):
        values.status("burnt")
