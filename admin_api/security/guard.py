"""What the office remembers in memory to keep strangers out: who asks how often, and the work on passwords."""

from __future__ import annotations

from typing import Protocol

from admin_api.problem import too_many
from admin_api.security.buckets import Buckets, caller_at
from admin_api.security.codes import Codes
from admin_api.security.devices import Devices
from admin_api.security.passwords import Passwords
from ledger.clock import Clock

#: So many addresses, and so many actors, are remembered for counting their requests.
_CALLERS_MAX = 10_000


class GuardLimits(Protocol):
    """What the guard needs of the office's limits."""

    @property
    def requests_per_minute_max(self) -> int:
        """Requests of one actor, and of one address that nobody is signed in from."""

    @property
    def sign_ins_per_minute_max(self) -> int:
        """Attempts to sign in of one address."""

    @property
    def failures_max(self) -> int:
        """Wrong passwords until a lock."""

    @property
    def lockout_s(self) -> int:
        """How long the lock lasts."""


class GuardKeys(Protocol):
    """What the guard needs of the office's keys."""

    @property
    def personal_key(self) -> bytes:
        """What its own keys are derived from."""


class Guard:
    """One for each office. All methods raise a Problem (429)."""

    def __init__(self, limits: GuardLimits, keys: GuardKeys, clock: Clock) -> None:
        def buckets(per_minute_max: int) -> Buckets:
            return Buckets(clock, per_minute_max=per_minute_max, callers_max=_CALLERS_MAX)

        self.passwords = Passwords()
        self.codes = Codes(keys.personal_key)
        self.devices = Devices(keys.personal_key, clock, failures_max=limits.failures_max, lockout_s=limits.lockout_s)
        self._actors = buckets(limits.requests_per_minute_max)
        self._strangers = buckets(limits.requests_per_minute_max)
        self._sign_ins = buckets(limits.sign_ins_per_minute_max)

    def count_request(self, actor: str) -> None:
        """Count a request of somebody known."""
        _refuse(self._actors.take(actor))

    def count_stranger(self, address: str) -> None:
        """Count a request that nobody known made."""
        _refuse(self._strangers.take(caller_at(address)))

    def check_stranger(self, address: str) -> None:
        """Refuse an address that has used up what strangers may ask, and count nothing."""
        _refuse(self._strangers.look(caller_at(address)))

    def count_sign_in(self, address: str) -> None:
        """Count an attempt to sign in."""
        _refuse(self._sign_ins.take(caller_at(address)))


def _refuse(wait_s: int) -> None:
    if wait_s:
        raise too_many(f"that is too often; try again in {wait_s} seconds", wait_s)
