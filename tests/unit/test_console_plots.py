import re
from datetime import UTC, datetime
from xml.etree import ElementTree as ET

import pytest

from admin_api.console.plots import Line, Plot, nice_ticks, time_ticks
from admin_api.figures.bands import Value

HOUR_MS = 3_600_000
_OFFSET_MS = 3 * HOUR_MS


def plot(*lines: Line, stacked: bool = False, joined: bool = False) -> Plot:
    return Plot(
        "name", "A <title>", 0, 60_000, lines, "{:g}".format, lambda value, _: f"{value:g}", str,
        lambda at_ms, _: str(at_ms), stacked=stacked, joined=joined,
    )  # fmt: skip


def drawn(made: Plot) -> ET.Element:
    return ET.fromstring(str(made.svg()))  # noqa: S314 - made here


def paths(made: Plot) -> list[str]:
    return [element.attrib["d"] for element in drawn(made).iter("path") if "line" in element.attrib["class"]]


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 0, [0, 1]),
        (0, 10, [0, 5, 10]),
        (0, 7, [0, 2, 4, 6, 8]),
        (98, 101, [98, 99, 100, 101]),
        (0, 0.3, [0, 0.1, 0.2, 0.3]),
        (445_000, 445_000, [400_000, 450_000, 500_000]),
    ],
)
def test_ticks_are_round_and_reach_around_the_values(low: float, high: float, ticks: list[float]) -> None:
    assert nice_ticks(low, high) == ticks


def test_days_begin_at_local_midnight_on_the_axis() -> None:
    ticks, gap = time_ticks(0, 5 * 24 * HOUR_MS, _OFFSET_MS)
    assert gap == 24 * HOUR_MS
    assert {datetime.fromtimestamp((at + _OFFSET_MS) / 1_000, UTC).hour for at in ticks} == {0}


def test_what_is_not_known_leaves_a_gap_unless_values_come_now_and_then() -> None:
    values: list[Value] = [1, 2, None, 3, 4]
    assert [paths(plot(Line("a", values), joined=joined))[0].count("M") for joined in (False, True)] == [2, 1]


def test_titles_are_written_as_text() -> None:
    made = plot(Line('b"<i>', [1]), Line("c", [2]))
    assert drawn(made).attrib["aria-label"] == "A <title>"
    assert "<i>" not in str(made.svg())


def test_there_is_no_style_that_the_policy_forbids() -> None:
    made = plot(Line("a", [1, 2], [0, 0], [3, 3], [(1, "mark")]))
    assert not re.search(r"\sstyle=|<style|\son\w+=", str(made.svg()))


def test_bars_stand_on_each_other_and_say_what_they_are() -> None:
    made = plot(Line("a", [1, 0]), Line("b", [2, 5]), stacked=True)
    bars = [element for element in drawn(made).iter("rect") if "bar" in element.attrib["class"]]
    assert len(bars) == 3
    assert float(bars[1].attrib["y"]) + float(bars[1].attrib["height"]) == pytest.approx(float(bars[0].attrib["y"]))
    titles = [element.text for element in drawn(made).iter("title")]
    assert titles == ["0\na: 1\nb: 2", "60000\nb: 5"]


def test_a_band_far_above_does_not_flatten_the_values() -> None:
    made = drawn(plot(Line("a", [4, 4], [0, 0], [1_000, 1_000])))
    assert [element.text for element in made.iter("text") if element.attrib["class"] == "y"][-1] == "6"


def test_the_table_says_everything_that_the_picture_says() -> None:
    assert plot(Line("a", [1, None])).rows == [("0", ["1"]), ("60000", ["\N{EN DASH}"])]
    assert plot(Line("a", [None, None])).empty
    assert plot(Line("a", [0, 0]), stacked=True).empty
