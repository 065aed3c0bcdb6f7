"""The name a member is greeted with: encrypted in PostgreSQL, in clear only here, briefly, and in the answer."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from ledger.clock import Clock
from ledger.journal.reader import Reader
from ledger.registry.secrecy import Cipher, Unreadable


def encrypt(key: bytes, account: int, name: str) -> bytes:
    """Return the name as it is stored: encrypted, bound to the account."""
    return Cipher(key).encrypt(name.encode(), account.to_bytes(8, "big"))


def decrypt(key: bytes, account: int, stored: bytes) -> str | None:
    """Return the name of what `encrypt` returned; None for one under another key, or cut off."""
    return _decrypted(Cipher(key), account, stored)


def _decrypted(cipher: Cipher, account: int, stored: bytes) -> str | None:
    try:
        return cipher.decrypt(stored, account.to_bytes(8, "big")).decode()
    except (Unreadable, UnicodeDecodeError):
        # Such a name is as good as none: a greeting is a courtesy, no reason to fail.
        return None


class Greetings:
    """Reads and remembers greeting names."""

    def __init__(self, reader: Reader, key: bytes, clock: Clock, *, names_max: int, age_s: float) -> None:
        self._reader = reader
        self._clock = clock
        self._cipher = Cipher(key)
        self._names_max = names_max
        self._age_s = age_s
        self._names: OrderedDict[int, tuple[float, str | None]] = OrderedDict()

    async def names(self, accounts: Sequence[int]) -> dict[int, str | None]:
        """Return the names of those accounts that have one. Raises JournalDown."""
        now = self._clock.monotonic_s()
        fresh = {a: self._names[a][1] for a in accounts if a in self._names and self._names[a][0] > now - self._age_s}
        missing = [a for a in accounts if a not in fresh]
        if missing:
            stored = await self._reader.greetings(missing)
            for account in missing:
                fresh[account] = self._decrypt(account, stored.get(account))
                self._names[account] = (now, fresh[account])
                self._names.move_to_end(account)
            while len(self._names) > self._names_max:
                self._names.popitem(last=False)
        return fresh

    def _decrypt(self, account: int, blob: bytes | None) -> str | None:
        return None if blob is None else _decrypted(self._cipher, account, blob)
