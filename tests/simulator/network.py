"""The network between simulated processes: asyncio's transports over links that are slow, stall, break in mid-frame.

`Network.attach` gives a loop `create_server`, `create_connection`, and the same two for UNIX sockets. A listening
socket outlives the process that accepts on it, as the product's supervisor wants it; who connects while nobody accepts
waits in its backlog.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Protocol, cast

from tests.simulator.loop import Loop, Process, current_process

Factory = Callable[[], asyncio.BaseProtocol]

#: What the kernels on both sides hold before a transport has to keep bytes itself.
_KERNEL_BYTES = 65_536
_DEFAULT_HIGH_BYTES = 65_536


@dataclass
class Weather:
    """How the network is: one-way latencies in seconds, and how often a write arrives in two pieces."""

    latency_s: tuple[float, float] = (0.0001, 0.002)
    local_latency_s: tuple[float, float] = (0.00002, 0.0002)
    splits: float = 0.05


class Tap(Protocol):
    """Listens on a line."""

    def sent(self, data: bytes) -> None:
        """Take what is written."""

    def heard(self, data: bytes) -> None:
        """Take what is read."""


class ListeningSocket:
    """A bound and listening socket, as the supervisor hands it to its workers."""

    def __init__(self, port: Port) -> None:
        self.port = port

    def close(self) -> None:
        """Close this process's handle of it; the supervisor keeps its own."""


class Port:
    """An address that can be connected to. `refused`: nobody listens there at the moment."""

    def __init__(self, network: Network, *, local: bool) -> None:
        self.network = network
        self.local = local
        self.refused = False
        self.servers: list[Server] = []
        self.backlog: list[End] = []

    def arrived(self, end: End) -> None:
        """Hand a new connection to one of those who accept, or let it wait for one."""
        servers = [s for s in self.servers if s.process.alive and not s.process.frozen]
        servers = servers or [s for s in self.servers if s.process.alive]
        if not servers:
            self.backlog.append(end)
            return
        server = servers[0] if len(servers) == 1 else self.network.dice.choice(servers)
        end.process = server.process
        self.network.loop.soon(server.process, end.accepted, server)


class Server(asyncio.AbstractServer):
    """What accepts at a port in one process."""

    def __init__(self, port: Port, factory: Factory, process: Process) -> None:
        self.port = port
        self.factory = factory
        self.process = process
        process.endings.append(self.close)

    def is_serving(self) -> bool:
        return self in self.port.servers

    async def start_serving(self) -> None:
        if self not in self.port.servers:
            self.port.servers.append(self)
            waiting, self.port.backlog = self.port.backlog, []
            for end in waiting:
                self.port.arrived(end)

    def close(self) -> None:
        if self in self.port.servers:
            self.port.servers.remove(self)

    async def wait_closed(self) -> None:
        await asyncio.sleep(0)


class Link:
    """A connection: two ends, until it is cut. `stalled_until_s`: nothing that is sent arrives before."""

    def __init__(self, network: Network, label: str, latency_s: tuple[float, float]) -> None:
        self.network = network
        self.label = label
        self.latency_s = latency_s
        self.stalled_until_s = 0.0
        self.over = False
        self.ends: tuple[End, End]

    def stall(self, seconds: float) -> None:
        """Let nothing arrive for some time."""
        self.stalled_until_s = max(self.stalled_until_s, self.network.loop.time() + seconds)

    def cut(self) -> None:
        """Break the connection now: what is under way is lost, and both ends hear of it."""
        if self.over:
            return
        self.over = True
        self.network.links.discard(self)
        self.network.counts["links cut"] += 1
        for end in self.ends:
            end.lose(ConnectionResetError(104, "connection reset by the simulator"))


class End(asyncio.Transport):
    """One side of a link: the transport of its process."""

    def __init__(self, link: Link, process: Process | None, remote: tuple[str, int]) -> None:
        super().__init__({"peername": remote, "sockname": ("simulated", 0)})
        self.link = link
        self.process = process
        self.peer: End
        self.protocol: Any = None
        self.tap: Tap | None = None
        #: How many more bytes of what is written go through before the link breaks; None for all.
        self.doomed_after: int | None = None
        self._loop = link.network.loop
        self._early: list[bytes | None] = []
        self._unsent = 0
        self._high = _DEFAULT_HIGH_BYTES
        self._paused = False
        self._closing = False
        self._eof_sent = False
        self._gone = False
        self._last_arrival_s = 0.0
        self._last_sent_s = -1.0

    # ---- asyncio's surface

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._closing or self._gone or self._eof_sent or not data:
            return
        if self.tap is not None:
            self.tap.sent(bytes(data))
        self._send(bytes(data))

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if not self._closing and not self._gone and not self._eof_sent:
            self._eof_sent = True
            self._transmit(None)

    def is_closing(self) -> bool:
        return self._closing or self._gone

    def close(self) -> None:
        """Send what is queued, then close; the other side reads an end of file."""
        if self._closing or self._gone:
            return
        if not self._eof_sent:
            self._eof_sent = True
            self._transmit(None)
        self._closing = True
        self._loop.soon(self.process, self._finish, None)

    def abort(self) -> None:
        """Close at once; the other side's connection is reset."""
        if self._gone or self._closing:
            return
        self._closing = True
        self._loop.soon(self.process, self._finish, None)
        self._hang_up()

    def get_write_buffer_size(self) -> int:
        return max(0, self._unsent - _KERNEL_BYTES)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        del low
        self._high = _DEFAULT_HIGH_BYTES if high is None else high

    def get_protocol(self) -> asyncio.BaseProtocol:
        return cast("asyncio.BaseProtocol", self.protocol)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    # ---- the wire

    def accepted(self, server: Server) -> None:
        """Begin to be a connection of a server's process."""
        if self._gone:
            return
        if not server.is_serving():
            # It closed while this one was waiting in its queue.
            self.process = None
            self.link.network.loop.soon(None, server.port.arrived, self)
            return
        server.process.endings.append(self.owner_died)
        self.protocol = server.factory()
        self.protocol.connection_made(self)
        early, self._early = self._early, []
        for data in early:
            self._take(data)

    def owner_died(self) -> None:
        """Let the kernel close what a killed process leaves: some of what it sent may be lost on the way."""
        if not self._gone:
            self._gone = True
            if not self._closing:
                self._hang_up(lossy=self.link.network.dice.random() < 0.5)

    def lose(self, error: Exception | None) -> None:
        """Tell the process that the connection is over."""
        if not self._gone:
            self._loop.soon(self.process, self._finish, error)

    def _send(self, data: bytes) -> None:
        link = self.link
        if self.doomed_after is not None:
            head = data[: self.doomed_after]
            self.doomed_after = None
            if head:
                self._transmit(head)
            self._loop.at(self._last_arrival_s, None, link.cut)
            return
        weather = link.network.weather
        if len(data) > 1 and link.network.dice.random() < weather.splits:
            at = link.network.dice.randrange(1, len(data))
            self._transmit(data[:at])
            self._last_sent_s = -1.0
            self._transmit(data[at:])
        else:
            self._transmit(data)

    def _transmit(self, data: bytes | None) -> None:
        link, now = self.link, self._loop.time()
        if link.over:
            return
        arrival = max(self._last_arrival_s, link.stalled_until_s)
        if now != self._last_sent_s:
            # What is written at one moment travels together.
            low, high = link.latency_s
            arrival = max(arrival, now + low + (high - low) * link.network.dice.random())
        self._last_arrival_s, self._last_sent_s = arrival, now
        if data is not None:
            self._unsent += len(data)
            if not self._paused and self._unsent > self._high + _KERNEL_BYTES:
                self._paused = True
                self._loop.soon(self.process, self.protocol.pause_writing)
        peer = self.peer
        # Who accepts the connection may not be known before the bytes arrive.
        self._loop.at(arrival, peer.process, peer.arrive if peer.process else peer.arrive_early, data, self)

    def arrive_early(self, data: bytes | None, sender: End) -> None:
        """Take bytes that were sent before the connection was accepted off the wire."""
        self._loop.soon(self.process, self.arrive, data, sender)

    def arrive(self, data: bytes | None, sender: End) -> None:
        """Take bytes, or None for the end of file, off the wire."""
        if data is not None:
            sender.drained(len(data))
        if self.link.over or self._gone:
            return
        if self.protocol is None:
            self._early.append(data)
        else:
            self._take(data)

    def drained(self, size: int) -> None:
        """Learn that the other side has taken some bytes."""
        self._unsent -= size
        if self._paused and self._unsent <= self._high // 4:
            self._paused = False
            if not self._gone:
                self._loop.soon(self.process, self.protocol.resume_writing)

    def _take(self, data: bytes | None) -> None:
        if self._closing or self._gone:
            return
        if data is not None:
            if self.tap is not None:
                self.tap.heard(data)
            self.protocol.data_received(data)
        elif not self.protocol.eof_received():
            self.close()

    def _hang_up(self, *, lossy: bool = True) -> None:
        """Let the other end hear that this one is gone, with or without what is under way to it."""
        peer, link = self.peer, self.link
        if link.over:
            return
        if lossy:
            link.over = True
            link.network.links.discard(link)
        low, high = link.latency_s
        arrival = max(self._loop.time() + low + (high - low) * link.network.dice.random(), self._last_arrival_s)
        self._loop.at(arrival, peer.process, peer.finish_by_peer, ConnectionResetError(104, "reset by peer"))

    def finish_by_peer(self, error: Exception) -> None:
        """Learn that the other end is gone."""
        self._finish(error)

    def _finish(self, error: Exception | None) -> None:
        if self._gone:
            return
        self._gone = True
        self._closing = True
        if self.peer._gone:
            self.link.over = True
            self.link.network.links.discard(self.link)
        if self.process is not None and self.owner_died in self.process.endings:
            self.process.endings.remove(self.owner_died)
        if self.protocol is not None:
            self.protocol.connection_lost(error)


class Network:
    """All ports and links. `counts` are for the scenario's statistics."""

    def __init__(self, loop: Loop, dice: Random, counts: dict[str, int]) -> None:
        self.loop = loop
        self.dice = dice
        self.counts = counts
        self.weather = Weather()
        # A dict as an ordered set: what is drawn from it must not depend on addresses in memory.
        self._links: dict[Link, None] = {}
        self._ports: dict[str, Port] = {}
        self.links = _Links(self._links)
        #: Makes what listens on the line of a process that connects, if anything does.
        self.tap: Callable[[Process], Tap | None] = lambda _: None

    def attach(self) -> None:
        """Give the loop its networking."""
        loop: Any = self.loop
        loop.create_server = self._create_server
        loop.create_connection = self._create_connection
        loop.create_unix_server = self._create_unix_server
        loop.create_unix_connection = self._create_unix_connection

    def heal(self) -> None:
        """Be well again: what was stalled goes on, and everybody is let in."""
        self.weather = Weather()
        for port in self._ports.values():
            port.refused = False
        for link in self._links:
            link.stalled_until_s = 0.0

    def bind(self, name: str) -> ListeningSocket:
        """Return the listening socket of an address."""
        return ListeningSocket(self.port(name))

    def port(self, name: str, *, local: bool = False) -> Port:
        """Return the port at an address."""
        if name not in self._ports:
            self._ports[name] = Port(self, local=local)
        return self._ports[name]

    async def _create_server(self, factory: Factory, *, sock: ListeningSocket, backlog: int) -> Server:
        del backlog
        server = Server(sock.port, factory, _here())
        await server.start_serving()
        return server

    async def _create_unix_server(self, factory: Factory, path: str, *, start_serving: bool = True) -> Server:
        # The product sets the mode of the file, so there must be one.
        Path(path).touch()
        server = Server(self.port(path, local=True), factory, _here())
        if start_serving:
            await server.start_serving()
        return server

    async def _create_connection(self, factory: Factory, host: str, port: int, *, ssl: None = None) -> tuple[End, Any]:
        del ssl
        return await self._connect(factory, self.port(f"{host}:{port}"), self.weather.latency_s)

    async def _create_unix_connection(self, factory: Factory, path: str) -> tuple[End, Any]:
        port = self._ports.get(path)
        if port is None or not port.servers:
            raise ConnectionRefusedError(111, "nobody listens there")
        return await self._connect(factory, port, self.weather.local_latency_s)

    async def _connect(self, factory: Factory, port: Port, latency_s: tuple[float, float]) -> tuple[End, Any]:
        process = _here()
        low, high = latency_s
        await asyncio.sleep(2 * (low + (high - low) * self.dice.random()))
        if port.refused:
            raise ConnectionRefusedError(111, "nobody listens there")
        link = Link(self, process.name, latency_s)
        near, far = End(link, process, ("server", 1)), End(link, None, (process.name, 1))
        near.tap = None if port.local else self.tap(process)
        near.peer, far.peer = far, near
        link.ends = (near, far)
        self._links[link] = None
        process.endings.append(near.owner_died)
        near.protocol = factory()
        port.arrived(far)
        near.protocol.connection_made(near)
        return near, near.protocol


class _Links:
    """The links that are up, in the order of their making."""

    def __init__(self, links: dict[Link, None]) -> None:
        self._links = links

    def discard(self, link: Link) -> None:
        self._links.pop(link, None)

    def of(self, name: str) -> list[Link]:
        """Return the links that a process has made."""
        return [link for link in self._links if link.label == name]

    def all(self) -> list[Link]:
        """Return every link."""
        return list(self._links)


def _here() -> Process:
    process = current_process()
    assert process is not None, "sockets belong to processes"
    return process


def remove_socket(path: str) -> None:
    """Remove the file of a UNIX socket."""
    with contextlib.suppress(FileNotFoundError):
        Path(path).unlink()
