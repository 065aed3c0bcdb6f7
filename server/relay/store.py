"""The relay's store: one SQLite file of what must not be lost, written by one thread that commits in groups.

What gathers while a commit is under way is the next transaction. All sqlite3 is in `store*` of this package.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from server.relay.store_rows import (
    Advice,
    Allowance,
    Conflict,
    Finish,
    KnownBalance,
    Queued,
    Remembered,
    StoreLimits,
    Taken,
)


class Store:
    """What one relay keeps on its disk. Its methods belong to one event loop; only its thread touches the file.

    `known`, `queued` and `reversed` are looked at for every request, so they are in memory: the ids that the relay
    answered itself; those of them that wait for headquarters, oldest first, with when they were taken (ms); and the
    (request, card) pairs that a REVERSE of the relay's own names.
    Methods that wait raise StoreFailed, and StoreFull where a limit is reached.
    """

    known: set[bytes]
    queued: Mapping[bytes, int]
    reversed: set[tuple[bytes, bytes]]
    conflicts: int
    failing: str | None
    """Why the last write failed; None as soon as one succeeds."""

    @classmethod
    async def open(cls, folder: Path, limits: StoreLimits) -> Self:
        """Open or make the store in a folder, which is made too. Raises StoreUnusable (an OperatorError)."""
        raise NotImplementedError

    async def close(self) -> None:
        """Finish what is under way and let go of the folder; may be called twice."""
        raise NotImplementedError

    def hash(self, token: str) -> bytes:
        """Return what stands for a canonical card token in this store: a hash under the store's own key."""
        raise NotImplementedError

    async def take(self, advice: Advice) -> Taken:
        """Store a request with its answer, on the disk when this returns; an id that is there keeps its first answer.

        With `hold_id` the allowance becomes SPENT in the same transaction.
        """
        raise NotImplementedError

    async def take_many(self, advices: Sequence[Advice]) -> list[Taken]:
        """Store many in one transaction: all or none."""
        raise NotImplementedError

    async def remembered(self, request_id: bytes) -> Remembered | None:
        """Return the answer that the relay gave, None if it gave none or has forgotten it."""
        raise NotImplementedError

    async def queued_after(self, seq: int, count: int) -> list[Queued]:
        """Return up to `count` queued requests after `seq` in the order of taking."""
        raise NotImplementedError

    async def finish(self, finish: Finish) -> None:
        """Note headquarters' word on a queued request: it leaves the queue, and its card leaves the disk."""
        raise NotImplementedError

    async def forget(self, server_now_ms: int) -> int:
        """Forget answers that headquarters had answered `remembered_ms` ago; return how many."""
        raise NotImplementedError

    async def note_balances(self, balances: Mapping[bytes, KnownBalance]) -> None:
        """Keep what headquarters told of cards (by their hash); an older one than is there is left out."""
        raise NotImplementedError

    async def balance(self, card: bytes) -> KnownBalance | None:
        """Return the last known balance of a card."""
        raise NotImplementedError

    async def put_allowance(self, allowance: Allowance) -> None:
        """Write the state of a card's allowance."""
        raise NotImplementedError

    async def drop_allowance(self, hold_id: bytes) -> None:
        """Erase an allowance with its card."""
        raise NotImplementedError

    async def allowances(self) -> list[Allowance]:
        """Return all allowances."""
        raise NotImplementedError

    async def listed_conflicts(self, count: int) -> list[Conflict]:
        """Return the latest conflicts, newest first."""
        raise NotImplementedError

    async def keep(self, name: str, value: bytes) -> None:
        """Keep a small value under a name: the roster, the offset of the clock, the relay's heartbeat."""
        raise NotImplementedError

    def kept(self, name: str) -> bytes | None:
        """Return what `keep` was given last, in this life of the process or an earlier one."""
        raise NotImplementedError
