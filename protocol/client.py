"""The asyncio client: a register that moves bytes by asyncio and leaves everything else to `register.py`."""

import asyncio
import os
import random
import ssl
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self, cast

from protocol.operations import Operations
from protocol.register import Identity, Link, Register
from protocol.request_ids import request_id_at
from protocol.requests import Request
from protocol.retry import GivingUp
from protocol.session import Profile
from protocol.steady_clock import SteadyClock
from protocol.ticket import NO_DEADLINE_MS, NoAnswer, NoStore, Reply, Store, Ticket
from protocol.ticket_book import TicketBook, Timing


class Client(Operations[Awaitable[Reply]]):
    """A register over asyncio; many requests may be under way at once, and all go over one connection.

    Use it by `async with`. It connects by itself, stays connected, and does what SPEC.md asks of a register. `store`
    keeps requests with an effect through a power cut; it is called in the event loop, before anything is sent. `tls` is
    a client-side context, or None for plain TCP. `dice` (0.0 <= x < 1.0) jitters the waiting, `random_bytes`
    makes ids and nonces, `now_ms` is a clock that never jumps (default: a `SteadyClock`).
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
        random_bytes: Callable[[int], bytes] = os.urandom,
        now_ms: Callable[[], int] | None = None,
    ) -> None:
        timing = timing or Timing()
        self._address = (host, port)
        self._tls = tls
        self._connect_s = timing.connect_ms / 1_000
        self._now_ms = now_ms or SteadyClock()
        self._random_bytes = random_bytes
        book = TicketBook(timing, store or NoStore(), dice, self.new_id)
        self._register = Register(
            Identity(terminal_id, secret, software),
            timing,
            book,
            random=dice,
            random_bytes=random_bytes,
            stay_connected=True,
        )
        self._waiting: dict[Ticket, asyncio.Future[Reply]] = {}
        self._line: _Line | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._closed = False

    async def __aenter__(self) -> Self:
        """Begin to connect; requests may be sent at once and wait for the connection."""
        self._pump()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Say goodbye and close. What is under way ends in NoAnswer or InDoubt. Safe to call twice."""
        self._closed = True
        self._register.close(self._now_ms())
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait([self._connecting])
            # The connection may have come up while its making was being cancelled.
            self._register.close(self._now_ms())
        line = self._line
        self._pump()
        if self._timer is not None:
            self._timer.cancel()
        if line is not None and not (await asyncio.wait([line.gone], timeout=self._connect_s))[0]:
            line.abort()

    def new_id(self) -> bytes:
        """Return a new request id."""
        return request_id_at(self.server_now_ms(), self._random_bytes)

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

    async def request(
        self, request: Request, *, giving_up: GivingUp | None = None, patience_ms: int | None = None
    ) -> Reply:
        """Send a request until it is answered, and return the reply.

        When `patience_ms` is over it is given up in the way of its operation, or in that of `giving_up`: a question is
        dropped, an EARN stays in the store, a REDEEM is reversed (then the reply's outcome is REVERSED). Raises Refused
        (the server said ERROR), NoAnswer (nothing happened; Rejected: the terminal is not wanted), InDoubt (not even
        the reversal was answered), ValueError (a request with this id is under way).
        """
        if self._closed:
            raise NoAnswer(request.request_id, "the client was closed")
        ticket = self._register.submit(request, self._now_ms(), giving_up, patience_ms)
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting[ticket] = future
        self._pump()
        return await future

    def _pump(self) -> None:
        register, now_ms = self._register, self._now_ms()
        register.tick(now_ms)
        line = self._line
        # To a transport that closes, of which connection_lost will tell in a moment, uvloop lets nobody write any more.
        if line is not None and line.transport is not None and not line.transport.is_closing():
            data = register.data_to_send()
            if data:
                line.transport.write(data)
            if register.wants_close:
                line.transport.close()
        self._settle()
        if not self._closed and self._connecting is None and register.wants_connection(now_ms):
            register.connecting()
            self._connecting = asyncio.get_running_loop().create_task(self._connect(), name="till connects")
        self._set_timer(now_ms)

    def _settle(self) -> None:
        for ticket in self._register.book.settled:
            future = self._waiting.pop(ticket, None)
            if future is None or future.done():
                continue
            if ticket.reply is not None:
                future.set_result(ticket.reply)
            elif ticket.failure is not None:
                future.set_exception(ticket.failure)
        self._register.book.settled.clear()

    def _set_timer(self, now_ms: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline_ms = self._register.next_deadline_ms()
        if not self._closed and deadline_ms != NO_DEADLINE_MS:
            delay_s = max(deadline_ms - now_ms, 1) / 1_000
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._pump)

    async def _connect(self) -> None:
        host, port = self._address
        line = _Line(self)
        try:
            async with asyncio.timeout(self._connect_s):
                await asyncio.get_running_loop().create_connection(lambda: line, host, port, ssl=self._tls)
        except OSError:
            # A time-out, a refused connection and a bad certificate (SSLError) are all OSErrors.
            self._register.disconnected(self._now_ms())
        finally:
            self._connecting = None
        self._pump()

    def _opened(self, line: "_Line") -> None:
        self._line = line
        self._register.connected(self._now_ms())
        self._pump()

    def _received(self, data: bytes) -> None:
        self._register.received(data, self._now_ms())
        self._pump()

    def _lost(self) -> None:
        self._line = None
        self._register.disconnected(self._now_ms())
        self._pump()


class _Line(asyncio.Protocol):
    """One TCP connection, which hands everything to its client."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.transport: asyncio.Transport | None = None
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def abort(self) -> None:
        """Close without sending what is queued: the peer does not read."""
        if self.transport is not None:
            self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not to be asked by isinstance: uvloop's transports do not derive from asyncio's.
        self.transport = cast("asyncio.Transport", transport)
        self._client._opened(self)  # noqa: SLF001 (the two are one piece)

    def data_received(self, data: bytes) -> None:
        self._client._received(data)  # noqa: SLF001

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (asyncio's signature)
        self.transport = None
        self._client._lost()  # noqa: SLF001
        if not self.gone.done():
            self.gone.set_result(None)
