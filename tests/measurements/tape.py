"""Script calls made beforehand: taken down where the hot store hands them to its client, and played without a pause.

So what is measured is Redis alone, and the calls are those that the ledger itself makes, whatever they look like.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Coroutine, Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

import hiredis

from ledger.hot_store import Decided, HotStore, PartitionHead

_CHUNK_BYTES = 1 << 20
_PATIENCE_S = 30.0


class _TakenDown(Exception):  # noqa: N818 - it carries a call out of the hot store, and is no error
    pass


class _Client:
    """Stands where the hot store has Redis: takes its calls down, or answers with a reply that came before."""

    connection_pool: Any = None

    def __init__(self) -> None:
        self.taken_down: bytes = b""
        self.reply: Any = None

    async def evalsha(self, sha: str, numkeys: int, *keys_and_args: Any) -> Any:
        if self.reply is not None:
            return self.reply
        words = ["EVALSHA", sha, numkeys, *keys_and_args]
        self.taken_down = hiredis.pack_command(tuple(w if isinstance(w, (bytes, str)) else str(w) for w in words))
        raise _TakenDown


class Tape:
    """Calls of a hot store's `decide`, to be played against a Redis that knows the script already."""

    def __init__(self) -> None:
        self._client = _Client()
        self._store = HotStore(self._client, timeout_s=None)  # type: ignore[arg-type]
        self._calls: list[bytes] = []
        self._arguments: list[tuple[int, PartitionHead, int, Sequence[int], list[Any]]] = []

    def __len__(self) -> int:
        return len(self._calls)

    def take_down(
        self, partition: int, head: PartitionHead, committed_mark: int, accounts: Sequence[int], batch: list[Any]
    ) -> None:
        """Add a call; the head must be the one that the calls before it leave behind."""
        _through(self._store.decide(partition, head, committed_mark, accounts, batch), _TakenDown)
        self._calls.append(self._client.taken_down)
        self._arguments.append((partition, head, committed_mark, accounts, batch))

    def play(self, redis_url: str, *, in_flight: int) -> tuple[list[Any], float]:
        """Send all calls, so many at once; return the replies as the hot store takes them, and the seconds it took."""
        replies: list[Any] = []
        with _connected(redis_url) as connection:
            reader = hiredis.Reader()
            began = time.perf_counter()
            for call in self._calls[:in_flight]:
                connection.sendall(call)
            sent = min(in_flight, len(self._calls))
            while len(replies) < len(self._calls):
                reply = reader.gets()
                if reply is False:
                    received = connection.recv(_CHUNK_BYTES)
                    if not received:
                        raise ConnectionError("Redis closed the connection")
                    reader.feed(received)
                    continue
                replies.append(reply)
                if sent < len(self._calls):
                    connection.sendall(self._calls[sent])
                    sent += 1
            elapsed_s = time.perf_counter() - began
        return replies, elapsed_s

    def decided(self, replies: Sequence[Any]) -> list[Decided]:
        """Return what the hot store makes of the replies. Raises what `HotStore.decide` raises."""
        made = []
        for arguments, reply in zip(self._arguments, replies, strict=False):
            if isinstance(reply, Exception):
                raise reply
            self._client.reply = reply
            made.append(_through(self._store.decide(*arguments)))
        self._client.reply = None
        return made


def _through(call: Coroutine[Any, Any, Decided], expected: type[Exception] | None = None) -> Any:
    """Run a coroutine that never waits for anything."""
    try:
        call.send(None)
    except StopIteration as done:
        return done.value
    except _TakenDown:
        if expected is _TakenDown:
            return None
        raise
    raise AssertionError("the hot store waits for something beside its client")


def _connected(redis_url: str) -> socket.socket:
    parts = urlsplit(redis_url)
    connection = socket.create_connection((parts.hostname or "", parts.port or 6379), timeout=_PATIENCE_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    words = [("SELECT", parts.path.lstrip("/") or "0")]
    if parts.password:
        words.insert(0, ("AUTH", unquote(parts.username or "default"), unquote(parts.password)))
    reader = hiredis.Reader()
    for word in words:
        connection.sendall(hiredis.pack_command(word))
        while (reply := reader.gets()) is False:
            reader.feed(connection.recv(_CHUNK_BYTES))
        if isinstance(reply, Exception):
            raise reply
    return connection
