"""A TCP proxy whose lines can be cut or frozen in the middle of a frame, or let nothing come back."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from enum import Enum
from typing import cast

LOOPBACK = "127.0.0.1"


class Direction(Enum):
    """Which way bytes go."""

    UP = "up"
    """Towards the server or engine."""
    DOWN = "down"
    """Back to whoever connected."""


class Fate(Enum):
    """What happens to the next bytes of a line in one direction."""

    CUT = "cut"
    """A part of them goes on, then both ends are closed."""
    FREEZE = "freeze"
    """A part of them goes on; the rest, and all behind it, waits until the thaw."""
    DROP = "drop"
    """They vanish."""


class Proxy:
    """Forwards connections from a port of its own to a target, which can be switched."""

    def __init__(self, target_port: int, dice: random.Random) -> None:
        self.target_port = target_port
        self.port = 0
        self.dice = dice
        self.lines: set[Line] = set()
        self.everywhere: dict[Direction, Fate] = {}
        """What also new lines suffer."""
        self._server: asyncio.Server | None = None

    async def start(self) -> int:
        """Listen on a free port and return it; after `close`, on the same one again."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Line(self).near, LOOPBACK, self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self.port

    async def close(self) -> None:
        """Refuse new connections and end those that there are."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut_all()

    def cut_all(self) -> None:
        """End every connection at once."""
        for line in tuple(self.lines):
            line.cut()

    def finish_all(self) -> None:
        """End every connection after what is on its way."""
        for line in tuple(self.lines):
            line.near.finish()
            line.far.finish()

    def harm(self, fate: Fate, direction: Direction, share: float) -> None:
        """Do harm to a share (0..1) of the lines; a whole share also to those that come."""
        if share >= 1:
            self.everywhere[direction] = fate
        for line in sorted(self.lines, key=lambda line: line.number):
            if self.dice.random() < share:
                line.fates[direction] = fate

    def mend(self) -> None:
        """Let frozen lines run on and end those of which bytes have vanished."""
        self.everywhere.clear()
        for line in tuple(self.lines):
            line.mend()


class Line:
    """One connection through the proxy: the near end came in, the far end goes to the target."""

    _count = 0

    def __init__(self, proxy: Proxy) -> None:
        Line._count += 1
        self.number = Line._count
        self.proxy = proxy
        self.fates: dict[Direction, Fate] = dict(proxy.everywhere)
        self.near = _End(self, Direction.UP, self._accepted)
        self.far = _End(self, Direction.DOWN, lambda: None)
        self._dropped = False

    def take(self, direction: Direction, data: bytes) -> None:
        """Pass bytes on, or do to them what is to be done."""
        source, to = (self.near, self.far) if direction is Direction.UP else (self.far, self.near)
        fate = self.fates.get(direction)
        if fate is None:
            to.write(data)
        elif fate is Fate.DROP:
            self._dropped = True
        elif source.frozen:
            source.kept += data
        else:
            part = self.proxy.dice.randrange(len(data))
            to.write(data[:part])
            if fate is Fate.CUT:
                to.finish()
                self.cut()
            else:
                source.freeze(data[part:])

    def mend(self) -> None:
        """Let it run on, or end it when bytes have vanished."""
        self.fates.clear()
        if self._dropped:
            self.cut()
            return
        for source, to in ((self.near, self.far), (self.far, self.near)):
            to.write(source.thaw())

    def cut(self) -> None:
        """End both sides."""
        self.proxy.lines.discard(self)
        self.near.abort()
        self.far.abort()

    def ended(self, source: _End) -> None:
        """Take note that one side has closed; the other is told, after what is still on its way to it."""
        self.proxy.lines.discard(self)
        (self.far if source is self.near else self.near).finish()

    def _accepted(self) -> None:
        self.proxy.lines.add(self)
        asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: self.far, LOOPBACK, self.proxy.target_port)
        except OSError:
            self.cut()


class _End(asyncio.Protocol):
    """One side of a line. What is written before it is connected waits."""

    def __init__(self, line: Line, direction: Direction, connected: Callable[[], None]) -> None:
        self._line, self._direction, self._connected = line, direction, connected
        self._transport: asyncio.Transport | None = None
        self._early = b""
        self._closed = False
        self.frozen = False
        self.kept = b""

    def write(self, data: bytes) -> None:
        if self._transport is None:
            self._early += data
        elif data and not self._transport.is_closing():
            self._transport.write(data)

    def freeze(self, rest: bytes) -> None:
        self.frozen, self.kept = True, rest
        if self._transport is not None:
            self._transport.pause_reading()

    def thaw(self) -> bytes:
        kept, self.kept = self.kept, b""
        if self.frozen and self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
        self.frozen = False
        return kept

    def finish(self) -> None:
        self._closed = True
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        # What `finish` has begun must reach the peer: it is the part of a frame that goes before a cut.
        if self._transport is not None and not self._transport.is_closing():
            self._transport.abort()
        self._closed = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if self._closed:
            self._transport.abort()
            return
        self._connected()
        self.write(self._early)
        self._early = b""

    def data_received(self, data: bytes) -> None:
        self._line.take(self._direction, data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._line.ended(self)
