"""What headquarters told last of each card; written a little later, because a lost one is only an older one."""

from __future__ import annotations

import asyncio
from typing import Final

from protocol.answers import Balance
from server.relay.store import Store
from server.relay.store_errors import StoreFailed, StoreFull
from server.relay.store_rows import KnownBalance

_WRITE_EVERY_S: Final = 1.0
_WAITING_MAX: Final = 10_000
"""Cards whose balance waits to be written; those of more are not remembered."""


class Balances:
    """The last known balances, by the store's hash of the card."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: dict[bytes, KnownBalance] = {}

    def note(self, card: bytes, balance: Balance, at_ms: int) -> None:
        """Remember what headquarters just told; `at_ms` is its own time."""
        if card in self._waiting or len(self._waiting) < _WAITING_MAX:
            self._waiting[card] = KnownBalance(balance, at_ms)

    async def known(self, card: bytes) -> KnownBalance | None:
        """Return the last known balance. Raises StoreFailed."""
        return self._waiting.get(card) or await self._store.balance(card)

    async def run(self) -> None:
        """Write what waits, until cancelled, and then once more."""
        try:
            while True:
                await asyncio.sleep(_WRITE_EVERY_S)
                await self.write()
        finally:
            await self.write()

    async def write(self) -> None:
        """Write what waits; what cannot be written waits on."""
        written = dict(self._waiting)
        if not written:
            return
        try:
            await self._store.note_balances(written)
        except (StoreFailed, StoreFull):
            return
        for card, known in written.items():
            if self._waiting.get(card) is known:
                del self._waiting[card]
