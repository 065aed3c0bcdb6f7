"""Registers that all lose their line, or their power, in the same moment, and come back."""

from __future__ import annotations

import math
import random
import time
from typing import ClassVar

from loadtests.users.cashier import Cashier
from loadtests.users.moments import elapsed_s
from protocol.requests import SaleRequest
from protocol.ticket import Unanswered

_POWER_EVERY = 4
_THINK_S = (0.5, 3.0)


class FleetRegister(Cashier):
    """Sells until the next cut, which comes in the middle of a sale.

    Most lose the line only: the client connects again after its jitter, and sends the same sale again. Every fourth
    loses power: it starts with nothing but its journal of open requests, and reverses what stands there. `cuts` are
    shares of the test's time.
    """

    abstract = True
    cuts: ClassVar[tuple[float, ...]] = (0.4, 0.6, 0.8)

    def on_start(self) -> None:
        """Sign on; what was cut before that does not concern this register."""
        super().on_start()
        self.cut_s = self.next_cut_s()

    def wait_time(self) -> float:
        """Return how long until the next customer, or the cut if that comes first, in seconds."""
        return max(0.0, min(random.uniform(*_THINK_S), self.cut_s - elapsed_s()))  # noqa: S311

    def serve(self) -> None:
        """Serve a customer; if the cut has come, go down with her."""
        if elapsed_s() < self.cut_s:
            self.sale()
            return
        self.cut_s = self.next_cut_s()
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
        return next((moment for moment in moments if moment > elapsed_s()), math.inf)

    tasks = [serve]  # noqa: RUF012 (locust's own way)
