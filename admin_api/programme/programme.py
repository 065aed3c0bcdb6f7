"""What holds for the whole programme: the time zone in which days begin and end."""

from __future__ import annotations

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo, available_timezones

from admin_api.coalition.coalition import check_unbound
from admin_api.fields import Asked, Told
from admin_api.office import Office
from admin_api.problem import invalid
from admin_api.security.actor import Actor
from admin_api.security.auditing import audited
from admin_api.security.permissions import Permission
from ledger.registry import coalition

_WARNING = (
    "Points begin and expire, and daily limits start anew, at midnight of this time zone. Another one moves these "
    "moments for all networks at once, today's included; days that are stored with points stay what they are."
)


class TimeZoneAsked(Asked):
    """An IANA name, such as Europe/Berlin."""

    time_zone: str


class TimeZone(Told):
    """The programme's time zone, which day it is there, and what a change of it means."""

    time_zone: str
    today: date
    warning: str


async def time_zone(office: Office, actor: Actor) -> TimeZone:
    """Return the time zone. Raises a Problem."""
    actor.check(Permission.RULES_READ)
    async with office.registry.reading() as transaction:
        return _shown(office, await coalition.time_zone(transaction))


async def set_time_zone(office: Office, actor: Actor, asked: TimeZoneAsked) -> TimeZone:
    """Change it for all networks. Raises a Problem: 422 for a name that nobody knows."""
    check_unbound(actor)
    if asked.time_zone not in available_timezones():
        raise invalid("time_zone: is not a known IANA time zone", ("time_zone", "unknown"))
    async with office.registry.writing() as transaction:
        before = await coalition.time_zone(transaction)
        await coalition.set_time_zone(transaction, asked.time_zone)
        await audited(
            office, actor, transaction, "programme.time-zone", "programme",
            detail={"before": before, "after": asked.time_zone},
        )  # fmt: skip
    return _shown(office, asked.time_zone)


def _shown(office: Office, name: str) -> TimeZone:
    now = datetime.fromtimestamp(office.clock.now_ms() / 1000, UTC)
    zone = ZoneInfo(name) if name in available_timezones() else UTC
    return TimeZone(time_zone=name, today=now.astimezone(zone).date(), warning=_WARNING)
