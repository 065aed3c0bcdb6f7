"""From the series of GET /v1/figures to the plots of the dashboard, in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from admin_api.console.plots import Line, Plot, Writer
from admin_api.console.words import Words

_DAY_MS = 86_400_000
_MINUTE_MS = 60_000
_MARKS_TOLD_MAX = 2
#: More reasons than this make bars that nobody can tell apart: the rarest are left to the table of the last one.
_CODES_MAX = 6
_POINTS_MINOR = 100


def dashboard_plots(words: Words, offset_ms: int, answer: Mapping[str, Any]) -> list[Plot]:
    """Return the plots in the order of the page; what the answer does not have is left out."""
    make = _Making(words, offset_ms, answer)
    made = [
        make.lines("answers_per_s", ["answers_per_s"]),
        make.lines("latency", ["p99_ms", "p50_ms"]),
        make.lines("approvals", ["approvals"]),
        make.declines(),
        make.lines("points", ["issued", "spent", "expired"]),
        make.lines("outstanding", ["outstanding"], zero=False, joined=True),
        make.lines("receipts", ["receipts"]),
        make.lines("average_receipt", ["average_receipt"], zero=False),
        make.lines("lag_ms", ["lag_ms"]),
        make.lines("queue", ["queue"]),
        make.lines("connections", ["connections"]),
        make.lines("cards_issued", ["cards_issued"], zero=False, joined=True),
    ]
    return [plot for plot in made if plot is not None]


class _Making:
    def __init__(self, words: Words, offset_ms: int, answer: Mapping[str, Any]) -> None:
        self._words = words
        self._offset_ms = offset_ms
        self._currency: str | None = answer["currency"]
        self._series: Sequence[Mapping[str, Any]] = answer["series"]

    def lines(self, name: str, names: Sequence[str], *, zero: bool = True, joined: bool = False) -> Plot | None:
        """Return a plot of lines; the band and the marks are those of the first."""
        found = [one for wanted in names for one in self._series if one["name"] == wanted]
        if not found:
            return None
        first = found[0]
        write = self._writer(first["unit"])
        lines = [
            Line(
                self._words.t(f"plot.{one['name']}"), one["values"], *self._band(one, number), self._marks(one, number)
            )
            for number, one in enumerate(found)
        ]
        notes = self._notes(first) if len(found) == 1 or name == "latency" else ()
        return self._plot(name, first, lines, write, notes=notes, zero=zero, joined=joined)

    def declines(self) -> Plot | None:
        """Return the bars of declines by code, the most frequent first; marks are those of all declines."""
        codes = [one for one in self._series if one["name"] == "declines_by_code"]
        whole = next((one for one in self._series if one["name"] == "declines"), None)
        if whole is None:
            return None
        codes.sort(key=lambda one: -sum(value or 0 for value in one["values"]))
        shown = [Line(self._words.reason(one["code"]), one["values"]) for one in codes[:_CODES_MAX]]
        rest = codes[_CODES_MAX:]
        if rest:
            sums = [sum(one["values"][i] or 0 for one in rest) for i in range(len(whole["values"]))]
            shown.append(Line(self._words.t("plot.other_declines"), sums))
        lines = shown or [Line(self._words.t("plot.declines"), [None] * len(whole["values"]))]
        return self._plot(
            "declines", whole, lines, self._writer("count"), notes=self._notes(whole), zero=True, stacked=bool(shown)
        )

    def _plot(
        self, name: str, one: Mapping[str, Any], lines: list[Line], write: Writer, *, notes: Sequence[str], zero: bool,
        stacked: bool = False, joined: bool = False,
    ) -> Plot:  # fmt: skip
        words = self._words
        return Plot(
            name, words.t(f"plot.{name}"), one["from_ms"], one["step_ms"], lines, write, self._axis_writer(one["unit"]),
            self._moment_writer(one["step_ms"]), self._tick, self._offset_ms, stacked, zero, joined,
            {"ms": words.t("unit.ms", value="").strip(), "amount": self._currency or ""}.get(one["unit"], ""), notes,
            words.t(f"plot.basis_{one['basis']}") if one["basis"] else "",
        )  # fmt: skip

    def _band(self, one: Mapping[str, Any], number: int) -> tuple[Any, Any]:
        return (one["low"], one["high"]) if number == 0 else (None, None)

    def _marks(self, one: Mapping[str, Any], number: int) -> list[tuple[int, str]]:
        if number:
            return []
        found = []
        for mark in one["marks"]:
            begin, end = ((mark[side] - one["from_ms"]) // one["step_ms"] for side in ("from_ms", "until_ms"))
            worst = next(i for i in range(begin, end) if one["values"][i] == mark["value"])
            found.append((worst, self._told(one, mark)))
        return found

    def _notes(self, one: Mapping[str, Any]) -> list[str]:
        """Say where the figure left its band, the latest first."""
        marks = list(reversed(one["marks"]))
        notes = [self._told(one, mark) for mark in marks[:_MARKS_TOLD_MAX]]
        more = len(marks) - len(notes)
        return [*notes, self._words.plural("plot.more_marks", more)] if more > 0 else notes

    def _told(self, one: Mapping[str, Any], mark: Mapping[str, Any]) -> str:
        write, moment = self._writer(one["unit"]), self._moment_writer(max(one["step_ms"], _MINUTE_MS))
        return self._words.t(
            f"plot.{mark['side']}",
            from_time=moment(mark["from_ms"]),
            until_time=moment(mark["until_ms"]),
            value=write(mark["value"]),
            low=write(mark["low"]),
            high=write(mark["high"]),
        )

    def _writer(self, unit: str) -> Writer:
        words, currency = self._words, self._currency
        if unit == "points":
            return lambda value: words.whole_points(int(value))
        if unit == "amount" and currency:
            return lambda value: words.money(round(value), currency)
        if unit == "ms":
            return lambda value: words.t("unit.ms", value=words.measure(value))
        return words.measure if unit == "per_s" else words.number

    def _axis_writer(self, unit: str) -> Callable[[float, float], str]:
        words = self._words
        if unit in ("points", "amount"):
            return lambda value, gap: words.compact(value / _POINTS_MINOR, gap / _POINTS_MINOR)
        return words.compact

    def _moment_writer(self, step_ms: int) -> Callable[[int], str]:
        words = self._words
        if step_ms >= _DAY_MS:
            return lambda at_ms: words.day(at_ms, "d MMM")
        if step_ms >= 3_600_000:  # noqa: PLR2004 - an hour
            return lambda at_ms: f"{words.day(at_ms, 'd MMM')}, {words.clock(at_ms)}"
        return lambda at_ms: words.clock(at_ms, seconds=step_ms < _MINUTE_MS)

    def _tick(self, at_ms: int, gap_ms: int) -> str:
        return self._words.day(at_ms, "d MMM") if gap_ms >= _DAY_MS else self._words.clock(at_ms)
