"""The hot store of an epoch without Redis: the same scripts on the owner's own memory.

It begins empty, so that every account is loaded from PostgreSQL first, and it ends with its epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from ledger.embedded_redis import EmbeddedRedis, EmbeddedRedisClient, ScriptRuntime
from ledger.hot_store import Decided, HotStore, PartitionHead, partition_keys


class StandbyStore(HotStore):
    """A hot store in memory that forgets the accounts that were not changed for longest when there are too many."""

    def __init__(self, runtime: ScriptRuntime, *, accounts_max: int) -> None:
        self._memory = EmbeddedRedis(runtime)
        self._accounts_max = accounts_max
        super().__init__(EmbeddedRedisClient(self._memory), timeout_s=None)

    async def decide(
        self, partition: int, head: PartitionHead, committed_mark: int, accounts: Sequence[int], batch: list[Any]
    ) -> Decided:
        """Decide as in Redis, then forget what is too much: such an account is cold, which it may be at any time."""
        decided = await super().decide(partition, head, committed_mark, accounts, batch)
        self._memory.forget_oldest(self._accounts_max, partition_keys(partition))
        return decided


class StandbyStores:
    """Makes standby stores; all of a process share one Lua, which is there once it is needed."""

    def __init__(self, *, accounts_max: int) -> None:
        """Take the accounts that one store remembers at most."""
        self._accounts_max = accounts_max

    def make(self) -> StandbyStore:
        """Return a new store that remembers nothing."""
        return StandbyStore(self._runtime, accounts_max=self._accounts_max)

    @cached_property
    def _runtime(self) -> ScriptRuntime:
        return ScriptRuntime()
