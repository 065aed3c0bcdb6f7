"""The relay's store: one SQLite file of what must not be lost, written by one thread that commits in groups.

What gathers while a commit is under way is the next transaction. All sqlite3 is in `store*` of this package.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Final, Self

from server.relay import store_work as work
from server.relay.store_errors import StoreFull
from server.relay.store_rows import (
    Advice,
    Allowance,
    Conflict,
    Fate,
    Finish,
    KnownBalance,
    Queued,
    Remembered,
    StoreLimits,
    Taken,
)
from server.relay.store_thread import StoreThread

_HASH_BYTES: Final = 16


class Store:
    """What one relay keeps on its disk. Its methods belong to one event loop; only its thread touches the file.

    `known`, `queued` and `reversed` are looked at for every request, so they are in memory: the ids that the relay
    answered itself; those of them that wait for headquarters, oldest first, with when they were taken (ms); and by the
    (request, card) that it names each REVERSE among them. They change when a commit is done.
    Methods that wait raise StoreFailed, and StoreFull where a limit is reached.
    """

    def __init__(self, thread: StoreThread, limits: StoreLimits, index: work.Index) -> None:
        """Use `open`."""
        self._thread = thread
        self._limits = limits
        self._kept = index.kept
        # Copied for each token, so that the key is taken in only once.
        self._keyed = blake2b(digest_size=_HASH_BYTES, key=index.kept[work.KEY_NAME])
        self._taking = 0
        self.on_queued: Callable[[], None] = lambda: None
        """Called when something new waits for headquarters."""
        self.known = index.known
        self.queued = index.queued
        self.reversed = index.reversed
        self.conflicts = index.conflicts
        self.loaded_allowances = index.allowances
        """The allowances as they were when the store was opened."""

    @classmethod
    async def open(cls, folder: Path, limits: StoreLimits) -> Self:
        """Open or make the store in a folder, which is made too. Raises StoreUnusable (an OperatorError)."""
        thread = StoreThread(folder, limits)
        await thread.start()
        try:
            index = await thread.write(work.load)
        except BaseException:
            await thread.close()
            raise
        return cls(thread, limits, index)

    async def close(self) -> None:
        """Finish what is under way and let go of the folder; may be called twice."""
        await self._thread.close()

    @property
    def failing(self) -> str | None:
        """Why the last write failed; None as soon as one succeeds."""
        return self._thread.failing

    def hash(self, token: str) -> bytes:
        """Return what stands for a canonical card token in this store: a hash under the store's own key."""
        keyed = self._keyed.copy()
        keyed.update(token.encode())
        return keyed.digest()

    async def take(self, advice: Advice) -> Taken:
        """Store a request with its answer, on the disk when this returns; an id that is there keeps its first answer.

        With `hold_id` the allowance, which must be GRANTED, becomes SPENT in the same transaction.
        """
        return (await self.take_many([advice]))[0]

    async def take_many(self, advices: Sequence[Advice]) -> list[Taken]:
        """Store many in one transaction: all or none."""
        coming = self._taking + len(advices)
        if len(self.queued) + coming > self._limits.queue_max or len(self.known) + coming > self._limits.answers_max:
            raise StoreFull("the relay's queue is full")
        self._taking += len(advices)
        try:
            return await self._thread.write(partial(work.take, advices=advices), partial(self._took, advices))
        finally:
            self._taking -= len(advices)

    def _took(self, advices: Sequence[Advice], taken: list[Taken]) -> None:
        for advice, each in zip(advices, taken, strict=True):
            if each.fresh:
                self.known.add(advice.request_id)
                self.queued[advice.request_id] = advice.taken_ms
                if advice.target is not None:
                    self.reversed[advice.target, advice.card] = advice.request_id
        self.on_queued()

    async def remembered(self, request_id: bytes) -> Remembered | None:
        """Return the answer that the relay gave, None if it gave none or has forgotten it."""
        return await self._thread.read(partial(work.find_answer, request_id=request_id))

    async def queued_after(self, seq: int, count: int) -> list[Queued]:
        """Return up to `count` queued requests after `seq` in the order of taking."""
        return await self._thread.read(partial(work.find_queued, seq=seq, count=count))

    async def finish(self, finishes: Sequence[Finish]) -> None:
        """Note headquarters' words on queued requests: they leave the queue, and their cards leave the disk."""
        done = partial(work.finish, finishes=finishes, conflicts_max=self._limits.conflicts_max)
        await self._thread.write(done, partial(self._finished, finishes), erases=True)

    def _finished(self, finishes: Sequence[Finish], finished: list[work.Finished]) -> None:
        for finish, what in zip(finishes, finished, strict=True):
            self.queued.pop(finish.request_id, None)
            if what.queued and finish.fate is Fate.CONFLICT:
                self.conflicts = min(self.conflicts + 1, self._limits.conflicts_max)
                if what.named is not None:
                    # Headquarters did not take the REVERSE, so it closed nothing.
                    self.reversed.pop(what.named, None)

    async def forget(self, server_now_ms: int) -> int:
        """Forget answers that headquarters had answered `remembered_ms` ago; return how many."""
        before_ms = server_now_ms - self._limits.remembered_ms
        forgotten = await self._thread.write(partial(work.forget, before_ms=before_ms), self._forgot)
        return len(forgotten)

    def _forgot(self, forgotten: list[work.Forgotten]) -> None:
        for request_id, card, target in forgotten:
            self.known.discard(request_id)
            if target is not None:
                self.reversed.pop((target, card), None)

    async def note_balances(self, balances: Mapping[bytes, KnownBalance]) -> None:
        """Keep what headquarters told last of cards (by their hash)."""
        put = partial(work.put_balances, balances=balances, balances_max=self._limits.balances_max)
        await self._thread.write(put)

    async def balance(self, card: bytes) -> KnownBalance | None:
        """Return the last known balance of a card."""
        return await self._thread.read(partial(work.find_balance, card=card))

    async def add_allowance(self, allowance: Allowance) -> None:
        """Write a new allowance; its card must have no other one."""
        await self._thread.write(partial(work.add_allowance, allowance=allowance))

    async def change_allowance(self, allowance: Allowance) -> bool:
        """Write the state, points and times of an allowance; False if it is gone, or spent from."""
        return await self._thread.write(partial(work.change_allowance, allowance=allowance))

    async def drop_allowance(self, hold_id: bytes) -> None:
        """Erase an allowance with its card."""
        await self._thread.write(partial(work.drop_allowance, hold_id=hold_id), erases=True)

    async def allowances(self) -> list[Allowance]:
        """Return all allowances."""
        return await self._thread.read(work.all_allowances)

    async def listed_conflicts(self, count: int) -> list[Conflict]:
        """Return the latest conflicts, newest first."""
        return await self._thread.read(partial(work.list_conflicts, count=count))

    async def keep(self, name: str, value: bytes) -> None:
        """Keep a small value under a name: the roster, the offset of the clock, the relay's heartbeat."""
        await self._thread.write(
            partial(work.put_kept, name=name, value=value), lambda _: self._kept.update({name: value})
        )

    def kept(self, name: str) -> bytes | None:
        """Return what `keep` was given last, in this life of the process or an earlier one."""
        return self._kept.get(name)
