"""The hot store on an embedded Redis that misbehaves."""

import pytest

from ledger.embedded_redis import EmbeddedRedis, EmbeddedRedisClient, ScriptRuntime
from ledger.hot_store import HotStore, HotStoreDown, PartitionHead

HEAD = PartitionHead(1, 7, 0)


class Forgetful(EmbeddedRedisClient):
    """Somebody flushes the script cache between SCRIPT LOAD and EVALSHA, the first so many times."""

    def __init__(self, times: int) -> None:
        super().__init__(EmbeddedRedis(ScriptRuntime()))
        self.times = times

    async def script_load(self, script: str) -> str:
        sha = await super().script_load(script)
        if self.times:
            self.times -= 1
            self.redis.script_flush()
        return sha


async def test_scripts_flushed_while_they_are_loaded_are_a_state_of_redis_not_a_bug() -> None:
    store = HotStore(Forgetful(times=1), timeout_s=None)
    with pytest.raises(HotStoreDown):
        await store.reset(0, HEAD)
    await store.reset(0, HEAD)
    assert await store.states(0, []) == (HEAD, {})
