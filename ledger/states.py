"""An account's state array from the outside: where its fields stand, its first value, its packed form.

What the fields mean, and everything that changes them, is in ledger/lua/state.lua and its neighbours.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ledger.hot_store import pack

SEQ, BALANCE, HELD, OWED, LOTS, HOLDS, TOKENS = 1, 3, 4, 5, 6, 7, 8


def first_state(account: int, tokens: Iterable[tuple[bytes, int]]) -> bytes:
    """Return the packed state of a new account with its cards as (16-byte token, status)."""
    state: list[Any] = [account, 0, 0, 0, 0, 0, [], [], [[token, status] for token, status in tokens], [], 0, 0, 0, 0]
    return pack(state)
