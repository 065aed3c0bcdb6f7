"""A stolen terminal that walks through card numbers: most are nobody's, some are not even well-formed."""

from __future__ import annotations

import time
from typing import ClassVar

from locust import constant_pacing

from loadtests.users.moments import elapsed_s
from loadtests.users.options import Options
from loadtests.users.register import Register
from protocol import tokens
from protocol.codes import CardKind
from protocol.requests import BalanceRequest, Card
from protocol.ticket import Unanswered

AT_ONCE = 16
_PAUSE_S = 0.1
_HITS_BEFORE_THE_WALK = 20
_BAD_EVERY = 4


class Thief(Register):
    """Asks for the balance of number after number, so many at once over one connection, ten times a second.

    It begins at a share of the test's time. The walk begins at the last cards of the population, so that a few numbers
    are hits. It is paced, because a thief without pause would take the processor of the very process in which the
    honest registers' times are measured.
    """

    abstract = True
    label = " (stolen)"
    begins_at: ClassVar[float] = 0.0
    wait_time = constant_pacing(_PAUSE_S)

    def on_start(self) -> None:
        """Wait for the moment, then sign on, as the stolen terminal can."""
        seconds = Options.of(self.environment).seconds
        time.sleep(max(0.0, self.begins_at * seconds - elapsed_s()))
        super().on_start()
        self.walked = max(0, self.options.population.accounts - _HITS_BEFORE_THE_WALK)

    def walk(self) -> None:
        """Try the next numbers."""
        asked = [BalanceRequest(self.client.new_id(), 0, self.card(self.walked + step)) for step in range(AT_ONCE)]
        self.walked += AT_ONCE
        for request, reply in zip(asked, self.client.request_many(asked), strict=True):
            if isinstance(reply, Unanswered):
                self.gave_up(request, 0.0, reply)

    def card(self, number: int) -> Card:
        """Return a card to try, of an account or beyond; every fourth has a wrong check digit, as guesses have."""
        first12 = f"2{self.options.population.first_card + number:011d}"
        digit = int(tokens.ean13_check_digit(first12)) + (number % _BAD_EVERY == 0)
        return Card(CardKind.EAN13, f"{first12}{digit % 10}")

    tasks = [walk]  # noqa: RUF012 (locust's own way)
