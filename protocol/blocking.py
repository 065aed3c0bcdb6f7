"""The blocking client: a register over plain sockets, and everything else in `register.py`.

It uses `socket` and `ssl` in the plainest way and no threads, so gevent can patch it. One client belongs to one thread
or greenlet.
"""

import os
import random
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Final, Self

from protocol.operations import Operations
from protocol.register import Identity, Link, Register
from protocol.request_ids import request_id_at
from protocol.requests import Request
from protocol.retry import GivingUp
from protocol.session import Profile
from protocol.steady_clock import SteadyClock
from protocol.ticket import NO_DEADLINE_MS, NoAnswer, NoStore, Rejected, Reply, Store, Ticket, Unanswered
from protocol.ticket_book import TicketBook, Timing

_RECEIVE_BYTES: Final = 65_536
_WAIT_S_MAX: Final = 60.0


class BlockingClient(Operations[Reply]):
    """A register over a plain socket. It connects when there is something to send, and again when the line broke.

    `store` keeps requests with an effect through a power cut; it is called before anything is sent. `tls` is a
    client-side context, or None for plain TCP. `dice` (0.0 <= x < 1.0) jitters the waiting. Between calls nobody sends
    heartbeats: call `keep_alive` now and then, or let the server close the idle line and the next call connect anew.
    """

    def __init__(
        self,
        host: str,
        port: int,
        terminal_id: str,
        secret: str,
        *,
        tls: ssl.SSLContext | None = None,
        software: str = "tillwire client",
        timing: Timing | None = None,
        store: Store | None = None,
        dice: Callable[[], float] = random.random,
    ) -> None:
        timing = timing or Timing()
        self._address = (host, port)
        self._tls = tls
        self._connect_s = timing.connect_ms / 1_000
        self._now_ms = SteadyClock()
        book = TicketBook(timing, store or NoStore(), dice, self.new_id)
        self._register = Register(
            Identity(terminal_id, secret, software),
            timing,
            book,
            random=dice,
            random_bytes=os.urandom,
            stay_connected=False,
        )
        self._socket: socket.socket | None = None
        self._closed = False

    def __enter__(self) -> Self:
        """Return the client; it connects with the first request."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Say goodbye and close. Safe to call twice."""
        self._closed = True
        self._register.close(self._now_ms())
        self._flush()
        self._hang_up()

    def new_id(self) -> bytes:
        """Return a new request id."""
        return request_id_at(self.server_now_ms(), os.urandom)

    def server_now_ms(self) -> int:
        """Return the server's time in ms since the epoch; before the first connection, this machine's."""
        return self._now_ms() + self._register.clock_offset_ms

    @property
    def profile(self) -> Profile | None:
        """What the server said about this terminal; None before the first connection."""
        return self._register.profile

    @property
    def connected(self) -> bool:
        """Whether requests would be sent at once."""
        return self._register.link is Link.UP

    def request(self, request: Request, *, giving_up: GivingUp | None = None, patience_ms: int | None = None) -> Reply:
        """Send a request until it is answered, and return the reply; see `Client.request` for what it raises."""
        ticket = self._submit(request, giving_up, patience_ms)
        self._run([ticket])
        return ticket.outcome()

    def request_many(self, requests: Sequence[Request]) -> list[Reply | Unanswered]:
        """Send requests in one go, without waiting for one before the next; return replies and failures in their order.

        Raises ValueError, before anything is sent, when two have the same id.
        """
        if len({request.request_id for request in requests}) < len(requests):
            raise ValueError("two requests have the same id")
        tickets = [self._submit(request, None, None) for request in requests]
        self._run(tickets)
        return [ticket.failure or ticket.outcome() for ticket in tickets]

    def connect(self, patience_ms: int) -> Profile | None:
        """Connect, without a request, and return what the server says about this terminal; None if there was no time.

        Raises Rejected, with an id of zeros, when the server does not want this terminal.
        """
        register, until_ms = self._register, self._now_ms() + patience_ms
        register.stay_connected = True
        try:
            while register.link is not Link.UP and register.unwanted is None and self._now_ms() < until_ms:
                self._step((until_ms - self._now_ms()) / 1_000)
        finally:
            register.stay_connected = False
        if register.unwanted is not None:
            raise Rejected(bytes(16), *register.unwanted)
        return register.profile if register.link is Link.UP else None

    def keep_alive(self) -> None:
        """Do what is due on the connection between two requests: heartbeats, a GOODBYE of the server. Never waits."""
        if not self._closed:
            self._step(0)

    def _submit(self, request: Request, giving_up: GivingUp | None, patience_ms: int | None) -> Ticket:
        if self._closed:
            raise NoAnswer(request.request_id, "the client was closed")
        if self._socket is not None:
            # A line that died or was drained since the last request shows now, before anything is sent on it.
            self._receive(0)
        return self._register.submit(request, self._now_ms(), giving_up, patience_ms)

    def _run(self, tickets: list[Ticket]) -> None:
        settled = self._register.book.settled
        while not all(ticket.settled for ticket in tickets):
            settled.clear()
            self._step(_WAIT_S_MAX)
        settled.clear()

    def _step(self, wait_s_max: float) -> None:
        register = self._register
        if register.wants_connection(self._now_ms()):
            self._connect()
        register.tick(self._now_ms())
        self._flush()
        if register.wants_close:
            self._hang_up()
            return
        if register.book.settled and wait_s_max:
            return
        deadline_ms = register.next_deadline_ms()
        wait_s = wait_s_max if deadline_ms == NO_DEADLINE_MS else (deadline_ms - self._now_ms()) / 1_000
        wait_s = max(0.0, min(wait_s, wait_s_max))
        if self._socket is not None:
            self._receive(wait_s)
        elif wait_s:
            time.sleep(wait_s)

    def _connect(self) -> None:
        self._register.connecting()
        plain = None
        try:
            plain = socket.create_connection(self._address, self._connect_s)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            line = plain if self._tls is None else self._tls.wrap_socket(plain, server_hostname=self._address[0])
        except OSError:
            # A time-out, a refused connection and a bad certificate (SSLError) are all OSErrors.
            if plain is not None:
                plain.close()
            self._register.disconnected(self._now_ms())
        else:
            self._socket = line
            self._register.connected(self._now_ms())

    def _flush(self) -> None:
        data = self._register.data_to_send()
        if data and self._socket is not None:
            try:
                self._socket.settimeout(self._connect_s)
                self._socket.sendall(data)
            except OSError:
                self._hang_up()

    def _receive(self, wait_s: float) -> None:
        if self._socket is None:
            return
        try:
            # 0 would make the socket non-blocking, which TLS and gevent each treat in their own way.
            self._socket.settimeout(max(wait_s, 0.000_1))
            data = self._socket.recv(_RECEIVE_BYTES)
        except TimeoutError:
            return
        except OSError:
            data = b""
        if data:
            self._register.received(data, self._now_ms())
        if not data or self._register.wants_close:
            self._flush()
            self._hang_up()

    def _hang_up(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
            self._register.disconnected(self._now_ms())
