"""A Redis server around the product's embedded one: it runs the same scripts, and has the faults of a real server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError, ReadOnlyError, RedisError

from ledger.embedded_redis import Data, EmbeddedRedis, ScriptRuntime, copied
from tests.simulator.loop import Loop

_Execute = Callable[[], Any]


@cache
def runtime() -> ScriptRuntime:
    """Return the one Lua of this process: the scripts are compiled once, only the data of a scenario are new."""
    return ScriptRuntime()


@dataclass
class RedisFaults:
    """What is wrong with the server now. Counters say how many times more something happens."""

    refusing: bool = False
    frozen: bool = False
    read_only: bool = False
    full: bool = False
    #: Calls that break before, or after, they were executed.
    lost_before: int = 0
    lost_after: int = 0


class RedisModel:
    """The server. `snapshot` is what a restart or a fail-over may return to."""

    def __init__(self, loop: Loop, dice: Random, counts: dict[str, int]) -> None:
        self.loop = loop
        self.redis = EmbeddedRedis(runtime())
        self.faults = RedisFaults()
        # A slow one lets batches grow.
        self.latency_s = dice.choice(((0.00003, 0.0003), (0.00003, 0.0003), (0.001, 0.004), (0.004, 0.012)))
        self.snapshot: Data = {}
        self._dice = dice
        self._counts = counts
        self._frozen_work: list[Callable[[], None]] = []

    def save(self) -> None:
        """Take a snapshot."""
        self.snapshot = copied(self.redis.data)

    def restore(self) -> None:
        """Be what the snapshot was, as after a restart from it, or as the lagging replica that was promoted."""
        self.redis.data = copied(self.snapshot)
        self.redis.script_flush()

    def flush(self) -> None:
        """Forget all data, as FLUSHALL does; scripts stay."""
        self.redis.data = {}

    def thaw(self) -> None:
        """Go on after having been frozen, with what was left lying."""
        self.faults.frozen = False
        work, self._frozen_work = self._frozen_work, []
        for each in work:
            self.loop.soon(None, each)

    def heal(self) -> None:
        """Be well again."""
        self.thaw()
        self.faults = RedisFaults()

    def take(self, execute: _Execute, writes: bool, future: asyncio.Future[Any]) -> None:
        """Execute what a client sent, and send it the result."""
        faults = self.faults
        if faults.frozen:
            # It lies in the socket's buffer, and is executed when the server goes on, whoever still waits for it.
            self._frozen_work.append(lambda: self.take(execute, writes, future))
            return
        if faults.refusing:
            self._answer(future, None, RedisConnectionError("Connection closed by server."))
            return
        if faults.lost_before:
            faults.lost_before -= 1
            self._counts["redis calls lost before"] += 1
            self._answer(future, None, RedisConnectionError("Connection closed by server."))
            return
        value, error = None, None
        try:
            if writes and faults.read_only:
                raise ReadOnlyError("You can't write against a read only replica.")
            if writes and faults.full:
                raise OutOfMemoryError(
                    "command not allowed when used memory > 'maxmemory'. script: …, on @user_script:1."
                )
            value = execute()
        except RedisError as raised:
            error = raised
        if faults.lost_after:
            faults.lost_after -= 1
            self._counts["redis calls lost after"] += 1
            value, error = None, RedisConnectionError("Connection closed by server.")
        self._answer(future, value, error)

    def delay_s(self) -> float:
        """Draw how long a message takes one way."""
        low, high = self.latency_s
        return low + (high - low) * self._dice.random()

    def _answer(self, future: asyncio.Future[Any], value: Any, error: BaseException | None) -> None:
        self.loop.after(self.delay_s(), settle, future, value, error)


def settle(future: asyncio.Future[Any], value: Any, error: BaseException | None) -> None:
    """Give a future its result, unless nobody waits for it any more."""
    if future.done():
        return
    if error is None:
        future.set_result(value)
    else:
        future.set_exception(error)
        # Whoever is dead by then does not hear of it, and that is as it should be.
        future._log_traceback = False  # type: ignore[attr-defined]


class _ConnectionPool:
    async def disconnect(self) -> None:
        """Forget the connections; the next call makes a new one."""


class SimulatedRedis:
    """`redis.asyncio.Redis`, as far as ledger/hot_store.py uses it."""

    def __init__(self, server: RedisModel) -> None:
        self._server = server
        self.connection_pool = _ConnectionPool()

    async def script_load(self, script: str) -> str:
        """Make a script known."""
        return str(await self._call(lambda: self._server.redis.script_load(script)))

    async def evalsha(self, sha: str, numkeys: int, *keys_and_args: Any) -> Any:
        """Run a script."""
        keys, args = keys_and_args[:numkeys], keys_and_args[numkeys:]
        return await self._call(lambda: self._server.redis.evalsha(sha, keys, args), writes=True)

    async def delete(self, *names: Any) -> Any:
        """Forget names."""
        return await self._call(lambda: self._server.redis.delete(names), writes=True)

    async def mget(self, keys: Sequence[Any]) -> Any:
        """Return the strings of the names."""
        return await self._call(lambda: self._server.redis.mget(keys))

    async def xrange(self, name: Any, min: Any = "-", max: Any = "+") -> list[tuple[bytes, dict[bytes, bytes]]]:  # noqa: A002
        """Return the records of a stream."""
        records: Iterable[tuple[bytes, list[bytes]]]
        records = await self._call(lambda: self._server.redis.xrange(name, min, max))
        return [(name, dict(zip(fields[::2], fields[1::2], strict=True))) for name, fields in records]

    async def ping(self) -> bool:
        """Answer."""
        return bool(await self._call(lambda: True))

    async def aclose(self) -> None:
        """Disconnect."""

    async def _call(self, execute: _Execute, *, writes: bool = False) -> Any:
        server = self._server
        if server.faults.refusing:
            await asyncio.sleep(server.delay_s())
            raise RedisConnectionError("Error 111 connecting to the simulated Redis. Connection refused.")
        future = server.loop.create_future()
        server.loop.after(server.delay_s(), server.take, execute, writes, future)
        return await future
