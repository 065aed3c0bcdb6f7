"""Every state of the model is looked at, and every rule that the product rests on is missed when it is left out."""

from dataclasses import fields, replace

import pytest

from tests.models.ownership import Rules, explore


@pytest.mark.parametrize(("points", "faults"), [(1, 2), (2, 1)])
def test_no_reachable_state_breaks_a_promise(points: int, faults: int) -> None:
    explored = explore(points=points, faults=faults)
    assert explored.way == ()
    assert explored.states > 10_000


@pytest.mark.parametrize("rule", [field.name for field in fields(Rules)])
def test_every_rule_is_needed(rule: str) -> None:
    assert explore(replace(Rules(), **{rule: False}), points=1, faults=2).way
