"""One user = one register: its own terminal, connection and journal of open requests."""

from __future__ import annotations

import random
import time
from typing import ClassVar

from locust import User

from loadtests.users import rows
from loadtests.users.measured_client import MeasuredClient
from loadtests.users.open_requests import OpenRequests
from loadtests.users.options import Options
from loadtests.users.rows import Rows
from loadtests.users.terminals import terminals
from protocol.requests import Request
from protocol.retry import GivingUp
from protocol.ticket import Refused, Reply, Unanswered

_CONNECT_PATIENCE_MS = 60_000


class Register(User):
    """A register that is switched on, signs on, and says goodbye when it is stopped. What it does is its subclass's."""

    abstract = True
    label: ClassVar[str] = ""

    def on_start(self) -> None:
        """Take a terminal and connect."""
        self.options = Options.of(self.environment)
        self.open_requests = OpenRequests()
        self.report = Rows(self.environment.events.request.fire, rows.TCP, self.row_label)
        self.number = terminals().take()
        self.receipts = 0
        # Locust starts users in groups, once a second; registers are switched on one by one.
        time.sleep(random.random())  # noqa: S311 (chance, not a secret)
        self.client = self.switch_on()

    def on_stop(self) -> None:
        """Say goodbye."""
        if hasattr(self, "client"):
            self.client.close()
        if hasattr(self, "number"):
            terminals().give_back(self.number)

    def row_label(self) -> str:
        """Return what follows the names of this register's rows."""
        return self.label

    def switch_on(self) -> MeasuredClient:
        """Connect with a client that remembers nothing, and settle what the journal of open requests holds."""
        self.client = MeasuredClient(
            self.options.population, self.number, self.open_requests, self.report, tls=self.options.tls
        )
        try:
            self.client.connect(_CONNECT_PATIENCE_MS)
        except Unanswered:
            # The server wants no such terminal: that is a failure of CONNECT already.
            return self.client
        for request in self.open_requests.after_restart(self.client.new_id):
            self.ask(request)
        return self.client

    def ask(self, request: Request, giving_up: GivingUp | None = None) -> Reply | None:
        """Send a request as SPEC.md says and return its reply; None when the register gave up without an answer."""
        began_s = time.perf_counter()
        try:
            reply = self.client.request(request, giving_up=giving_up)
        except Unanswered as failure:
            self.gave_up(request, time.perf_counter() - began_s, failure)
            return None
        if reply.reversal_id is not None:
            self.report.failed(f"{request.op.name} given up", rows.REVERSED, time.perf_counter() - began_s)
            return None
        return reply

    def gave_up(self, request: Request, elapsed_s: float, failure: Unanswered) -> None:
        """Report a request that ended without an answer."""
        word = rows.error_word(failure.code) if isinstance(failure, Refused) else type(failure).__name__
        self.report.failed(f"{request.op.name} given up", word, elapsed_s)
