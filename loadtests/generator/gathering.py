"""How registers sign on, all at once, and come back when they were cut off (SPEC.md, sections 6 and 13.2)."""

from __future__ import annotations

import base64
import heapq
import os
import random
import select
import socket
import ssl
import time
from dataclasses import dataclass

from loadtests.generator.fleet import NOT_READABLE, Fleet, Trouble
from protocol.client_connection import ClientConnection
from protocol.codes import Goodbye
from protocol.events import ClientEvent, Closed, Welcomed
from protocol.scram import SaltedKey

_EVENTS = 512
_IN, _OUT = select.EPOLLIN, select.EPOLLOUT
_BACKOFF_FIRST_S, _BACKOFF_CAP_S = 0.2, 5.0
#: What the operator has to mend: trying again would not.
_FINAL = frozenset({Goodbye.VERSION, Goodbye.AUTH_FAILED, Goodbye.SUSPENDED})


@dataclass(slots=True)
class Arrival:
    """How a fleet became complete: moments of the monotonic clock in seconds, 0 for what has not been yet."""

    began_s: float
    first_contact_s: float = 0.0
    complete_s: float = 0.0
    attempts: int = 0


@dataclass(slots=True, eq=False)
class _Line:
    """One connection, from its first packet on."""

    number: int
    sock: socket.socket
    connection: ClientConnection
    connected: bool = False
    encrypted: bool = False


class _CutOff(Exception):  # noqa: N818 - it happens to registers
    """A connection ended; `after_s` is how long the server wants to be left alone."""

    def __init__(self, text: str, after_s: float = 0.0) -> None:
        super().__init__(text)
        self.after_s = after_s


class Gathering:
    """Brings a fleet together and, with `come_back`, keeps it together: who is cut off tries again with jitter."""

    def __init__(self, fleet: Fleet, *, come_back: bool = False) -> None:
        self._fleet = fleet
        self._come_back = come_back
        server = fleet.target.population
        found = socket.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)[0]
        self._family, self._address = found[0], found[4]
        self._lines: dict[int, _Line] = {}
        self._attempts = dict.fromkeys(fleet.numbers, 0)
        self._salted: SaltedKey | None = None
        self._dice = random.Random()  # noqa: S311 - jitter is no secret
        self.arrival = Arrival(time.monotonic())
        #: Who connects next: (when, number of the register).
        self._due = [(self.arrival.began_s, number) for number in fleet.numbers]

    @property
    def complete(self) -> bool:
        """Return whether every register is signed on."""
        return len(self._fleet.ready) == len(self._fleet.numbers)

    @property
    def _key_awaited(self) -> bool:
        """Whether the first register still computes what the others, with the same secret, have in memory."""
        return self._salted is None and bool(self._lines)

    def gather(self, patience_s: float) -> Arrival:
        """Go on until all registers are signed on. Raises Trouble after `patience_s`, or when one is sent away."""
        until_s = time.monotonic() + patience_s
        while not self.complete:
            left_s = until_s - time.monotonic()
            if left_s <= 0:
                missing = len(self._fleet.numbers) - len(self._fleet.ready)
                raise Trouble(f"{missing} of {len(self._fleet.numbers)} registers are not ready after {patience_s} s")
            self.go_on(left_s)
        return self.arrival

    def go_on(self, wait_s: float) -> set[int]:
        """Wait so long at most for the next events and take them; return the files among them that are no register's.

        Raises Trouble for what cannot be mended by trying again.
        """
        now_s = time.monotonic()
        while self._due and self._due[0][0] <= now_s and not self._key_awaited:
            self._connect(heapq.heappop(self._due)[1])
        if self._due and not self._key_awaited:
            wait_s = min(wait_s, self._due[0][0] - now_s)
        strangers = set()
        for fd, mask in self._fleet.epoll.poll(wait_s, _EVENTS):
            line = self._lines.get(fd)
            if line is None:
                strangers.add(fd)
                continue
            try:
                self._advance(fd, line, mask)
            except (OSError, _CutOff) as error:
                self._cut_off(fd, line, error)
        return strangers

    def _connect(self, number: int) -> None:
        self.arrival.attempts += 1
        target = self._fleet.target
        sock = socket.socket(self._family)
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # What becomes of it comes as an event, an error too.
        sock.connect_ex(self._address)
        nonce = base64.b64encode(os.urandom(18)).decode()
        terminal, secret = target.terminal(number), target.population.secret
        connection = ClientConnection(terminal, secret, nonce, _now_ms(), software="load", salted=self._salted)
        self._fleet.epoll.register(sock.fileno(), _IN | _OUT)
        self._lines[sock.fileno()] = _Line(number, sock, connection)

    def _advance(self, fd: int, line: _Line, mask: int) -> None:
        """Take one connection as far as it goes."""
        if not line.connected:
            if error := line.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise OSError(error, os.strerror(error))
            if not mask & _OUT:
                return
            line.connected = True
            self.arrival.first_contact_s = self.arrival.first_contact_s or time.monotonic()
            if self._fleet.tls:
                host = self._fleet.target.population.host
                line.sock = self._fleet.tls.wrap_socket(line.sock, server_hostname=host, do_handshake_on_connect=False)
        if not line.encrypted:
            if not self._encrypt(fd, line):
                return
            line.encrypted = True
            self._say(fd, line)
        self._hear(fd, line)

    def _encrypt(self, fd: int, line: _Line) -> bool:
        """Return whether the line may be used, on plain TCP at once."""
        if not isinstance(line.sock, ssl.SSLSocket):
            return True
        try:
            line.sock.do_handshake()
        except ssl.SSLWantReadError:
            self._fleet.epoll.modify(fd, _IN)
            return False
        except ssl.SSLWantWriteError:
            self._fleet.epoll.modify(fd, _IN | _OUT)
            return False
        return True

    def _say(self, fd: int, line: _Line) -> None:
        data = line.connection.data_to_send()
        if data and line.sock.send(data) != len(data):
            raise _CutOff("the line takes not even the first frames")
        self._fleet.epoll.modify(fd, _IN)

    def _hear(self, fd: int, line: _Line) -> None:
        try:
            data = line.sock.recv(self._fleet.read_bytes)
        except NOT_READABLE:
            return
        if not data:
            raise _CutOff("the server closed the connection")
        for event in line.connection.receive_data(data, _now_ms()):
            self._take(line, event)
        self._salted = line.connection.salted
        if fd in self._lines:
            self._say(fd, line)

    def _take(self, line: _Line, event: ClientEvent) -> None:
        if isinstance(event, Closed):
            if event.reason in _FINAL:
                raise Trouble(f"register {line.number} got GOODBYE {Goodbye(event.reason).name}: {event.text}")
            raise _CutOff(event.text, event.reconnect_after_ms / 1000)
        if isinstance(event, Welcomed):
            self._fleet.limits = event.limits
            self._fleet.admit(line.sock, line.number)
            self._attempts[line.number] = 0
            if self.complete:
                self.arrival.complete_s = time.monotonic()

    def _cut_off(self, fd: int, line: _Line, error: Exception) -> None:
        if not self._come_back:
            raise Trouble(f"register {line.number} could not sign on: {error}") from None
        del self._lines[fd]
        if self.complete:
            self.arrival = Arrival(time.monotonic())
        if fd in self._fleet.ready:
            self._fleet.lose(fd)
        else:
            line.sock.close()
        attempt = self._attempts[line.number]
        self._attempts[line.number] = attempt + 1
        pause_s = self._dice.uniform(0, min(_BACKOFF_CAP_S, _BACKOFF_FIRST_S * 2.0**attempt))
        after_s = error.after_s if isinstance(error, _CutOff) else 0.0
        heapq.heappush(self._due, (time.monotonic() + after_s + pause_s, line.number))


def _now_ms() -> int:
    return int(time.monotonic() * 1000)
