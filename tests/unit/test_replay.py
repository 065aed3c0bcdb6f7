import asyncio
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from ledger.verify import Verified
from protocol.answers import Balance
from protocol.codes import Outcome
from protocol.requests import Card, Receipt
from protocol.ticket import NoAnswer, Reply
from server.errors import OperatorError, UsageError
from server.programme_setup import numbered_card
from server.replay import group, premises
from server.replay.baskets import Basket, Weeks, cents_of
from server.replay.drive import Drive, Queue, Sales
from server.replay.plan import Plan, basis_points
from server.replay.report import Report

APPROVED = Outcome.APPROVED


@pytest.mark.parametrize(
    ("value", "cents"),
    [
        (0.0, 0),
        (0.5, 50),
        (1.39, 139),
        (840.0, 84_000),
        (0.285, 29),  # as a binary fraction it is 0.28499999...
        (1.005, 101),
        (2.675, 268),
        (0.004999, 0),
        (1.776357e-15, 0),
        (-1.005, -101),
    ],
)
def test_a_line_is_rounded_half_up_as_the_decimal_number_it_stands_for(value: float, cents: int) -> None:
    assert cents_of(value) == cents


@pytest.mark.parametrize(
    ("cents", "available", "spent", "earned"),
    [
        (1_000, 0, 0, 50),
        (1_000, 499, 0, 50),
        (1_000, 500, 300, 35),
        (10_000, 500, 500, 475),
        (10_000, 2_999, 2_999, 350),
        (10_000, 3_001, 3_000, 350),
        (3, 500, 0, 0),
        (4, 500, 1, 0),
        (39, 0, 0, 1),
        (0, 500, 0, 0),
        (-100, 500, 0, -5),
    ],
)
def test_a_customer_spends_and_earns_by_the_plan(cents: int, available: int, spent: int, earned: int) -> None:
    plan = Plan()
    assert plan.spend(cents, available) == spent
    assert plan.earn(cents, spent) == earned


def test_percentages_are_exact_basis_points() -> None:
    assert [basis_points(text, "--earn") for text in ("0", "5", "2.5", "0.01", "100")] == [0, 500, 250, 1, 10_000]
    for text in ("-1", "100.01", "0.001", "five", "", "nan", "Infinity"):
        with pytest.raises(UsageError, match="--earn takes a percentage"):
            basis_points(text, "--earn")


def test_weeks_are_a_range_or_one() -> None:
    assert Weeks.parse("1-4") == (1, 4)
    assert Weeks.parse("7") == (7, 7)
    for text in ("", "a", "4-1", "-1-3", "1-2-3", "1.5", "1--2"):
        with pytest.raises(UsageError, match="--weeks takes"):
            Weeks.parse(text)


def test_cards_are_good_and_all_different() -> None:
    cards = {numbered_card(household).token for household in range(1, 2_501)}
    assert len(cards) == 2_500
    assert None not in cards


def test_the_queue_keeps_each_households_order_and_never_serves_it_twice_at_once() -> None:
    dice = random.Random(4)  # noqa: S311 - repeatable, nothing is secret
    baskets = [Basket(dice.randrange(7), 1, number, 100) for number in range(500)]
    queue, under_way, done = Queue(baskets), list[Basket](), list[Basket]()
    while True:
        while len(under_way) < 4 and (basket := queue.take()) is not None:
            assert basket.household not in {other.household for other in under_way}
            under_way.append(basket)
        if not under_way:
            break
        basket = under_way.pop(dice.randrange(len(under_way)))
        done.append(basket)
        queue.done(basket)
    assert sorted(basket.basket for basket in done) == list(range(500))
    for household in range(7):
        numbers = [basket.basket for basket in done if basket.household == household]
        assert numbers == sorted(numbers)


def test_the_queue_begins_with_the_earliest() -> None:
    queue = Queue([Basket(2, 1, 0, 1), Basket(2, 1, 1, 1), Basket(1, 1, 2, 1)])
    first = queue.take()
    assert first is not None
    assert first.basket == 0
    second = queue.take()
    assert second is not None
    assert second.basket == 2
    assert queue.take() is None


class Till:
    """Answers like a server that keeps one account, apart from what `spoil` does to each reply."""

    def __init__(self, spoil: dict[str, Any] | None = None) -> None:
        self.available = 0
        self.sold: list[int] = []
        self._spoil = spoil or {}

    async def balance(self, card: Card) -> Reply:
        await asyncio.sleep(0)
        return self._reply(0, 0, "balance")

    async def sale(self, card: Card, receipt: Receipt, points: int) -> Reply:
        await asyncio.sleep(0)
        self.sold.append(receipt.amount)
        earned = (receipt.amount - points) * 500 // 10_000
        self.available += earned - points
        return self._reply(points, earned, "sale")

    def _reply(self, points: int, earned: int, what: str) -> Reply:
        if self._spoil.get(what) == "silence":
            raise NoAnswer(bytes(16), "no answer in time, and no effect")
        outcome = self._spoil.get(what, APPROVED)
        wrong = self._spoil.get(f"{what} by", 0)
        balance = Balance(self.available + wrong, 0, 0, 0, 0, 0)
        return Reply(outcome, points, earned + self._spoil.get(f"{what} earns", 0), balance, (), None)


def drive(till: Till, cents: Iterable[int]) -> Sales:
    plan = Plan()
    shown: list[int] = []
    tills: Any = {1: [till]}
    driving = Drive(tills, {5: numbered_card(5)}, plan, lambda sales: shown.append(sales.baskets))
    baskets = [Basket(5, 1, number, value) for number, value in enumerate(cents)]

    async def run() -> None:
        await driving.sell(baskets, 3)
        await driving.close_books(3)

    asyncio.run(run())
    assert shown == list(range(1, len(baskets) + 1))
    return driving.sales


def test_a_drive_adds_up() -> None:
    sales = drive(Till(), [10_000, 6_000, 1_000])
    # 500 earned; 500 spent and 275 earned on the rest; 275 are too few to spend, 50 earned.
    assert (sales.earned, sales.spent, sales.balances) == (825, 500, {5: 325})
    assert (sales.requests, len(sales.latencies_us), sales.wrong) == (6, 6, [])


def test_a_basket_that_is_worth_nothing_is_no_sale() -> None:
    till = Till()
    sales = drive(till, [10_000, 0, -100])
    assert till.sold == [10_000]
    assert (sales.baskets, sales.requests, sales.balances, sales.wrong) == (3, 4, {5: 500}, [])


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        ({"balance by": 1}, "0 points should be available"),
        ({"balance": Outcome.CARD_BLOCKED}, "the balance was declined with CARD_BLOCKED"),
        ({"balance": 999}, "the balance was declined with 999"),
        ({"sale": Outcome.INSUFFICIENT}, "is INSUFFICIENT"),
        ({"sale": Outcome.APPROVED_PARTIAL}, "is APPROVED_PARTIAL"),
        ({"sale by": -1}, "500 left"),
        ({"sale earns": 1}, "501 earned"),
    ],
)
def test_a_wrong_answer_is_told(spoil: dict[str, Any], complaint: str) -> None:
    sales = drive(Till(spoil), [10_000])
    assert sales.wrong_answers > 0
    assert complaint in " ".join(sales.wrong)
    assert Report(sales, Verified()).faults[: len(sales.wrong)] == sales.wrong


def test_a_server_that_does_not_answer_ends_the_drive() -> None:
    with pytest.raises(OperatorError, match="the server did not answer"):
        drive(Till({"sale": "silence"}), [10_000])


def test_a_report_finds_what_does_not_agree() -> None:
    sales = Sales(baskets=1, requests=2, earned=30, spent=10, balances={5: 20})
    assert Report(sales, Verified(balance=20)).faults == []
    assert "the journal has 21 points" in Report(sales, Verified(balance=21)).faults[0]
    assert "1 owed" in Report(sales, Verified(balance=20, owed=1)).faults[0]
    assert Report(sales, None, "account 1, entry 2: it is bad").faults == [
        "the books are not clean: account 1, entry 2: it is bad"
    ]
    sales.earned = 31
    assert "should be outstanding" in Report(sales, Verified(balance=20)).faults[0]
    assert Report(sales, None, "bad").to_json()["verify"] == {"clean": False, "what": "bad"}


def test_a_report_is_written_as_json(tmp_path: Path) -> None:
    sales = Sales(baskets=1, requests=2, earned=30, spent=10, balances={5: 20}, elapsed_s=0.5)
    sales.latencies_us.extend([0, 1_000, 2_000])
    report = Report(sales, Verified(balance=20))
    found = report.to_json()
    assert (found["requests_per_s"], found["p50_ms"], found["p99_ms"]) == (4.0, 1.0, 2.0)
    assert found["households"] == {"5": 20}
    report.write(tmp_path / "result.json")
    with pytest.raises(OperatorError, match="cannot be written"):
        report.write(tmp_path)


def test_a_missing_group_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    group.require_group()
    monkeypatch.setattr(group, "wheel_folder", lambda name: None if name == "hdrh" else Path())
    with pytest.raises(OperatorError, match=r"hdrhistogram is not installed: .*tillwire\[replay\]"):
        group.require_group()


def test_only_a_replays_own_folder_is_emptied(tmp_path: Path) -> None:
    folder = tmp_path / "replay"
    lock = premises.take(folder)
    (folder / "postgresql").mkdir()
    (folder / "postgresql" / "old").write_text("old")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (folder / "link").symlink_to(elsewhere)
    with pytest.raises(OperatorError, match="another replay runs"):
        premises.take(folder)
    premises.empty(folder)
    assert [path.name for path in folder.iterdir()] == ["tillwire-replay.lock"]
    assert not elsewhere.exists()
    lock.close()
    premises.take(folder).close()
    with pytest.raises(OperatorError, match="not a replay's"):
        premises.take(tmp_path)
