"""Who works with the admin API: an operator's desk, a dashboard, members' apps. All ask with the one admin token.

Without such a token (`--admin-token`) a test has none of these users.
"""

from __future__ import annotations

import random
import secrets
import time
from typing import Any, Final

from locust import User, between, constant_pacing, events
from locust.env import Environment
from locust.runners import WorkerRunner

from loadtests.users import rows
from loadtests.users.office_client import OfficeClient, Told
from loadtests.users.options import Options
from loadtests.users.rows import Rows

_ENTRIES: Final = {"limit": 20}
_HOUR_MS = 3_600_000
_POINT = 100
_ASKS_AFTER_A_RECEIPT = 0.5
_IS_ADJUSTED = 0.15
_HOUR_EVERY = 6
_SOMEBODY_ELSE = 0.2
_TOKEN_S = 3_600


class OfficeUser(User):
    """Somebody with the admin token and a connection to the HTTP layer."""

    abstract = True

    def on_start(self) -> None:
        """Prepare the connection; it is opened by the first request."""
        self.options = Options.of(self.environment)
        self.office = OfficeClient(
            self.options.admin_url,
            self.options.admin_token,
            Rows(self.environment.events.request.fire, rows.HTTP),
        )
        # Users start in groups, once a second; people do not.
        time.sleep(random.random())  # noqa: S311 (chance, not a secret)

    def on_stop(self) -> None:
        """Close the connection."""
        if hasattr(self, "office"):
            self.office.close()

    def found_account(self) -> int | None:
        """Find a card of the population by its number; return its account."""
        population = self.options.population
        card = population.card(random.randrange(population.accounts))  # noqa: S311
        found = self.office.post("/v1/cards/find", {"text": card.value})
        items = found.body["items"] if found is not None else []
        return int(items[0]["account_id"]) if items else None


class OperatorsDesk(OfficeUser):
    """An operator on the phone: one caller after the other, with the questions that callers have."""

    abstract = True
    wait_time = between(2, 8)

    def caller(self) -> None:
        """Find the card, read the account and what happened; look after a receipt; now and then give points."""
        account = self.found_account()
        if account is None:
            return
        self.office.get("/v1/accounts/{account_id}", account_id=account)
        entries = self.office.get("/v1/accounts/{account_id}/entries", query=_ENTRIES, account_id=account)
        if entries is not None and random.random() < _ASKS_AFTER_A_RECEIPT:  # noqa: S311
            self.what_became(entries)
        if random.random() < _IS_ADJUSTED:  # noqa: S311
            self.adjust(account)

    def what_became(self, entries: Told) -> None:
        """Ask what became of the last request in a history."""
        asked: list[Any] = [entry["request_id"] for entry in entries.body["items"] if entry["request_id"]]
        if asked:
            self.office.get("/v1/requests/{request_id}", request_id=asked[0])

    def adjust(self, account: int) -> None:
        """Give points, and ask for it a second time as if the answer were lost."""
        route, key = "/v1/accounts/{account_id}/adjustments", secrets.token_hex(16)
        asked = {"points": _POINT, "reason": "load test"}
        first = self.office.post(route, asked, key=key, account_id=account)
        if first is not None:
            self.office.post(route, asked, key=key, first=first, account_id=account)

    tasks = [caller]  # noqa: RUF012 (locust's own way)


class Dashboard(OfficeUser):
    """A screen on a wall: figures and the state of the installation every five seconds, the last hour now and then."""

    abstract = True
    wait_time = constant_pacing(5)

    def on_start(self) -> None:
        """Be switched on: the first look is at everything."""
        super().on_start()
        self.looks = 0

    def look(self) -> None:
        """Refresh."""
        self.office.get("/v1/figures/now")
        self.office.get("/v1/operations/live")
        if self.looks % _HOUR_EVERY == 0:
            now_ms = int(time.time() * 1_000)
            self.office.get("/v1/figures", query={"from_ms": now_ms - _HOUR_MS, "to_ms": now_ms})
        self.looks += 1

    tasks = [look]  # noqa: RUF012 (locust's own way)


class MembersApp(OfficeUser):
    """The app of a chain in the hands of one member after the other.

    The chain's server, which has the admin token, registers the member and fetches a token; the app asks with that one.
    """

    abstract = True
    wait_time = between(3, 10)

    def on_start(self) -> None:
        """Be installed; nobody is signed in yet."""
        super().on_start()
        self.member_token = ""

    def show(self) -> None:
        """Show a member's own data, balance and history."""
        if not self.member_token or random.random() < _SOMEBODY_ELSE:  # noqa: S311
            self.member_token = self.signed_in()
        if not self.member_token:
            return
        for route in ("/v1/me", "/v1/me/balance"):
            self.office.get(route, token=self.member_token)
        self.office.get("/v1/me/entries", query=_ENTRIES, token=self.member_token)

    def signed_in(self) -> str:
        """Register somebody, unless that was done already, and return a token for the account; empty if it failed."""
        account = self.found_account()
        if account is None:
            return ""
        member = {"personal": {"given_name": "Load", "family_name": "Test"}, "account_id": account}
        if self.office.post("/v1/members", member, answers=("conflict",)) is None:
            return ""
        made = self.office.post("/v1/member-tokens", {"account_id": account, "seconds": _TOKEN_S})
        return "" if made is None else str(made.body["token"])

    tasks = [show]  # noqa: RUF012 (locust's own way)


def _stay_away(environment: Environment, **_told: Any) -> None:
    """Leave out whoever needs a token that was not given; a worker plays whatever its master asks for."""
    if not isinstance(environment.runner, WorkerRunner) and not Options.of(environment).admin_token:
        environment.user_classes = [user for user in environment.user_classes if not issubclass(user, OfficeUser)]


events.init.add_listener(_stay_away)
