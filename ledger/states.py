"""An account's state array from the outside: where its fields stand, its first value, its packed form.

What the fields mean, and everything that changes them, is in ledger/lua/state.lua and its neighbours.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ledger.hot_store import pack

ACCOUNT, SEQ, STATUS, BALANCE, HELD, OWED, LOTS, HOLDS, TOKENS, RING, FORGOT = range(11)
LENGTH = 14
#: Requests that the ring remembers (ledger/lua/entry.lua).
RING_MAX = 8


def first_state(account: int, tokens: Iterable[tuple[bytes, int]]) -> bytes:
    """Return the packed state of a new account with its cards as (16-byte token, status)."""
    state: list[Any] = [account, 0, 0, 0, 0, 0, [], [], [[token, status] for token, status in tokens], [], 0, 0, 0, 0]
    return pack(state)
