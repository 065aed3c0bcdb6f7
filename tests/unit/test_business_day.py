"""Business days: whatever was asked before, a moment belongs to the day that the zone's own clock shows."""

import random
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from ledger.business_day import BusinessDay

ZONES = (
    "UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Asia/Beirut",
    "Africa/Cairo", "America/Sao_Paulo", "America/Havana", "Atlantic/Azores", "Pacific/Kiritimati", "Pacific/Apia",
)  # fmt: skip
HOUR_MS, DAY_MS = 3_600_000, 86_400_000


def ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def shown(zone: str, at_ms: int) -> int:
    """Return the day on the wall, worked out without any of the code under test."""
    local = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)
    return (local.astimezone(ZoneInfo(zone)).date() - date(1970, 1, 1)).days


@pytest.mark.parametrize("zone", ZONES)
def test_any_order_of_moments_gives_the_day_on_the_wall(zone: str) -> None:
    dice = random.Random(7)  # noqa: S311 - it must be repeatable, not secret
    days = BusinessDay(ZoneInfo(zone))
    start = ms(datetime(2011, 12, 1, tzinfo=UTC))
    for _ in range(1500):
        at_ms = start + dice.randrange(16 * 365) * DAY_MS + dice.randrange(-3, 27) * HOUR_MS + dice.choice((-1, 0, 1))
        assert days.day(at_ms) == shown(zone, at_ms)


@pytest.mark.parametrize("zone", ZONES)
def test_the_day_changes_at_the_very_millisecond_of_midnight(zone: str) -> None:
    days = BusinessDay(ZoneInfo(zone))
    for day in range(1, 366, 3):
        midnight = ms(datetime(2027, 1, 1, tzinfo=ZoneInfo(zone)) + timedelta(days=day))
        before, after = days.day(midnight - 1), days.day(midnight)
        assert (before, after) == (shown(zone, midnight - 1), shown(zone, midnight))
        assert after == before + 1


@pytest.mark.parametrize(
    ("moment", "hours"),
    [(datetime(2027, 3, 28, 12, tzinfo=UTC), 23), (datetime(2027, 10, 31, 12, tzinfo=UTC), 25),
     (datetime(2027, 6, 1, 12, tzinfo=UTC), 24)],
)  # fmt: skip
def test_a_day_of_the_change_of_clocks_is_shorter_or_longer(moment: datetime, hours: int) -> None:
    days = BusinessDay(ZoneInfo("Europe/Berlin"))
    today = days.day(ms(moment))
    around = range(ms(moment) - 30 * HOUR_MS, ms(moment) + 30 * HOUR_MS, HOUR_MS // 2)
    assert sum(days.day(at) == today for at in around) == 2 * hours


def test_the_offset_follows_the_change_of_clocks() -> None:
    days = BusinessDay(ZoneInfo("Europe/Berlin"))
    assert days.utc_offset_ms(ms(datetime(2027, 1, 1, tzinfo=UTC))) == HOUR_MS
    assert days.utc_offset_ms(ms(datetime(2027, 7, 1, tzinfo=UTC))) == 2 * HOUR_MS
    assert BusinessDay(ZoneInfo("America/New_York")).utc_offset_ms(ms(datetime(2027, 1, 1, tzinfo=UTC))) == -5 * HOUR_MS


@pytest.mark.parametrize("zone", ZONES)
def test_the_offset_changes_at_the_very_millisecond_and_whatever_was_asked_before(zone: str) -> None:
    days = BusinessDay(ZoneInfo(zone))
    start = ms(datetime(2011, 1, 1, tzinfo=UTC))
    for half_hour in range(365 * 48):
        for at_ms in (start + half_hour * HOUR_MS // 2 - 1, start + half_hour * HOUR_MS // 2):
            local = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)).astimezone(ZoneInfo(zone))
            offset = local.utcoffset()
            assert offset is not None
            assert days.utc_offset_ms(at_ms) == offset / timedelta(milliseconds=1)
