"""Registers that all lose their line, or their power, in the same moment, and come back."""

from __future__ import annotations

import random
import time
from typing import ClassVar

from loadtests.users.cashier import Cashier
from loadtests.users.moments import elapsed_s
from protocol.requests import SaleRequest
from protocol.ticket import Unanswered

_POWER_EVERY = 4
_THINK_S = (0.5, 3.0)
_FOR_EVER_S = 1e9


class FleetRegister(Cashier):
    """Sells until the next cut, which comes in the middle of a sale.

    Most lose the line only: the client connects again after its jitter, and sends the same sale again. Every fourth
    loses power: it starts with nothing but its journal of open requests, and reverses what stands there. `cuts` are
    shares of the test's time.
    """

    abstract = True
    cuts: ClassVar[tuple[float, ...]] = (0.4, 0.6, 0.8)

    def sell_until_the_cut(self) -> None:
        """Serve customers, then go down with one of them."""
        cut_s = self.next_cut_s()
        while (left_s := cut_s - elapsed_s()) > 0:
            self.sale()
            time.sleep(min(random.uniform(*_THINK_S), max(left_s, 0.0)))  # noqa: S311
        sale = SaleRequest(self.client.new_id(), 0, self.customer(), self.receipt(), 0, True)
        if self.number % _POWER_EVERY == 0:
            self.client.request_and_lose_power(sale)
            self.switch_on()
            return
        began_s = time.perf_counter()
        try:
            self.client.request_and_lose_line(sale)
        except Unanswered as failure:
            self.gave_up(sale, time.perf_counter() - began_s, failure)

    def next_cut_s(self) -> float:
        """Return when the next cut comes, in seconds since the beginning of the test."""
        moments = [share * self.options.seconds for share in self.cuts]
        return next((moment for moment in moments if moment > elapsed_s()), _FOR_EVER_S)

    tasks = [sell_until_the_cut]  # noqa: RUF012 (locust's own way)
