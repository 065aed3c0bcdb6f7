"""The only module that talks to Redis (or Valkey): runs the scripts in ledger/lua and nothing else."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Protocol

import hiredis
import msgpack
from redis.asyncio import Redis
from redis.asyncio.connection import UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, OutOfMemoryError, ReadOnlyError, RedisError, ResponseError

from ledger import decision

#: Accounts of one script call at most: Redis's Lua takes and passes no more than 8,000 values at once.
ACCOUNTS_MAX = 2_000


class RedisClient(Protocol):
    """What a hot store runs its scripts on: a server's client, or one of `ledger.embedded_redis`."""

    connection_pool: Any

    def evalsha(self, sha: str, numkeys: int, *keys_and_args: Any) -> Any:
        """Run a script."""

    def script_load(self, script: Any) -> Any:
        """Make a script known."""

    def delete(self, *names: Any) -> Any:
        """Forget names."""

    def mget(self, keys: Any, *args: Any) -> Any:
        """Return the strings of the names."""

    def xrange(self, name: Any, min: Any = "-", max: Any = "+") -> Any:  # noqa: A002 - the driver's own names
        """Return the records of a stream."""

    def ping(self) -> Any:
        """Answer."""

    def aclose(self) -> Any:
        """Disconnect."""


class HotStoreDown(Exception):  # noqa: N818 - it is a state, not an error in this code
    """Redis cannot be reached, refused or is full; whether the last script was executed is unknown."""


class HeadMismatch(Exception):  # noqa: N818 - it is a state, not an error in this code
    """Redis is not where this owner left it (rolled back, flushed, taken over); nothing was decided."""


class ScriptFailed(Exception):  # noqa: N818 - the sibling of the two above
    """The script itself failed, before it wrote anything: a bug in Lua, or a state that is none."""


@dataclass(frozen=True, slots=True)
class PartitionHead:
    """Where a partition stands: fencing epoch, generation of valid states, count of outbox records."""

    epoch: int
    generation: int
    mark: int

    def __str__(self) -> str:
        return f"{self.epoch}:{self.generation}:{self.mark}"


@dataclass(frozen=True, slots=True)
class Decided:
    """The decisions of one batch: `results` per item, `changes` per changed account (see ledger/lua/shell.lua)."""

    mark: int
    results: list[Any]
    changes: list[Any]


def unpack(blob: bytes) -> Any:
    """Return the value of a MessagePack blob written by Lua: all strings are bytes."""
    return msgpack.unpackb(blob, raw=True)


#: Returns MessagePack that Lua reads: no bin type, which its library does not know. One packer serves all: making one
#: takes as long as packing a memo.
pack: Callable[[Any], bytes] = msgpack.Packer(use_bin_type=False).pack


def connect(redis_url: str, *, timeout_s: float) -> RedisClient:
    """Return a client that connects when it is used; `timeout_s` bounds the connecting."""
    client = _Client.from_url(
        redis_url,
        # An automatic retry would execute a script twice when only its answer was lost, so the driver must not retry.
        retry=Retry(NoBackoff(), 0),
        # The driver's own time-out swallows a cancellation that comes while it sends, under Python 3.11.
        socket_timeout=None,
        socket_connect_timeout=timeout_s,
        protocol=2,
    )
    pool = client.connection_pool
    # The driver takes no such option for a socket file.
    if not issubclass(pool.connection_class, UnixDomainSocketConnection):
        pool.connection_kwargs["socket_keepalive"] = True
    # Over TCP, TLS or a socket file, as the URL says.
    pool.connection_class = type("Connection", (_PackingInC, pool.connection_class), {})
    return client


class _Client(Redis):
    """The driver's client, which runs scripts on connections that it keeps.

    Around each call the driver takes a connection from its pool and gives it back, asks its policy of retries and tells
    its hooks, which takes as long as the call itself. A script goes straight to the connection instead.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # As many as there were scripts at once. The pool, which may have no more than its own limit, calls them in use
        # and closes them with its others.
        self._kept: list[Any] = []

    async def evalsha(self, sha: str, numkeys: int, *keys_and_args: Any) -> Any:
        """Run a script. Nothing is asked twice, and who is answered by an error has an answer."""
        pool: Any = self.connection_pool
        connection = self._kept.pop() if self._kept else await pool.get_connection()
        try:
            # What was closed meanwhile is connected anew.
            await pool.ensure_connection(connection)
            packed = hiredis.pack_command(("EVALSHA", sha, numkeys, *keys_and_args))
            await connection.send_packed_command(packed, check_health=False)
            return await connection.read_response()
        except ResponseError:
            raise
        except BaseException:
            # An answer may be under way still, and the next call would take it for its own.
            await connection.disconnect(nowait=True)
            raise
        finally:
            self._kept.append(connection)


class _PackingInC:
    """What a connection of the driver packs its commands with: the driver's own packing takes six times as long."""

    def pack_command(self, *args: Any) -> list[bytes]:
        name, *rest = args
        return [hiredis.pack_command((*name.split(), *rest))]


class HotStore:
    """The hot copy of all accounts of this installation. No call is ever repeated by the driver."""

    def __init__(self, redis: RedisClient, *, timeout_s: float | None) -> None:
        """Take a client, and what one call may take; None for one that cannot hang."""
        self._redis = redis
        self._timeout_s = timeout_s
        self._decide = _Script(decision.source(with_shell=True))
        self._claim = _Script(lua("claim"))
        self._reset = _Script(lua("reset"))
        self._probe = _Script(lua("probe"))

    @classmethod
    def at(cls, redis_url: str, *, timeout_s: float) -> HotStore:
        """Return the hot store at a URL; nothing is connected yet."""
        return cls(connect(redis_url, timeout_s=timeout_s), timeout_s=timeout_s)

    async def close(self) -> None:
        """Disconnect; may be called twice."""
        await self._redis.aclose()

    async def decide(
        self, partition: int, head: PartitionHead, committed_mark: int, accounts: Sequence[int], batch: list[Any]
    ) -> Decided:
        """Decide a batch atomically; `batch` is what ledger/lua/shell.lua reads, with indexes from 1 into `accounts`.

        Raises HeadMismatch and ScriptFailed (nothing happened) and HotStoreDown (unknown).
        """
        keys = [*partition_keys(partition), *(_account_key(partition, account) for account in accounts)]
        drop_before = f"{committed_mark + 1}-0" if committed_mark else ""
        reply = await self._run(self._decide, keys, [str(head), drop_before, pack(batch)])
        if not reply[0]:
            raise HeadMismatch(f"expected {head}, found {reply[1].decode() or 'nothing'}")
        results, changes = unpack(reply[2])
        return Decided(reply[1], results, changes)

    async def claim(self, partition: int, epoch: int, generation: int, mark: int, served: int) -> list[Decided] | None:
        """Fence former owners; return the decisions behind the committed `mark`, None if Redis cannot be trusted."""
        reply = await self._run(self._claim, partition_keys(partition), [epoch, generation, mark, served])
        if not reply[0]:
            return None
        return [Decided(mark + i, *unpack(blob)) for i, blob in enumerate(reply[2], start=1)]

    async def reset(self, partition: int, head: PartitionHead) -> None:
        """Begin with nothing remembered: every account is loaded from PostgreSQL when it is asked for."""
        await self._run(self._reset, partition_keys(partition), [str(head)])

    async def forget(self, partition: int, accounts: Iterable[int]) -> None:
        """Drop accounts, so that they are loaded from PostgreSQL when they are asked for. Raises HotStoreDown."""
        await self._guard(self._redis.delete(*(_account_key(partition, account) for account in accounts)))

    async def states(
        self, partition: int, accounts: Sequence[int]
    ) -> tuple[PartitionHead | None, dict[int, tuple[int, bytes]]]:
        """Return the partition's head, and link and packed state of each account that is present and valid."""
        keys = [partition_keys(partition)[0], *(_account_key(partition, account) for account in accounts)]
        head_text, *values = await self._guard(self._redis.mget(keys))
        if head_text is None:
            return None, {}
        head = PartitionHead(*(int(part) for part in head_text.split(b":")))
        generation = head.generation.to_bytes(4, "big")
        return head, {
            account: (int.from_bytes(value[4:10], "big"), value[10:])
            for account, value in zip(accounts, values, strict=True)
            if value is not None and value[:4] == generation
        }

    async def undelivered(self, partition: int, mark: int) -> list[Decided]:
        """Return the outbox records behind a committed mark without taking the partition over."""
        records = await self._guard(self._redis.xrange(partition_keys(partition)[1], min=f"{mark + 1}-0"))
        return [Decided(int(name.split(b"-")[0]), *unpack(fields[b"b"])) for name, fields in records]

    async def ping(self) -> None:
        """Return when Redis answers, else raise HotStoreDown."""
        await self._guard(self._redis.ping())

    async def probe(self, partition: int) -> None:
        """Return when a script could write to the partition, else raise HotStoreDown."""
        try:
            await self._run(self._probe, [b"tillwire:{%d}:probe" % partition], [])
        except ScriptFailed as failure:
            raise HotStoreDown(str(failure)) from failure

    async def _run(self, script: _Script, keys: Sequence[bytes], args: Sequence[Any]) -> Any:
        try:
            return await self._guard(self._redis.evalsha(script.sha, len(keys), *keys, *args))
        except NoScriptError:
            # The script cache does not survive a restart; nothing was executed, so loading and running it is safe.
            await self._guard(self._redis.script_load(script.text))
        try:
            return await self._guard(self._redis.evalsha(script.sha, len(keys), *keys, *args))
        except NoScriptError as error:
            raise HotStoreDown("it forgets scripts as soon as they are loaded") from error

    async def _guard(self, call: Any) -> Any:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await call
        except NoScriptError:
            raise
        except (TimeoutError, RedisError, OSError) as error:
            if isinstance(error, ReadOnlyError):
                # It became a replica: only a new connection may find the primary.
                await self._redis.connection_pool.disconnect()
            elif isinstance(error, OutOfMemoryError):
                # Told by the script as well, but it is Redis that is in trouble.
                pass
            elif isinstance(error, ResponseError) and "user_script" in str(error):
                raise ScriptFailed(str(error)) from error
            raise HotStoreDown(str(error)) from error


class _Script:
    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


@cache
def lua(name: str) -> str:
    """Return the text of a script."""
    return resources.files("ledger").joinpath("lua", f"{name}.lua").read_text("utf-8")


def partition_keys(partition: int) -> list[bytes]:
    """Return the names of a partition's head and outbox."""
    # The hash tag keeps all keys of a partition on one node of a cluster.
    return [b"tillwire:{%d}:head" % partition, b"tillwire:{%d}:outbox" % partition]


def _account_key(partition: int, account: int) -> bytes:
    return b"tillwire:{%d}:%d" % (partition, account)
