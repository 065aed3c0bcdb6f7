"""What is measured in turns."""

from loadtests.bench.pairs import Pairs, in_turns


def test_each_case_is_compared_with_what_was_measured_just_before_it() -> None:
    told: list[str] = []
    cases, others = iter((90.0, 30.0, 40.0)), iter((100.0, 30.0, 80.0))

    def case() -> float:
        told.append("case")
        return next(cases)

    def other() -> float:
        told.append("other")
        return next(others)

    # Between the pairs the machine slowed down: the median of the ratios is not the ratio of the medians.
    assert in_turns(3, case, other) == Pairs(40.0, 80.0, 0.9)
    assert told == ["other", "case"] * 3
