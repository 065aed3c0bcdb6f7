"""Registers that are signed on, as bare sockets on one epoll."""

from __future__ import annotations

import resource
import select
import socket
import ssl
from collections.abc import Callable

from loadtests.generator.target import Target
from protocol.messages import encode
from protocol.session import Limits, Ping

_READ_BYTES = 4_096
# The longest TLS record: what one holds beyond a shorter read would lie where epoll does not see it.
_READ_BYTES_TLS = 16_384
_FILES_BESIDE = 64
_IN, _OUT = select.EPOLLIN, select.EPOLLOUT

NOT_READABLE = (BlockingIOError, ssl.SSLWantReadError)
"""What a socket raises that has nothing to read after all."""

NOT_WRITABLE = (BlockingIOError, ssl.SSLWantWriteError)
"""What a socket raises that takes nothing now."""


class Trouble(Exception):  # noqa: N818 - it is the server's or the network's, and ends the run
    """The server did what no register expects, or could not be reached."""


class Fleet:
    """`count` registers from number `first` on.

    `receive` and `send` are the sockets' own methods, by file number: the loops that measure call nothing else.
    """

    def __init__(self, target: Target, count: int, first: int = 0) -> None:
        """Take up no connection yet. Raises Trouble when the system does not allow so many open files."""
        _allow_files(count)
        self.target = target
        self.numbers = range(first, first + count)
        self.epoll = select.epoll()
        self.tls = target.tls()
        self.read_bytes = _READ_BYTES_TLS if self.tls else _READ_BYTES
        self.receive: list[Callable[[int], bytes]] = []
        self.send: list[Callable[[bytes], int]] = []
        #: What the server allows on a connection, known when the first one stands.
        self.limits: Limits | None = None
        #: The register's number by file number, in the order in which they signed on.
        self.ready: dict[int, int] = {}
        self._sockets: dict[int, socket.socket] = {}
        self._unsent: dict[int, bytes] = {}
        self._pings = 0

    def admit(self, sock: socket.socket, number: int) -> None:
        """Take a register whose connection is signed on; the socket is on the epoll already."""
        fd = sock.fileno()
        if fd >= len(self.receive):
            more = fd + 1 - len(self.receive)
            self.receive += [_nobody_receives] * more
            self.send += [_nobody_sends] * more
        tls = isinstance(sock, ssl.SSLSocket)
        self.receive[fd] = sock.read if isinstance(sock, ssl.SSLSocket) else sock.recv
        self.send[fd] = sock.write if tls and isinstance(sock, ssl.SSLSocket) else sock.send
        self._sockets[fd] = sock
        self.ready[fd] = number

    def lose(self, fd: int) -> int:
        """Close a register's connection; return its number."""
        self._unsent.pop(fd, None)
        self._sockets.pop(fd).close()
        return self.ready.pop(fd)

    def say(self, fd: int, frame: bytes) -> None:
        """Send a frame on a register's connection; what does not go now goes when the socket takes it."""
        if fd in self._unsent:
            self._unsent[fd] += frame
            return
        try:
            sent = self.send[fd](frame)
        except NOT_WRITABLE:
            sent = 0
        if sent != len(frame):
            self._unsent[fd] = frame[sent:]
            self.epoll.modify(fd, _IN | _OUT)

    def flush(self, fd: int) -> None:
        """Send what is left, as much as the socket takes."""
        rest = self._unsent.pop(fd, b"")
        self.epoll.modify(fd, _IN)
        if rest:
            self.say(fd, rest)

    def ping_all(self) -> None:
        """Show the server that every register is alive."""
        self._pings += 1
        frame = encode(Ping(self._pings))
        for fd in self.ready:
            self.say(fd, frame)

    def close(self) -> None:
        """Close everything without a word."""
        for fd in list(self.ready):
            self.lose(fd)
        self.epoll.close()


def _nobody_receives(_size: int) -> bytes:
    raise AssertionError("a socket that nobody has")


def _nobody_sends(_frame: bytes) -> int:
    raise AssertionError("a socket that nobody has")


def _allow_files(connections: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _FILES_BESIDE
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise Trouble(f"{connections} connections need {wanted} open files, and this system allows {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
