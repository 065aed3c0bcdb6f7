"""What the HTTP layer is built on: given once, when the application is made."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from admin_api.process import Process
from admin_api.security.guard import Guard
from ledger.clock import Clock
from ledger.operator_desk import OperatorDesk
from ledger.programme import Programme
from ledger.registry.registry import Registry


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys that the office needs, 32 bytes each; relays' keys are derived from the last one."""

    token_key: bytes = field(repr=False)
    personal_key: bytes = field(repr=False)
    relay_master: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class OfficeLimits:
    """Every bound of the HTTP layer, with its unit in its name; most of them are settings."""

    #: Minor points that one person may give and take on an account in a day; more needs another person.
    adjust_alone_points_max: int = 100_000
    #: A session ends after so much silence, and at last after so long.
    session_idle_s: int = 1_800
    session_s: int = 43_200
    invitation_s: int = 86_400
    member_token_s_max: int = 86_400
    #: How long the answer to a POST is remembered under its Idempotency-Key.
    idempotency_s: int = 86_400
    #: Requests of one actor a minute, and attempts to sign in of one address a minute.
    requests_per_minute_max: int = 1_200
    sign_ins_per_minute_max: int = 10
    #: Wrong passwords in a row until a user is locked out, and for how long.
    failures_max: int = 8
    lockout_s: int = 900
    token_days_max: int = 366
    body_bytes_max: int = 1_048_576
    #: Streams of live figures open at once.
    streams_max: int = 32
    page_rows_max: int = 200
    batch_cards_max: int = 100_000
    # The rest are no settings, because no installation is better off with others; tests are in more of a hurry.
    #: How long a repetition waits for the first request to end, and after which silence that one is given up as dead.
    idempotency_wait_s: float = 2.0
    idempotency_takeover_s: int = 15
    #: No answer to a failed attempt to sign in comes earlier than this.
    sign_in_failed_s: float = 0.5


class Proofs(Protocol):
    """Proves the books on demand, in a process of its own."""

    def start(self) -> str:
        """Begin, unless one is running; return its id."""

    def state(self) -> dict[str, Any]:
        """Return id, state (none, running, clean, not clean, failed), accounts done and in all, and the findings."""


class Installation(Process, Protocol):
    """The running installation, as far as operators may act on it."""

    def drain(self) -> None:
        """Stop serving in an orderly way: registers are told to go, the process ends."""

    def events(self) -> AsyncGenerator[Mapping[str, Any]]:
        """Yield what `health` tells about once a second, until this process ends."""


class Records(Protocol):
    """As much of the office as it takes to keep the registry: nothing that needs the ledger or a running server.

    An `Office` is one, and so is what the command line on the host has.
    """

    @property
    def registry(self) -> Registry:
        """Where it is kept."""

    @property
    def limits(self) -> OfficeLimits:
        """What bounds it."""

    @property
    def clock(self) -> Clock:
        """The time of entries."""


@dataclass(frozen=True, slots=True)
class Office:
    """Everything that endpoints and pages use."""

    registry: Registry
    desk: OperatorDesk
    keys: Keys
    limits: OfficeLimits
    clock: Clock
    installation: Installation
    proofs: Proofs
    #: Where people reach the console, as in "https://tillwire.example.com": what links are made from.
    console_url: str = ""
    #: Where registers connect, as in "tills.example.com:7411", for people who set one up; empty if nobody knows.
    registers_at: str = ""
    #: What remembers attempts and knows passwords.
    guard: Guard = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "guard", Guard(self.limits, self.keys, self.clock))

    @property
    def programme(self) -> Programme:
        """The programme in force."""
        return self.desk.programme
