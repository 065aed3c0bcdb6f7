"""Plots as SVG, made on the server: lines with their usual band and marks, stacked bars; no script, no inline style.

Every plot has a text alternative: the table that templates/plot.html writes of `Plot.rows`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from markupsafe import Markup

from admin_api.figures.bands import Value

WIDTH, HEIGHT = 520, 200
_RIGHT, _TOP, _BOTTOM = 8, 10, 24
#: How wide a character of a label is on a phone, where labels are largest.
_CHARACTER = 8.8
_LEFT_MIN = 40
_Y_TICKS = 4
_X_TICKS_MAX = 7
#: A band far above all values must not flatten them: the axis ends at so many times the highest.
_BAND_SHOWN = 1.5
#: Above and below a value that never changes, of itself.
_FLAT_ROOM = 0.1
_MINUTE_MS = 60_000
_TICKS_MS = tuple(_MINUTE_MS * m for m in (1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1_440, 2_880, 7_200, 10_080))
#: Bars leave this share of their step free.
_GAP = 0.15

#: What stands for a value that is not known.
NOTHING = "\N{EN DASH}"

#: A value in words.
Writer: TypeAlias = Callable[[float], str]


@dataclass(frozen=True, slots=True)
class Line:
    """One figure of a plot: its name in words, its values by step, and where they usually lie."""

    name: str
    values: Sequence[Value]
    low: Sequence[Value] | None = None
    high: Sequence[Value] | None = None
    #: Where it leaves the band: the index of a step, and what is said of it.
    marks: Sequence[tuple[int, str]] = ()


@dataclass(frozen=True)
class Plot:
    """Lines, or bars on top of each other, over the same steps. `offset_ms` is how far local time is ahead of UTC.

    `write` puts a value into words, `write_axis` one of ticks so far apart; `write_moment` a moment, `write_tick` one
    of ticks so far apart (both in ms).
    """

    name: str
    title: str
    from_ms: int
    step_ms: int
    lines: Sequence[Line]
    write: Writer
    write_axis: Callable[[float, float], str]
    write_moment: Callable[[int], str]
    write_tick: Callable[[int, int], str]
    offset_ms: int = 0
    stacked: bool = False
    #: Whether the axis begins at nought.
    zero: bool = True
    #: Whether values that are only known now and then are joined.
    joined: bool = False
    unit: str = ""
    #: What stands below it in words.
    notes: Sequence[str] = ()
    basis: str = ""

    @property
    def empty(self) -> bool:
        """Whether there is nothing to show."""
        return all(value is None or (self.stacked and not value) for line in self.lines for value in line.values)

    @property
    def steps(self) -> int:
        """How many steps there are."""
        return max((len(line.values) for line in self.lines), default=0)

    @cached_property
    def rows(self) -> list[tuple[str, list[str]]]:
        """The plot as a table: each step's moment and values in words."""
        return [
            (
                self.write_moment(self.from_ms + i * self.step_ms),
                [NOTHING if (value := line.values[i]) is None else self.write(value) for line in self.lines],
            )
            for i in range(self.steps)
        ]

    def svg(self) -> Markup:
        """Return the picture."""
        return _Drawing(self).svg()


def nice_step(span: float, ticks: int) -> float:
    """Return 1, 2 or 5 times a power of ten, so that about so many ticks cover the span."""
    raw = span / max(1, ticks)
    power = 10.0 ** math.floor(math.log10(raw)) if raw > 0 else 1.0
    return next((power * factor for factor in (1, 2, 5) if power * factor >= raw), power * 10)


def nice_ticks(low: float, high: float) -> list[float]:
    """Return round values from below or at `low` to above or at `high`, at least two."""
    if low == high:
        # What does not change lies in the middle, and its axis does not tell fractions of it.
        low, high = low - abs(low) * _FLAT_ROOM, high + abs(high) * _FLAT_ROOM
    step = nice_step(high - low, _Y_TICKS) if high > low else 1.0
    first = math.floor(low / step)
    last = max(math.ceil(high / step), first + 1)
    return [round(i * step, 9) for i in range(first, last + 1)]


def time_ticks(from_ms: int, to_ms: int, offset_ms: int) -> tuple[list[int], int]:
    """Return moments at round local times, at most six, and how far they are apart."""
    gap = next((t for t in _TICKS_MS if (to_ms - from_ms) / t <= _X_TICKS_MAX), _TICKS_MS[-1])
    first = -(-(from_ms + offset_ms) // gap) * gap - offset_ms
    return list(range(first, to_ms, gap)), gap


class _Drawing:
    """One plot being drawn."""

    def __init__(self, plot: Plot) -> None:
        self._plot = plot
        self._ticks = nice_ticks(*self._extent())
        self._low, self._high = self._ticks[0], self._ticks[-1]
        gap = self._ticks[1] - self._ticks[0]
        self._labels = [plot.write_axis(tick, gap) for tick in self._ticks]
        self._left = max(_LEFT_MIN, round(10 + _CHARACTER * max(map(len, self._labels))))

    def svg(self) -> Markup:
        """Return the picture."""
        begin = Markup('<svg class="plot" viewBox="0 0 {} {}" role="img" aria-label="{}">')
        parts = [begin.format(WIDTH, HEIGHT, self._plot.title), *self._y_axis(), *self._x_axis()]
        parts += self._bars() if self._plot.stacked else self._lines()
        return Markup("").join([*parts, *self._hovers(), Markup("</svg>")])

    def _extent(self) -> tuple[float, float]:
        plot = self._plot
        if plot.stacked:
            sums = (sum(line.values[i] or 0 for line in plot.lines) for i in range(plot.steps))
            return 0, max(sums, default=0)
        shown = [value for line in plot.lines for value in line.values if value is not None]
        usual = [value for line in plot.lines for value in (*(line.low or ()), *(line.high or ())) if value is not None]
        highest = max(shown, default=0)
        high = max(highest, min(max(usual, default=0), highest * _BAND_SHOWN or 1))
        return 0 if plot.zero else min((*shown, *usual), default=0), high

    def _x(self, index: float) -> float:
        return round(self._left + (WIDTH - self._left - _RIGHT) * index / max(1, self._plot.steps), 1)

    def _y(self, value: float) -> float:
        share = (value - self._low) / (self._high - self._low)
        return round(_TOP + (HEIGHT - _TOP - _BOTTOM) * (1 - min(1.0, max(0.0, share))), 1)

    def _y_axis(self) -> Iterator[Markup]:
        rule = Markup('<line class="rule" x1="{}" x2="{}" y1="{}" y2="{}"/><text class="y" x="{}" y="{}">{}</text>')
        for tick, label in zip(self._ticks, self._labels, strict=True):
            y = self._y(tick)
            yield rule.format(self._left, WIDTH - _RIGHT, y, y, self._left - 6, y + 4, label)

    def _x_axis(self) -> Iterator[Markup]:
        plot = self._plot
        ticks, gap = time_ticks(plot.from_ms, plot.from_ms + plot.steps * plot.step_ms, plot.offset_ms)
        label = Markup('<line class="tick" x1="{}" x2="{}" y1="{}" y2="{}"/><text class="x" x="{}" y="{}">{}</text>')
        bottom = HEIGHT - _BOTTOM
        for at_ms in ticks:
            x = self._x((at_ms - plot.from_ms) / plot.step_ms)
            # A label at the right edge would be cut off, and at the left one stand on that of the other axis.
            if self._left + _BOTTOM / 2 <= x <= WIDTH - _RIGHT - _BOTTOM / 2:
                yield label.format(x, x, bottom, bottom + 4, x, bottom + 17, plot.write_tick(at_ms, gap))

    def _lines(self) -> Iterator[Markup]:
        for number, line in enumerate(self._plot.lines):
            if line.low and line.high:
                yield from self._band(line.low, line.high)
            path = " ".join(self._runs(line.values))
            yield Markup('<path class="line s{}" d="{}"/>').format(number, path)
        for line in self._plot.lines:
            yield from self._marks(line)

    def _runs(self, values: Sequence[Value]) -> Iterator[str]:
        """Draw from the middle of each step to the next; what is not known leaves a gap."""
        pen_down = False
        for i, value in enumerate(values):
            if value is None:
                pen_down = pen_down and self._plot.joined
                continue
            yield f"{'L' if pen_down else 'M'}{self._x(i + 0.5)} {self._y(value)}"
            alone = not pen_down and (i + 1 == len(values) or values[i + 1] is None)
            if alone:
                yield "h0.1"
            pen_down = True

    def _band(self, low: Sequence[Value], high: Sequence[Value]) -> Iterator[Markup]:
        run: list[int] = []
        for i in range(len(low) + 1):
            if i < len(low) and low[i] is not None and high[i] is not None:
                run.append(i)
            elif run:
                upper = [f"{self._x(j + 0.5)} {self._y(high[j] or 0)}" for j in run]
                lower = [f"{self._x(j + 0.5)} {self._y(low[j] or 0)}" for j in reversed(run)]
                yield Markup('<path class="band" d="M{}Z"/>').format("L".join(upper + lower))
                run = []

    def _marks(self, line: Line) -> Iterator[Markup]:
        mark = Markup('<circle class="mark" cx="{}" cy="{}" r="4.5"><title>{}</title></circle>')
        for index, text in line.marks:
            value = line.values[index] if 0 <= index < len(line.values) else None
            if value is not None:
                yield mark.format(self._x(index + 0.5), self._y(value), text)

    def _bars(self) -> Iterator[Markup]:
        bar = Markup('<rect class="bar s{}" x="{}" y="{}" width="{}" height="{}"/>')
        for i in range(self._plot.steps):
            below = 0.0
            for number, line in enumerate(self._plot.lines):
                value = line.values[i]
                if not value:
                    continue
                top, bottom = self._y(below + value), self._y(below)
                left, right = self._x(i + _GAP / 2), self._x(i + 1 - _GAP / 2)
                yield bar.format(number, left, top, round(right - left, 1), round(bottom - top, 1))
                below += value

    def _hovers(self) -> Iterator[Markup]:
        plot = self._plot
        hover = Markup('<rect class="hover" x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>')
        height = HEIGHT - _TOP - _BOTTOM
        for i, (moment, values) in enumerate(plot.rows):
            told = [
                f"{line.name}: {text}" if len(plot.lines) > 1 else text
                for line, text in zip(plot.lines, values, strict=True)
                if line.values[i] is not None and (line.values[i] or not plot.stacked)
            ]
            if told:
                x = self._x(i)
                yield hover.format(x, _TOP, round(self._x(i + 1) - x, 1), height, "\n".join([moment, *told]))
