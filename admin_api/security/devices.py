"""Browsers that a user signed in from before, so that a stranger's failures lock strangers out and not the user.

Such a browser keeps a cookie that only this installation can have made. Attempts with it are counted apart from all
others, so they go on while the user is locked for everybody else, and they have a bound of their own.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from ledger.clock import Clock
from ledger.registry.secrecy import derived_key

DEVICE_S = 180 * 86_400
_RANDOM_BYTES = 16
_MAC_BYTES = 24
_REMEMBERED_MAX = 10_000


class Devices:
    """Makes and knows the cookies. Failures are remembered in memory, for a bounded number of devices."""

    def __init__(self, personal_key: bytes, clock: Clock, *, failures_max: int, lockout_s: int) -> None:
        self._key = derived_key(personal_key, b"devices that users signed in from")
        self._clock = clock
        self._failures_max = failures_max
        self._lockout_s = lockout_s
        self._failures: OrderedDict[bytes, tuple[int, float]] = OrderedDict()

    def cookie(self, user: Mapping[str, Any]) -> str:
        """Return the cookie for a user who has just signed in; it is worth nothing once the password is another."""
        random = os.urandom(_RANDOM_BYTES)
        return base64.urlsafe_b64encode(random + self._mac(random, user)).decode()

    def count_attempt(self, cookie: str, user: Mapping[str, Any] | None) -> bool:
        """Count an attempt from a device of this user; False when it is none, or has failed too often lately."""
        try:
            decoded = base64.urlsafe_b64decode(cookie)
        except ValueError:
            return False
        random, mac = decoded[:_RANDOM_BYTES], decoded[_RANDOM_BYTES:]
        if user is None or not hmac.compare_digest(mac, self._mac(random, user)):
            return False
        now_s = self._clock.monotonic_s()
        count, since_s = self._failures.get(mac, (0, now_s))
        if now_s - since_s > self._lockout_s:
            count, since_s = 0, now_s
        if count >= self._failures_max:
            return False
        self._failures[mac] = (count + 1, since_s)
        self._failures.move_to_end(mac)
        while len(self._failures) > _REMEMBERED_MAX:
            self._failures.popitem(last=False)
        return True

    def _mac(self, random: bytes, user: Mapping[str, Any]) -> bytes:
        bound_to = f"{user['user_id']} {user['password_hash']}".encode()
        return hashlib.blake2b(random + bound_to, key=self._key, digest_size=_MAC_BYTES).digest()
