"""A register without I/O: one connection at a time, opened again when it breaks, and the requests that go over it.

All that the asyncio and the blocking client do is here, except moving bytes. A shell around it does this, in a loop:

- `wants_connection(now)`: call `connecting`, connect, then call `connected`, or `disconnected` if that failed;
- send what `data_to_send` returns; give received bytes to `received`, and an end of file to `disconnected`;
- `wants_close`: send what `data_to_send` returns, close the socket, call `disconnected`;
- call `tick` after each of these and when `next_deadline_ms` has come; look at `book.settled`.

All times are milliseconds since the epoch of one clock that does not run backwards.
"""

import base64
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum, auto
from typing import Final

from protocol.client_connection import ClientConnection
from protocol.codes import Goodbye
from protocol.events import ClientEvent, Closed, Draining, PongReceived, Welcomed
from protocol.messages import AnswerMessage, ErrorMessage
from protocol.requests import Request
from protocol.retry import GivingUp, State
from protocol.scram import SaltedKey
from protocol.session import Limits, Profile
from protocol.ticket import NO_DEADLINE_MS, Ticket
from protocol.ticket_book import TicketBook, Timing

NONCE_BYTES: Final = 18
_UNWANTED: Final = frozenset({Goodbye.VERSION, Goodbye.AUTH_FAILED, Goodbye.SUSPENDED})


class Link(IntEnum):
    """Where the connection stands."""

    DOWN = auto()
    CONNECTING = auto()
    HANDSHAKE = auto()
    UP = auto()
    DRAINING = auto()
    ENDING = auto()


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the register is: `secret` is 1 to 128 printable ASCII characters, `software` is for the operator's eyes."""

    terminal_id: str
    secret: str = field(repr=False)
    software: str = ""


class Register:
    """See the module. `random` returns 0.0 <= x < 1.0, `random_bytes` so many bytes that nobody can guess.

    `stay_connected`: connect also when nothing is to be sent. `unwanted` is the GOODBYE (reason, text) of a server that
    does not want this terminal, until the register may try again.
    """

    def __init__(
        self,
        identity: Identity,
        timing: Timing,
        book: TicketBook,
        *,
        random: Callable[[], float],
        random_bytes: Callable[[int], bytes],
        stay_connected: bool,
    ) -> None:
        self.book = book
        self.link = Link.DOWN
        self.limits: Limits | None = None
        self.profile: Profile | None = None
        self.clock_offset_ms = 0
        self._identity = identity
        self._timing = timing
        self._random = random
        self._random_bytes = random_bytes
        self.stay_connected = stay_connected
        self._connection: ClientConnection | None = None
        self._salted: SaltedKey | None = None
        self._attempts = 0
        self._reconnect_ms = 0
        self._heard_ms = 0
        self._pong_deadline_ms = NO_DEADLINE_MS
        self.unwanted: tuple[int, str] | None = None

    def submit(
        self, request: Request, now_ms: int, giving_up: GivingUp | None = None, patience_ms: int | None = None
    ) -> Ticket:
        """Store a request and take it up; its ticket settles sooner or later. Raises ValueError for an id under way."""
        return self.book.add(request, now_ms, giving_up, patience_ms)

    def wants_connection(self, now_ms: int) -> bool:
        """Whether it is time to connect."""
        return self.link is Link.DOWN and self._needs_connection() and now_ms >= self._reconnect_ms

    @property
    def wants_close(self) -> bool:
        """Whether this side is done with the connection."""
        return self.link is Link.ENDING

    def connecting(self) -> None:
        """Note that a connection is being made."""
        self.link = Link.CONNECTING

    def connected(self, now_ms: int) -> None:
        """Begin the handshake."""
        self.link = Link.HANDSHAKE
        self._heard_ms = now_ms
        self._connection = ClientConnection(
            self._identity.terminal_id,
            self._identity.secret,
            base64.b64encode(self._random_bytes(NONCE_BYTES)).decode(),
            now_ms,
            software=self._identity.software,
            salted=self._salted,
            handshake_timeout_ms=self._timing.handshake_ms,
        )

    def received(self, data: bytes | bytearray | memoryview, now_ms: int) -> None:
        """Take received bytes."""
        if self._connection is not None:
            self._heard_ms = now_ms
            self._pong_deadline_ms = NO_DEADLINE_MS
            self._take(self._connection.receive_data(data, now_ms), now_ms)

    def disconnected(self, now_ms: int) -> None:
        """Note that there is no connection (any more): what had no answer is in doubt."""
        if self._connection is not None:
            self._take(self._connection.receive_eof(), now_ms)
        if self.link is not Link.ENDING:
            self._plan_reconnect(now_ms, 0)
        self.link = Link.DOWN
        self._connection = None
        self._pong_deadline_ms = NO_DEADLINE_MS
        self.book.lost(now_ms)

    def data_to_send(self) -> bytes:
        """Return everything queued since the last call."""
        return b"" if self._connection is None else self._connection.data_to_send()

    def tick(self, now_ms: int) -> None:
        """Do what is due."""
        if self.unwanted is not None:
            if now_ms < self._reconnect_ms:
                self.book.reject(*self.unwanted, now_ms)
            else:
                self.unwanted = None
        forgotten = self.book.expire(now_ms)
        connection = self._connection
        if connection is None or self.link is Link.ENDING:
            return
        if self._pong_deadline_ms <= now_ms:
            connection.goodbye(Goodbye.NORMAL, "no sign of the server")
            self._end(now_ms, 0)
            return
        self._take(connection.handle_timeout(now_ms), now_ms)
        for ticket in forgotten:
            connection.forget(ticket.request.request_id)
            if ticket.sent_ms >= self._heard_ms:
                self._probe(connection, now_ms)
        if self.link is Link.UP:
            self._send_due(connection, now_ms)
        elif self.link is Link.DRAINING and not self.book.on_their_way():
            connection.goodbye()
            self._end(now_ms, None)

    def next_deadline_ms(self) -> int:
        """Return when `tick` wants to be called; NO_DEADLINE_MS for never."""
        sending = self.link is Link.UP and self._connection is not None and self._connection.can_send
        resending = sending and self._pong_deadline_ms == NO_DEADLINE_MS
        deadlines = [self.book.next_deadline_ms(sending, resending), self._pong_deadline_ms]
        if self.link is Link.DOWN and self._needs_connection():
            deadlines.append(self._reconnect_ms)
        if self._connection is not None:
            deadlines.append(self._connection.next_deadline_ms() or NO_DEADLINE_MS)
        return min(deadlines)

    def close(self, now_ms: int) -> None:
        """Say goodbye and end everything; what may have had an effect ends in doubt. Safe to call twice."""
        self.book.close(now_ms)
        self.stay_connected = False
        if self._connection is not None and self.link is not Link.ENDING:
            self._connection.goodbye()
            self._end(now_ms, None)

    def _needs_connection(self) -> bool:
        return self.stay_connected or len(self.book) > 0

    def _plan_reconnect(self, now_ms: int, at_least_ms: int) -> None:
        self._attempts += 1
        wait_ms = self._timing.backoff.wait_ms(self._attempts, at_least_ms, self._random)
        self._reconnect_ms = max(self._reconnect_ms, now_ms + wait_ms)

    def _end(self, now_ms: int, at_least_ms: int | None) -> None:
        self.link = Link.ENDING
        if at_least_ms is not None:
            self._plan_reconnect(now_ms, at_least_ms)

    def _probe(self, connection: ClientConnection, now_ms: int) -> None:
        if self._pong_deadline_ms == NO_DEADLINE_MS:
            connection.ping(now_ms)
            self._pong_deadline_ms = now_ms + self._timing.pong_ms

    def _send_due(self, connection: ClientConnection, now_ms: int) -> None:
        for ticket in self.book.due(now_ms):
            if not connection.can_send:
                return
            # While nobody knows whether the line is alive, a second copy would only follow the first one.
            if ticket.state is State.DOUBT and self._pong_deadline_ms != NO_DEADLINE_MS:
                continue
            connection.send_request(ticket.request, now_ms)
            self.book.sent(ticket, now_ms)

    def _take(self, found: list[ClientEvent], now_ms: int) -> None:
        for event in found:
            match event:
                case AnswerMessage():
                    self._attempts = 0
                    self.book.answered(event, now_ms)
                case ErrorMessage():
                    self.book.refused(event, now_ms)
                case Welcomed():
                    self._welcome(event, now_ms)
                case PongReceived():
                    self._attempts = 0
                    self.clock_offset_ms = event.server_time_ms - now_ms
                case Draining():
                    self.link = Link.DRAINING
                    self._plan_reconnect(now_ms, event.reconnect_after_ms)
                case Closed():
                    self._closed(event, now_ms)

    def _welcome(self, event: Welcomed, now_ms: int) -> None:
        self.link = Link.UP
        self.limits, self.profile = event.limits, event.profile
        self.clock_offset_ms = event.server_time_ms - now_ms
        self.book.ttl_default_ms, self.book.ttl_max_ms = event.limits.ttl_default_ms, event.limits.ttl_max_ms
        if self._connection is not None:
            self._salted = self._connection.salted

    def _closed(self, event: Closed, now_ms: int) -> None:
        drained = self.link is Link.DRAINING
        self._end(now_ms, None if drained else event.reconnect_after_ms)
        if event.reason in _UNWANTED:
            self.unwanted = (event.reason, event.text)
            self._reconnect_ms = now_ms + self._timing.stop_ms
            self.book.reject(event.reason, event.text, now_ms)
