import pytest

from admin_api.figures.bands import Band, Noise, band, marks, usual

DAY_MS = 86_400_000
STEP_MS = 600_000


def days_before(at_ms: int, days: int) -> int:
    return at_ms - days * DAY_MS


def test_the_band_follows_the_time_of_day() -> None:
    now = 10 * DAY_MS
    rhythm = {now - day * DAY_MS + i * STEP_MS: 100.0 * i for day in range(1, 8) for i in range(-1, 7)}
    found = band([now, now + 5 * STEP_MS], rhythm, STEP_MS, Noise(least=1), days_before)
    assert found.basis == "days"
    assert found.high[0] is not None
    assert found.low[1] is not None
    assert found.high[0] < 400 < found.low[1] + 1


def test_one_wild_day_does_not_widen_the_band() -> None:
    now = 10 * DAY_MS
    known = {now - day * DAY_MS: 100.0 + day for day in range(1, 8)}
    known[now - 3 * DAY_MS] = 10_000.0
    found = band([now], known, STEP_MS, Noise(), days_before)
    assert found.high[0] is not None
    assert found.high[0] < 150


def test_without_three_days_the_hours_before_count() -> None:
    now = 10 * DAY_MS
    known = {now - i * STEP_MS: 50.0 for i in range(1, 19)}
    known |= {now - day * DAY_MS: 5_000.0 for day in (1, 2)}
    found = band([now], known, STEP_MS, Noise(), days_before)
    assert found == Band([42.5], [57.5], "hours")


def test_without_enough_there_is_no_band() -> None:
    found = band([DAY_MS], {DAY_MS - STEP_MS: 5.0}, STEP_MS, Noise(), days_before)
    assert found == Band([None], [None], None)


def test_counts_may_move_as_counts_do() -> None:
    assert usual([100.0] * 9, Noise(counts=True)) == (60.0, 140.0)
    assert usual([100.0] * 9, Noise()) == (85.0, 115.0)


def test_a_band_never_goes_below_nought() -> None:
    assert usual([0.0, 1.0, 0.0], Noise(least=5)) == (0.0, 5.0)


@pytest.mark.parametrize("gap", [None, 10.0])
def test_each_run_outside_the_band_is_one_mark_with_its_worst_value(gap: float | None) -> None:
    steps = [i * STEP_MS for i in range(7)]
    values = [10.0, 30.0, 50.0, 40.0, gap, 30.0, 1.0]
    found = marks(steps, values, Band([5.0] * 7, [20.0] * 7, "days"), STEP_MS)
    assert [(m.from_ms, m.until_ms, m.value, m.side) for m in found] == [
        (STEP_MS, 4 * STEP_MS, 50.0, "above"),
        (5 * STEP_MS, 6 * STEP_MS, 30.0, "above"),
        (6 * STEP_MS, 7 * STEP_MS, 1.0, "below"),
    ]


def test_what_has_no_band_has_no_mark() -> None:
    assert marks([0], [1e9], Band([None], [None], None), STEP_MS) == []
