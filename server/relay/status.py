"""How a relay is, for `tillwire relay status`: from its store and the last note it made of itself."""

from __future__ import annotations

import shutil
from typing import Any, Final

import orjson

from server.relay.relay import HEARTBEAT
from server.relay.settings import RelaySettings
from server.relay.store_status import read_status

_BEATS_MISSED: Final = 5
_STALE_MS_MIN: Final = 10_000


def relay_status(settings: RelaySettings, now_ms: int) -> dict[str, Any]:
    """Return what monitoring needs; `alarms` says what is bad, `good` is whether it is empty. Raises StoreUnusable."""
    store = read_status(settings.data_dir)
    note: dict[str, Any] = orjson.loads(store.kept.get(HEARTBEAT, b"{}"))
    line: dict[str, Any] = note.get("line", {})
    age_ms = now_ms - note.get("at_ms", 0)
    # A relay whose disk is full cannot note anything any more, nor one that hangs.
    stale_ms = max(_STALE_MS_MIN, _BEATS_MISSED * settings.status_interval_ms)
    running = bool(note.get("running")) and -stale_ms < age_ms < stale_ms
    up = running and bool(line.get("up"))
    since_ms = line.get("since_ms") if running else note.get("at_ms")
    ahead_ms = note.get("clock_ahead_ms")
    found = {
        "relay": note.get("relay"),
        "running": running,
        "noted_age_ms": age_ms if note else None,
        "line": "up" if up else "down",
        "line_for_ms": None if since_ms is None else _age(since_ms, now_ms, ahead_ms if running else 0),
        "line_reason": line.get("reason", "") if running else "the relay does not run, or cannot write its note",
        "queued": store.queued,
        "oldest_age_ms": None if store.oldest_ms is None else _age(store.oldest_ms, now_ms, ahead_ms),
        "conflicts": store.conflicts,
        "allowances": store.allowances,
        "remembered_answers": store.answers,
        "registers": note.get("registers", 0) if running else 0,
        "roster_version": note.get("roster_version", 0),
        "clock_ahead_ms": ahead_ms,
        "store_failing": note.get("store_failing"),
        "disk_free_bytes": shutil.disk_usage(settings.data_dir).free,
    }
    found["alarms"] = alarms = _alarms(found, settings)
    found["good"] = not alarms
    return found


def _age(then_ms: int, now_ms: int, ahead_ms: int | None) -> int:
    """Return how long ago a moment of headquarters' clock was, by this computer's wall clock."""
    return max(0, now_ms + (ahead_ms or 0) - then_ms)


def _alarms(found: dict[str, Any], settings: RelaySettings) -> list[str]:
    alarms = []
    if not found["running"]:
        alarms.append("the relay does not run, or cannot write its note")
    elif found["line"] == "down" and (found["line_for_ms"] or 0) > settings.line_down_alarm_ms:
        alarms.append("the line has been down for too long")
    if (found["oldest_age_ms"] or 0) > settings.oldest_alarm_ms:
        alarms.append("the oldest waiting request is too old")
    if found["store_failing"]:
        alarms.append("the store cannot be written")
    if not found["roster_version"]:
        alarms.append("headquarters has not told yet who the registers are")
    return alarms
