"""How long a relay waits for the answer to an advice before it sends it again."""

import pytest

from server.relay.patience import LONGEST_S, SHORTEST_S, Patience


def test_before_the_first_answer_it_waits_longest() -> None:
    assert Patience().limit_s == LONGEST_S


def test_quick_answers_make_it_impatient_within_bounds() -> None:
    patience = Patience()
    for _ in range(100):
        patience.took(0.01)
    assert patience.limit_s == SHORTEST_S


def test_slow_answers_are_waited_for_and_longer_than_they_take() -> None:
    patience = Patience()
    for number in range(200):
        patience.took(3.0 + number % 2)
    assert 4.0 < patience.limit_s < LONGEST_S


def test_headquarters_that_becomes_slow_is_believed_at_once_and_never_beyond_the_bound() -> None:
    patience = Patience()
    for _ in range(100):
        patience.took(0.01)
    patience.took(2.0)
    assert patience.limit_s > SHORTEST_S
    for _ in range(100):
        patience.took(60.0)
    assert patience.limit_s == LONGEST_S


@pytest.mark.parametrize("seconds", [3.0, 4.0, 6.0, 9.0])
def test_headquarters_that_slows_down_beyond_the_limit_is_asked_again_a_few_times_and_then_waited_for(
    seconds: float,
) -> None:
    patience = Patience()
    for _ in range(100):
        patience.took(0.01)
    repeated = 0
    for _ in range(100):
        if seconds > patience.limit_s:
            # The answer comes to a request that has been sent again: nobody knows to which copy.
            repeated += 1
            patience.ran_out()
        else:
            patience.took(seconds)
    assert repeated <= 3
    assert patience.limit_s > seconds


def test_no_answers_at_all_are_waited_for_up_to_the_bound_until_there_is_one() -> None:
    patience = Patience()
    patience.took(0.01)
    for _ in range(10):
        patience.ran_out()
    assert patience.limit_s == LONGEST_S
    patience.took(0.01)
    assert patience.limit_s == SHORTEST_S
