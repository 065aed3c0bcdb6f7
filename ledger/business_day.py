"""Business days: days since 1970 in the programme's time zone, at which points begin and end."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

_EPOCH = date(1970, 1, 1)


class BusinessDay:
    """Tells days apart; remembers the current one, since almost every question is about it."""

    def __init__(self, zone: ZoneInfo) -> None:
        self.zone = zone
        self._from_ms = 0
        self._until_ms = 0
        self._day = 0
        self._offset_at_s: int | None = None
        self._utc_offset_ms = 0

    def day(self, at_ms: int) -> int:
        """Return the business day of a moment (milliseconds since 1970 UTC)."""
        if not self._from_ms <= at_ms < self._until_ms:
            local = datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(self.zone).date()
            self._day = (local - _EPOCH).days
            self._from_ms = self._midnight_ms(local)
            self._until_ms = self._midnight_ms(local + timedelta(days=1))
        return self._day

    def utc_offset_ms(self, at_ms: int) -> int:
        """Return how far local time is ahead of UTC at a moment."""
        # It changes with a full second only.
        if at_ms // 1000 != self._offset_at_s:
            self._offset_at_s = at_ms // 1000
            offset = datetime.fromtimestamp(self._offset_at_s, UTC).astimezone(self.zone).utcoffset() or timedelta()
            self._utc_offset_ms = int(offset.total_seconds() * 1000)
        return self._utc_offset_ms

    def _midnight_ms(self, day: date) -> int:
        return int(datetime(day.year, day.month, day.day, tzinfo=self.zone).timestamp() * 1000)
