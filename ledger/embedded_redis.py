"""Redis in this process: the few commands that our scripts and ledger/hot_store.py use, on a plain dict.

A partition is decided here while Redis is away, and simulations decide nowhere else. The scripts run as they are, under
Lua 5.1 as in Redis, and whatever they store and reply has the same bytes. Nothing here waits, so a call is as atomic as
in Redis; as there, a script that fails keeps what it wrote before.
"""

from __future__ import annotations

import asyncio
import hashlib
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import lupa.lua51
from redis.exceptions import NoScriptError, ResponseError

from ledger.lua_runtime import new_runtime

_WRONG_TYPE = "WRONGTYPE Operation against a key holding the wrong kind of value"

Value = bytes | str | int


@dataclass(slots=True)
class Stream:
    """A stream whose ids all have the form "number-0"; `last` outlives the records that are trimmed."""

    last: int = 0
    records: list[tuple[int, tuple[bytes, ...]]] = field(default_factory=list)


#: A key space: strings and streams by name. It is all that a server remembers but for its script cache.
Data = dict[bytes, bytes | Stream]


def copied(data: Data) -> Data:
    """Return a snapshot that later commands do not change."""
    return {
        name: value if isinstance(value, bytes) else Stream(value.last, list(value.records))
        for name, value in data.items()
    }


class ScriptRuntime:
    """One Lua for any number of key spaces; scripts are compiled once. Not thread-safe."""

    def __init__(self) -> None:
        self._lua = new_runtime()
        self._table_type = type(self._lua.table())
        self._compiled: dict[str, Any] = {}
        self._call: Callable[..., Any] = lambda *_: None
        self._globals = self._lua.globals()
        self._globals[b"redis"] = self._lua.table_from({b"call": self._redis_call, b"sha1hex": _sha1hex})

    def compile(self, text: str) -> str:
        """Return the SHA-1 of a script, by which `run` knows it from now on. Raises ResponseError."""
        sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        if sha not in self._compiled:
            try:
                self._compiled[sha] = self._lua.compile(text.encode(), name=b"@user_script")
            except lupa.lua51.LuaError as error:
                raise ResponseError(f"Error compiling script (new function): {error}") from error
        return sha

    def run(self, sha: str, keys: Sequence[bytes], args: Sequence[bytes], call: Callable[..., Any]) -> Any:
        """Run a compiled script whose commands go to `call`; return its reply. Raises ResponseError."""
        self._call = call
        self._globals[b"KEYS"] = self._lua.table_from(keys)
        self._globals[b"ARGV"] = self._lua.table_from(args)
        try:
            return self._reply(self._compiled[sha]())
        except (lupa.lua51.LuaError, ResponseError) as error:
            # The hot store tells a failing script from a failing Redis by the chunk's name, which Redis puts here too.
            message = str(error).partition("\n")[0]
            raise ResponseError(f"{message} script: {sha}, on @user_script.") from error

    def _redis_call(self, command: bytes, *args: Any) -> Any:
        return self._lua_value(self._call(command.upper(), [_encoded(arg) for arg in args]))

    def _lua_value(self, value: Any) -> Any:
        if value is None:
            return False
        if isinstance(value, list):
            return self._lua.table_from([self._lua_value(item) for item in value])
        return value

    def _reply(self, value: Any) -> Any:
        """Return what the client sees of a script's result: an array ends at its first nil, true is 1, false is nil."""
        if isinstance(value, self._table_type):
            items = []
            for position in range(1, len(value) + 1):
                item = value[position]
                if item is None:
                    break
                items.append(self._reply(item))
            return items
        if value is True:
            return 1
        if value is False:
            return None
        return int(value) if isinstance(value, float) else value


class EmbeddedRedis:
    """One key space with its commands; scripts are known to it once they are loaded.

    `data` may be copied (see `copied`) and assigned at any time: that is a snapshot, and a server that returns with it.
    """

    def __init__(self, runtime: ScriptRuntime) -> None:
        self.data: Data = {}
        self._runtime = runtime
        self._scripts: set[str] = set()
        self._commands: dict[bytes, Callable[[list[bytes]], Any]] = {
            b"GET": lambda args: self._string(args[0]),
            b"SET": self._set,
            b"MGET": self.mget,
            b"MSET": self._set,
            b"DEL": self.delete,
            b"XADD": self._xadd,
            b"XRANGE": lambda args: self.xrange(*args),
            b"XTRIM": self._xtrim,
        }

    def script_load(self, text: str) -> str:
        """Make a script known; return its SHA-1."""
        sha = self._runtime.compile(text)
        self._scripts.add(sha)
        return sha

    def script_flush(self) -> None:
        """Forget all scripts, as a restart does."""
        self._scripts.clear()

    def evalsha(self, sha: str, keys: Iterable[Value], args: Iterable[Value]) -> Any:
        """Run a script atomically. Raises NoScriptError (nothing was executed) and ResponseError (it failed)."""
        if sha not in self._scripts:
            raise NoScriptError("No matching script. Please use EVAL.")
        names, values = [_encoded(key) for key in keys], [_encoded(arg) for arg in args]
        return self._runtime.run(sha, names, values, self._command)

    def mget(self, names: Iterable[Value]) -> list[bytes | None]:
        """Return the strings of the names, None for what is none."""
        found = (self.data.get(_encoded(name)) for name in names)
        return [value if isinstance(value, bytes) else None for value in found]

    def delete(self, names: Iterable[Value]) -> int:
        """Forget names; return how many there were."""
        return sum(self.data.pop(_encoded(name), None) is not None for name in names)

    def xrange(self, name: Value, first: Value = b"-", last: Value = b"+") -> list[list[Any]]:
        """Return the records of a stream from one id to another as [id, [field, value, ...]]."""
        records = self._stream(_encoded(name)).records
        start = 0 if _encoded(first) == b"-" else bisect_left(records, _number(_encoded(first)), key=_record_number)
        end = len(records) if _encoded(last) == b"+" else bisect_left(
            records, _number(_encoded(last)) + 1, key=_record_number
        )  # fmt: skip
        return [[b"%d-0" % number, list(fields)] for number, fields in records[start:end]]

    def forget_oldest(self, names_max: int, kept: Iterable[Value]) -> None:
        """Forget the names that were not written for longest, all but `kept`, when there are more than `names_max`.

        Then a tenth more is forgotten, so that this is not done every time.
        """
        keep = {_encoded(name) for name in kept}
        if len(self.data) <= names_max + len(keep):
            return
        too_many = len(self.data) - names_max * 9 // 10
        for name in list(islice((name for name in self.data if name not in keep), too_many)):
            del self.data[name]

    def _command(self, name: bytes, args: list[bytes]) -> Any:
        command = self._commands.get(name)
        if command is None:
            raise ResponseError(f"Unknown Redis command called from script: {name.decode()}")
        return command(args)

    def _string(self, name: bytes) -> bytes | None:
        value = self.data.get(name)
        if isinstance(value, Stream):
            raise ResponseError(_WRONG_TYPE)
        return value

    def _set(self, pairs: list[bytes]) -> bytes:
        for name, value in zip(pairs[::2], pairs[1::2], strict=True):
            # What was written last stands last, see `forget_oldest`.
            self.data.pop(name, None)
            self.data[name] = value
        return b"OK"

    def _stream(self, name: bytes) -> Stream:
        value = self.data.get(name)
        if isinstance(value, bytes):
            raise ResponseError(_WRONG_TYPE)
        return Stream() if value is None else value

    def _xadd(self, args: list[bytes]) -> bytes:
        name, record_id, *fields = args
        stream, number = self._stream(name), _number(record_id)
        if number <= stream.last:
            raise ResponseError("The ID specified in XADD is equal or smaller than the target stream top item")
        stream.records.append((number, tuple(fields)))
        stream.last = number
        self.data[name] = stream
        return record_id

    def _xtrim(self, args: list[bytes]) -> int:
        name, strategy, record_id = args
        if strategy.upper() != b"MINID":
            raise ResponseError("syntax error")
        records = self._stream(name).records
        count = bisect_left(records, _number(record_id), key=_record_number)
        del records[:count]
        return count


class _ConnectionPool:
    async def disconnect(self) -> None:
        """Do nothing: there is no connection."""


class EmbeddedRedisClient:
    """An embedded Redis seen as the hot store sees the real one; every call lets others have their turn first."""

    def __init__(self, redis: EmbeddedRedis) -> None:
        self.redis = redis
        self.connection_pool: Any = _ConnectionPool()

    async def script_load(self, script: str) -> str:
        """Make a script known; return its SHA-1."""
        await asyncio.sleep(0)
        return self.redis.script_load(script)

    async def evalsha(self, sha: str, numkeys: int, *keys_and_args: Value) -> Any:
        """Run a script. Raises NoScriptError and ResponseError."""
        await asyncio.sleep(0)
        return self.redis.evalsha(sha, keys_and_args[:numkeys], keys_and_args[numkeys:])

    async def delete(self, *names: Value) -> int:
        """Forget names."""
        await asyncio.sleep(0)
        return self.redis.delete(names)

    async def mget(self, keys: Sequence[Value]) -> list[bytes | None]:
        """Return the strings of the names."""
        await asyncio.sleep(0)
        return self.redis.mget(keys)

    async def xrange(self, name: Value, min: Value = "-", max: Value = "+") -> list[tuple[bytes, dict[bytes, bytes]]]:  # noqa: A002 - the client's own names
        """Return the records of a stream."""
        await asyncio.sleep(0)
        return [
            (record_id, dict(zip(fields[::2], fields[1::2], strict=True)))
            for record_id, fields in self.redis.xrange(name, min, max)
        ]

    async def ping(self) -> bool:
        """Answer."""
        await asyncio.sleep(0)
        return True

    async def aclose(self) -> None:
        """Do nothing: there is no connection."""


def _encoded(value: Any) -> bytes:
    """Return an argument as it travels to Redis; scripts and the hot store pass strings and whole numbers only."""
    return value if isinstance(value, bytes) else str(value).encode()


def _number(record_id: bytes) -> int:
    number, _, rest = record_id.partition(b"-")
    if not number.isdigit() or rest not in (b"", b"0"):
        raise ResponseError("Invalid stream ID specified as stream command argument")
    return int(number)


def _record_number(record: tuple[int, tuple[bytes, ...]]) -> int:
    return record[0]


def _sha1hex(text: bytes) -> bytes:
    return hashlib.sha1(text, usedforsecurity=False).hexdigest().encode()
