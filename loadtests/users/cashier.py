"""What cashiers do at a register, as tasks; a profile says how often each."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from locust import TaskSet

from loadtests.users.register import Register
from protocol.requests import (
    BalanceRequest,
    CaptureRequest,
    Card,
    EarnRequest,
    HoldRequest,
    Receipt,
    RedeemRequest,
    RefundRequest,
    ReleaseRequest,
    ReverseRequest,
    SaleRequest,
    StatusRequest,
)
from protocol.ticket import Reply

_PRICES = (250, 12_000)
_POINT = 100


def weighted(mix: dict[Callable[[Any], None], int]) -> list[TaskSet | Callable[..., Any]]:
    """Return tasks as locust wants them, each as often as its weight says."""
    return [task for task, weight in mix.items() for _ in range(weight)]


class Cashier(Register):
    """A register with a cashier. Amounts are minor units; every customer has a card of the population."""

    abstract = True

    def customer(self) -> Card:
        """Return the card of whoever comes next."""
        population = self.options.population
        return population.card(random.randrange(population.accounts))  # noqa: S311 (chance, not a secret)

    def receipt(self) -> Receipt:
        """Return the next receipt of this register."""
        self.receipts += 1
        amount = random.randint(*_PRICES)  # noqa: S311
        return Receipt(amount, self.options.population.currency, f"{self.number}-{self.receipts}")

    def balance(self) -> None:
        """Tell a customer her balance."""
        self.ask(BalanceRequest(self.client.new_id(), 0, self.customer()))

    def sale(self) -> None:
        """Sell, with points spent by every other customer."""
        points = random.choice((0, _POINT))  # noqa: S311
        self.sell(self.customer(), self.receipt(), points)

    def sell(self, card: Card, receipt: Receipt, points: int) -> Reply | None:
        """Spend and earn of one receipt."""
        return self.ask(SaleRequest(self.client.new_id(), 0, card, receipt, points, True))

    def earn(self) -> None:
        """Give points for what was paid."""
        self.ask(
            EarnRequest(self.client.new_id(), 0, self.customer(), self.receipt(), None, self.client.server_now_ms())
        )

    def redeem(self) -> None:
        """Spend points."""
        self.ask(RedeemRequest(self.client.new_id(), 0, self.customer(), _POINT, self.receipt()))

    def hold_and_capture(self) -> None:
        """Set points aside, then spend them, or let them go now and then."""
        card, receipt = self.customer(), self.receipt()
        held = self.ask(HoldRequest(self.client.new_id(), 0, card, 2 * _POINT, receipt, True))
        if held is None or not held.approved:
            return
        if random.random() < 0.1:  # noqa: S311, PLR2004 (one customer in ten puts the goods back)
            self.ask(ReleaseRequest(self.client.new_id(), 0, card, held.request_id))
        else:
            self.ask(CaptureRequest(self.client.new_id(), 0, card, held.request_id, 0, receipt))

    def cancelled_sale(self) -> None:
        """Sell, and cancel it: the reversal."""
        card = self.customer()
        sold = self.sell(card, self.receipt(), _POINT)
        if sold is not None and sold.approved:
            self.ask(ReverseRequest(self.client.new_id(), 0, card, sold.request_id))

    def goods_come_back(self) -> None:
        """Sell, and take a part back; then look at what became of the receipt."""
        card, receipt = self.customer(), self.receipt()
        sold = self.sell(card, receipt, 0)
        if sold is not None and sold.approved:
            part = receipt._replace(amount=receipt.amount // 2, reference="")
            self.ask(RefundRequest(self.client.new_id(), 0, card, sold.request_id, part))
            self.ask(StatusRequest(self.client.new_id(), 0, card, sold.request_id))
