"""The arithmetic of the benchmark's goals, and that every figure has one name and one meaning."""

import math

import pytest

from loadtests.bench.figures import Figures, meaning
from loadtests.bench.goals import GOALS, PEAK, Verdict, judge

MEASURED = {
    "redeem_64_per_s": 20_000.0,
    "redeem_256_per_s": 36_000.0,
    "redeem_1000_per_s": 40_000.0,
    "redeem_256_p99_ms": 12.0,
    "redeem_256_p999_ms": 36.0,
    "pgbench_best_per_s": 12_000.0,
    "pgbench_postgresql_us_per_transaction": 120.0,
    "pgbench_half_peak_p99_ms": 10.0,
    "ceiling_script_per_s": 60_000.0,
    "server_us_per_redeem": 20.0,
    "valkey_us_per_redeem": 14.0,
    "postgresql_us_per_redeem": 14.0,
    "batch_cycle_mean_ms": 4.0,
    "open_50_p99_ms": 9.0,
    "tls_to_plain_in_turns": 0.75,
    "growth_to_small_in_turns": 0.9,
    "goodput_overload_3x_per_s": 30_000.0,
    "redis_bytes_per_account": 410.0,
}
EXPECTED = {
    "redeem_256_to_pgbench_best": (3.0, Verdict.MET),
    "redeem_256_to_ceiling_script": (0.6, Verdict.MET),
    "cpu_per_redeem_to_pgbench_postgresql": (0.4, Verdict.MET),
    "p99_256_to_batch_cycle": (3.0, Verdict.MET),
    "p999_256_to_p99_256": (3.0, Verdict.MET),
    "open_50_p99_to_pgbench_half_peak_p99": (0.9, Verdict.MET),
    "tls_to_plain": (0.75, Verdict.MISSED),
    "growth_to_small": (0.9, Verdict.MET),
    # The peak is that of 1,000 registers.
    "goodput_overload_to_peak": (0.75, Verdict.MISSED),
    "redis_bytes_per_account": (410.0, Verdict.MISSED),
}


def figures_of(values: dict[str, float]) -> Figures:
    figures = Figures()
    for name, value in values.items():
        figures.put(name, value)
    return figures


def test_each_goal_is_computed_from_its_figures() -> None:
    found = {one.goal.name: one for one in judge(figures_of(MEASURED))}
    assert next(iter(found)) == "redeem_256_to_pgbench_best"
    assert {name: one.verdict for name, one in found.items()} == {name: v for name, (_, v) in EXPECTED.items()}
    for name, (value, _) in EXPECTED.items():
        assert found[name].value == pytest.approx(value)


@pytest.mark.parametrize("missing", sorted(MEASURED))
def test_a_goal_is_not_judged_without_all_of_its_figures(missing: str) -> None:
    all_but_one = {name: value for name, value in MEASURED.items() if name != missing}
    for one in judge(figures_of(all_but_one)):
        needed = {*one.goal.above, one.goal.below}
        assert (one.verdict is Verdict.NOT_MEASURED) == (missing in needed), one.goal.name
        assert (one.value is None) == (one.distance is None) == (one.distance_text == "") == (missing in needed)


def test_without_any_figure_nothing_is_judged() -> None:
    assert {one.verdict for one in judge(Figures())} == {Verdict.NOT_MEASURED}


@pytest.mark.parametrize(
    ("p99_ms", "verdict", "distance"),
    [(9.99, Verdict.MET, "0% below the bound"), (10.0, Verdict.MISSED, "0% above the bound"),
     (15.0, Verdict.MISSED, "50% above the bound"), (4.0, Verdict.MET, "60% below the bound")],
)  # fmt: skip
def test_less_than_is_not_equal_and_the_distance_is_told(p99_ms: float, verdict: Verdict, distance: str) -> None:
    judged = judge(figures_of({"open_50_p99_ms": p99_ms, "pgbench_half_peak_p99_ms": 10.0}))
    (found,) = (one for one in judged if one.value is not None)
    assert (found.verdict, found.distance_text) == (verdict, distance)


def test_goals_rest_on_figures_that_exist() -> None:
    for goal in GOALS:
        for name in {*goal.above, goal.below} - {None, PEAK}:
            assert meaning(name), name


@pytest.mark.parametrize(("name", "value"), [("redeem_256_per_s", 2.0), ("redeem_per_s", 1.0), ("redeem_256_p99", 1.0),
                                             ("tls_256_per_s", math.nan), ("tls_256_per_s", math.inf)])  # fmt: skip
def test_a_figure_has_one_name_a_meaning_and_is_a_number(name: str, value: float) -> None:
    figures = figures_of({"redeem_256_per_s": 1.0})
    with pytest.raises(ValueError, match=name):
        figures.put(name, value)
    assert figures.values == {"redeem_256_per_s": 1.0}


def test_the_meaning_of_a_figure_names_its_number() -> None:
    told = meaning("redeem_1000_per_s")
    assert told is not None
    assert "1000 registers" in told
