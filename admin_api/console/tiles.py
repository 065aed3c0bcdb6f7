"""The latest figures as tiles: a name, a value and a remark each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from admin_api.console.plots import NOTHING
from admin_api.console.words import Words

_MS_PER_MINUTE = 60_000


class Tile(NamedTuple):
    """One figure in words; `alarm` if somebody should look."""

    name: str
    value: str
    remark: str = ""
    alarm: bool = False


def tiles(words: Words, now: Mapping[str, Any]) -> list[Tile]:
    """Return the tiles for what GET /v1/figures/now answers."""
    answered = now["approvals"] + now["declines"]
    minutes = now["recent_ms"] // _MS_PER_MINUTE
    remark = words.t("tile.approved_note", n=words.number(answered), minutes=minutes)
    approved = Tile(
        words.t("tile.approved"),
        words.percent(now["approvals"] / answered) if answered else NOTHING,
        remark if answered else words.t("tile.nothing_asked"),
    )
    found = [approved, Tile(words.t("tile.declined"), words.number(now["declines"]), remark if answered else "")]
    if now["process"]:
        found = [*_process(words, now["process"]), approved]
    if now["standing"]:
        found += _standing(words, now["standing"])
    return found


def _process(words: Words, process: Mapping[str, Any]) -> list[Tile]:
    def ms(value: float) -> str:
        return words.t("unit.ms", value=words.measure(value))

    p99 = process.get("p99_ms")
    half = process.get("p50_ms")
    return [
        Tile(words.t("tile.answers"), words.measure(process["answers_per_s"])),
        Tile(
            words.t("tile.p99"),
            NOTHING if p99 is None else ms(p99),
            words.t("tile.p99_idle") if half is None else words.t("tile.p99_note", p50=ms(half)),
        ),
        Tile(words.t("tile.lag"), ms(process["lag_ms"]), words.t("tile.lag_note")),
        Tile(words.t("tile.queue"), words.number(process["queue"]), words.t("tile.queue_note")),
        Tile(
            words.t("tile.connections"),
            words.number(process["connections"]),
            words.t("tile.standby_note") if process["standby"] else words.t("tile.connections_note"),
            alarm=bool(process["standby"]),
        ),
    ]


def _standing(words: Words, standing: Mapping[str, Any]) -> list[Tile]:
    outstanding = words.t(
        "tile.outstanding_note",
        held=words.whole_points(standing["held"]),
        owed=words.whole_points(standing["owed"]),
        time=words.clock(standing["at_ms"]),
    )
    active = words.t("tile.cards_note", active=words.number(standing["cards_active"]))
    return [
        Tile(words.t("tile.outstanding"), words.whole_points(standing["balance"]), outstanding),
        Tile(words.t("tile.cards"), words.number(standing["cards_issued"]), active),
    ]
