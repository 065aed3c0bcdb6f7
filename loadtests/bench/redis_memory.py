"""What an account costs in Redis when nothing else is there."""

from __future__ import annotations

import time
from typing import Any

import redis

from loadtests.bench.stages import Bench
from loadtests.bench.traffic import confirmed
from loadtests.generator.load import Load, Work

_ACCOUNTS = {"quick": 4_000, "full": 20_000}
_REMEMBERED = 8
_REGISTERS, _AT_ONCE = 64, 8
_SETTLED_S, _LOOKS = 0.2, 10


class RedisMemoryStage:
    """Redis is emptied, and some accounts redeem as often as a request is remembered."""

    name = "redis_bytes_per_account"

    def run(self, bench: Bench) -> None:
        """Put `redis_bytes_per_account`: memory in use divided by accounts, so keys and their tables are in it."""
        bench.populate()
        bench.stop_serving()
        with redis.Redis.from_url(bench.installation.redis_url) as client:
            client.flushall()
            installation = bench.serve()
            accounts = min(_ACCOUNTS.get(bench.scale.name, _ACCOUNTS["quick"]), installation.population.accounts)
            # One account, so that what is there once for all is no account's: the scripts, the partition.
            confirmed(installation, Load(1, 0.0, Work.SPEND, cards=1))
            before = _used_bytes(client)
            load = Load(_REGISTERS, 0.0, Work.SPEND, at_once=_AT_ONCE, rounds=_REMEMBERED, cards=accounts)
            confirmed(installation, load)
            each = (_used_bytes(client) - before) / (accounts - 1)
        bench.figures.put("redis_bytes_per_account", each)
        bench.say(f"{each:.0f} bytes of Redis for each of {accounts:,} accounts")
        # The others are cold now, and the next stage finds none of them.
        bench.stop_serving()


def _used_bytes(client: redis.Redis) -> int:
    """Return the memory in use, buffers of requests left out: the least that is seen in a while."""
    seen = []
    for _ in range(_LOOKS):
        time.sleep(_SETTLED_S)
        told: Any = client.info("memory")
        clients = int(told.get("mem_clients_normal", 0))
        seen.append(int(told["used_memory"]) - clients)
    return min(seen)
