"""What an account of a load test has lived through: purchases of different sizes and days. The same every time."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from protocol.codes import Message

#: Lots of an account that may be asked for; half as many again are still within what the decision keeps apart.
LOTS_MAX = 256
EARN_RATE_BP = 500
_DAY_MS = 86_400_000
_ALL_BP = 10_000
#: Minor points of an account: between 500 and 50,000 points, and the most for the first, which measurements empty.
_BALANCE_MIN, _BALANCE_MAX = 50_000, 5_000_000
_OLDEST_DAYS, _NEWEST_DAYS = 700, 1
_EXPIRY_DAYS_MIN, _EXPIRY_DAYS_MAX = 30, 730
_NEVER_SHARE = 0.2
#: So many histories differ from each other, at least.
_VARIETY = 48
_PAIR_MS = 600_000


@dataclass(frozen=True, slots=True)
class Step:
    """One request of the past: EARN on `amount`, whose points last until `expiry_day` (0: no end), or REDEEM `points`.

    Points and money are minor units, `at_ms` is milliseconds and `expiry_day` days since 1970.
    """

    op: Message
    at_ms: int
    amount: int = 0
    expiry_day: int = 0
    points: int = 0


def variety(lots: int) -> int:
    """Return how many different histories there are for accounts of so many lots on average."""
    cycle = 2 * (lots // 2) + 1
    return cycle * -(-_VARIETY // cycle)


def history(kind: int, lots: int, entries: int, now_ms: int) -> list[Step]:
    """Return history number `kind` of `variety(lots)`, oldest step first.

    Over all kinds an account has `lots` lots. Where the purchases behind them are fewer than `entries`, pairs of an
    older purchase and the spending of its points make up for it.
    """
    dice = random.Random(kind)  # noqa: S311 - it is to be the same every time
    spread = lots // 2
    own_lots = lots + (kind + spread) % (2 * spread + 1) - spread
    pairs = max(0, -(-(entries - own_lots) // 2))
    return [*_spent_again(dice, pairs, now_ms), *_purchases(dice, kind, own_lots, now_ms)]


def _spent_again(dice: random.Random, pairs: int, now_ms: int) -> Iterator[Step]:
    before_ms = now_ms - (_OLDEST_DAYS + 1) * _DAY_MS
    for pair in range(pairs, 0, -1):
        at_ms = before_ms - 2 * pair * _PAIR_MS
        points = dice.randint(10, 500) * 100
        # It would have expired long ago if it had not been spent.
        expiry_day = at_ms // _DAY_MS + _EXPIRY_DAYS_MIN
        yield Step(Message.EARN, at_ms, _amount_for(points), expiry_day)
        yield Step(Message.REDEEM, at_ms + _PAIR_MS, points=points)


def _purchases(dice: random.Random, kind: int, lots: int, now_ms: int) -> Iterator[Step]:
    balance = int(_BALANCE_MIN * (_BALANCE_MAX / _BALANCE_MIN) ** dice.random()) if kind else _BALANCE_MAX
    weights = [dice.uniform(0.2, 1.8) for _ in range(lots)]
    ages = sorted(dice.sample(range(_NEWEST_DAYS, _OLDEST_DAYS + 1), lots), reverse=True)
    for weight, age in zip(weights, ages, strict=True):
        points = max(1, int(balance * weight / sum(weights)))
        left_days = dice.randint(_EXPIRY_DAYS_MIN, _EXPIRY_DAYS_MAX)
        expiry_day = 0 if dice.random() < _NEVER_SHARE else now_ms // _DAY_MS + left_days
        at_ms = now_ms - age * _DAY_MS
        yield Step(Message.EARN, at_ms, _amount_for(points), expiry_day)


def _amount_for(points: int) -> int:
    """Return the money that earns so many points."""
    return points * _ALL_BP // EARN_RATE_BP
