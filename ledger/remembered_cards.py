"""Which account each of many tokens leads to, in 24 bytes for each: millions of cards must fit beside a worker."""

from __future__ import annotations

from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap
from typing import Final

_TOKEN_BYTES: Final = 16
_ACCOUNT_BYTES: Final = 8
_BUCKET_ENTRIES_MAX: Final = 8


class RememberedCards:
    """Up to `entries_max` tokens of 16 bytes; a new one takes the place of the oldest in its bucket.

    Tables of fixed size: nothing grows by doubling, and the garbage collector has nothing to look at. Buckets fill
    unevenly: with half as many tokens as places one in 120 is forgotten again, with four for every five one in 15.
    """

    def __init__(self, entries_max: int) -> None:
        """Remember nothing yet."""
        self._bucket_entries = max(1, min(entries_max, _BUCKET_ENTRIES_MAX))
        self._bucket_bytes = self._bucket_entries * _TOKEN_BYTES
        self._buckets = max(1, entries_max // self._bucket_entries)
        entries = self._buckets * self._bucket_entries
        # Pages that were never written to take no memory yet.
        self._tokens = mmap(-1, entries * _TOKEN_BYTES, MAP_PRIVATE | MAP_ANONYMOUS)
        self._accounts = memoryview(mmap(-1, entries * _ACCOUNT_BYTES, MAP_PRIVATE | MAP_ANONYMOUS)).cast("Q")
        # Of each bucket the entry that is overwritten next.
        self._next = bytearray(self._buckets)

    def get(self, token: bytes) -> int | None:
        """Return the account of a token, None if it is not remembered."""
        entry = self._entry(token)
        return None if entry is None else self._accounts[entry]

    def keep(self, token: bytes, account: int) -> None:
        """Remember an account (below 2**64) for a token, instead of the one before if there was one."""
        entry = self._entry(token)
        if entry is None:
            bucket = hash(token) % self._buckets
            place = self._next[bucket]
            self._next[bucket] = (place + 1) % self._bucket_entries
            entry = bucket * self._bucket_entries + place
            self._tokens[entry * _TOKEN_BYTES : (entry + 1) * _TOKEN_BYTES] = token
        self._accounts[entry] = account

    def forget(self, token: bytes) -> None:
        """Forget a token, remembered or not."""
        entry = self._entry(token)
        if entry is not None:
            self._tokens[entry * _TOKEN_BYTES : (entry + 1) * _TOKEN_BYTES] = bytes(_TOKEN_BYTES)

    def _entry(self, token: bytes) -> int | None:
        if len(token) != _TOKEN_BYTES:
            # An operator names an account and no card, and nothing is found everywhere.
            return None
        start = hash(token) % self._buckets * self._bucket_bytes
        end = start + self._bucket_bytes
        at = self._tokens.find(token, start, end)
        while at % _TOKEN_BYTES and at > 0:
            # The same bytes by chance, across two tokens.
            at = self._tokens.find(token, at + 1, end)
        return None if at < 0 else at // _TOKEN_BYTES
