from collections import Counter

import pytest

from protocol.codes import Message
from server.population.filling import _ids
from server.population.history import EARN_RATE_BP, Step, history, variety

DAY_MS = 86_400_000
NOW_MS = 20_000 * DAY_MS + 12_345


def purchases(steps: list[Step]) -> list[Step]:
    """The purchases whose points are still there."""
    return [step for step in steps if step.op == Message.EARN and (step.expiry_day or 99_999) > NOW_MS // DAY_MS]


@pytest.mark.parametrize("lots", [1, 2, 6, 7, 100])
def test_accounts_have_as_many_lots_as_asked_for_on_average_and_not_all_the_same(lots: int) -> None:
    pasts = [history(kind, lots, 0, NOW_MS) for kind in range(variety(lots))]
    counts = Counter(len(past) for past in pasts)
    assert sum(count * times for count, times in counts.items()) == lots * len(pasts)
    assert len(counts) == 2 * (lots // 2) + 1
    assert min(counts) >= 1
    for past in pasts:
        assert past == purchases(past)
        assert len({(step.at_ms // DAY_MS, step.expiry_day) for step in past}) == len(past), "two would be one lot"


def test_points_are_comfortable_and_last_for_different_times() -> None:
    pasts = [history(kind, 6, 0, NOW_MS) for kind in range(variety(6))]
    balances = [sum(step.amount * EARN_RATE_BP // 10_000 for step in past) for past in pasts]
    assert all(49_900 <= balance <= 5_000_000 for balance in balances)
    assert balances[0] > 4_990_000, "the first card is the one that many spend at once"
    assert len(set(balances)) > 40
    ends = Counter(step.expiry_day for past in pasts for step in past)
    assert 0.1 < ends.pop(0) / (6 * len(pasts)) < 0.3
    assert all(30 <= end - NOW_MS // DAY_MS <= 730 for end in ends)
    assert len(ends) > 100


def test_what_is_missing_of_a_long_journal_is_earned_and_spent_long_ago() -> None:
    for kind in range(variety(6)):
        short, long = history(kind, 6, 0, NOW_MS), history(kind, 6, 40, NOW_MS)
        assert 40 <= len(long) <= 41
        assert len(purchases(long)) == len(short)
        assert [step.at_ms for step in long] == sorted(step.at_ms for step in long)
        padding = long[: -len(short)]
        assert all(step.at_ms < short[0].at_ms for step in padding)
        for earned, spent in zip(padding[::2], padding[1::2], strict=True):
            assert (earned.op, spent.op) == (Message.EARN, Message.REDEEM)
            assert earned.amount * EARN_RATE_BP // 10_000 == spent.points > 0
            assert earned.expiry_day >= spent.at_ms // DAY_MS


def test_the_past_is_the_same_every_time() -> None:
    assert history(3, 6, 20, NOW_MS) == history(3, 6, 20, NOW_MS)
    assert history(3, 6, 20, NOW_MS) != history(4, 6, 20, NOW_MS)


def test_request_ids_come_in_their_order_and_are_spread_over_all() -> None:
    ids = [one for number in range(50) for one in _ids(number, 50, 8)]
    assert ids == sorted(ids)
    assert len(set(ids)) == 400
    assert {len(one) for one in ids} == {16}
    assert {one[0] >> 5 for one in ids} == set(range(8))
    assert ids != [one for number in range(50) for one in _ids(number, 50, 8)]
