"""The register's half of a connection, without I/O and without a clock (SPEC.md, the life of a connection).

Bytes go in by `receive_data`, events come out; what is to be sent is fetched by `data_to_send`. Every `now_ms` is
milliseconds of one clock of the caller that does not run backwards. What to do without an answer is not decided here.
"""

from enum import IntEnum, auto
from typing import Final

from protocol.codes import FRAME_BYTES_MAX_DEFAULT, PROTOCOL_VERSIONS, Goodbye
from protocol.events import ClientEvent, Closed, Draining, PongReceived, Welcomed
from protocol.fields import Malformed, UnknownType
from protocol.framing import FrameError, FrameReader, FrameTooLarge
from protocol.messages import AnswerMessage, ErrorMessage, WireMessage, decode, encode, name_of
from protocol.requests import Request
from protocol.scram import AuthenticationFailed, ClientExchange, SaltedKey
from protocol.session import TEXT_CHARACTERS_MAX, Challenge, Farewell, Hello, Limits, Ping, Pong, Proof, Welcome

HANDSHAKE_TIMEOUT_MS: Final = 10_000


class State(IntEnum):
    """Where a connection of a register stands; it only ever moves downwards."""

    CHALLENGE_AWAITED = auto()
    WELCOME_AWAITED = auto()
    READY = auto()
    DRAINING = auto()
    CLOSED = auto()


class ClientConnection:
    """One connection to the server, seen from the register; HELLO is queued at once.

    `now_ms` is the time of the connection, `client_nonce` at least 18 random bytes as Base64. `salted` is the attribute
    `salted` of an earlier connection with the same secret: it saves some milliseconds of computing at the challenge.
    """

    __slots__ = (
        "_deadline_ms",
        "_exchange",
        "_out",
        "_pinged_ms",
        "_pings",
        "_reader",
        "_reconnect_after_ms",
        "_sent_ms",
        "_waiting",
        "limits",
        "state",
    )

    def __init__(
        self,
        terminal_id: str,
        secret: str,
        client_nonce: str,
        now_ms: int,
        *,
        software: str = "",
        salted: SaltedKey | None = None,
        handshake_timeout_ms: int = HANDSHAKE_TIMEOUT_MS,
        frame_bytes_max: int = FRAME_BYTES_MAX_DEFAULT,
    ) -> None:
        self.state = State.CHALLENGE_AWAITED
        self.limits: Limits | None = None
        self._exchange = ClientExchange(terminal_id, secret, client_nonce, salted)
        self._reader = FrameReader(frame_bytes_max)
        self._waiting: set[bytes] = set()
        self._deadline_ms = now_ms + handshake_timeout_ms
        self._sent_ms = now_ms
        self._pinged_ms: int | None = None
        self._pings = 0
        self._reconnect_after_ms = 0
        self._out = [encode(Hello(PROTOCOL_VERSIONS, terminal_id, self._exchange.client_first, software))]

    @property
    def closed(self) -> bool:
        """Whether nothing more is read or queued: send what is queued, then close the socket."""
        return self.state is State.CLOSED

    @property
    def salted(self) -> SaltedKey | None:
        """What makes the next connection cheap; keep it in memory only, it is as good as the secret."""
        return self._exchange.salted

    @property
    def in_flight(self) -> int:
        """How many requests were sent and neither answered nor forgotten."""
        return len(self._waiting)

    @property
    def can_send(self) -> bool:
        """Whether `send_request` may be called now."""
        return self.state is State.READY and self.limits is not None and self.in_flight < self.limits.in_flight_max

    def data_to_send(self) -> bytes:
        """Return everything queued since the last call, to be written at once."""
        data = b"".join(self._out)
        self._out.clear()
        return data

    def send_request(self, request: Request, now_ms: int) -> None:
        """Queue a request; raises RuntimeError unless `can_send`. The same one may be sent again."""
        if not self.can_send:
            raise RuntimeError("no request can be sent now")
        self._out.append(encode(request))
        self._waiting.add(request.request_id)
        self._sent_ms = now_ms

    def forget(self, request_id: bytes) -> None:
        """Wait no longer for the answer to a request; if it still comes it is reported all the same."""
        self._waiting.discard(request_id)

    def ping(self, now_ms: int) -> None:
        """Ask whether the server is there; without any byte from it within heartbeat_ms the connection is dead."""
        if self.state in (State.READY, State.DRAINING):
            self._pings += 1
            self._out.append(encode(Ping(self._pings)))
            self._sent_ms = now_ms
            if self._pinged_ms is None:
                self._pinged_ms = now_ms

    def goodbye(self, reason: Goodbye = Goodbye.NORMAL, text: str = "") -> None:
        """Say GOODBYE and close; what is in flight is then in doubt."""
        if not self.closed:
            self._out.append(encode(Farewell(reason, text[:TEXT_CHARACTERS_MAX])))
            self._close()

    def receive_data(self, data: bytes | bytearray | memoryview, now_ms: int) -> list[ClientEvent]:
        """Take received bytes, in any chunks, and return what they mean. At the challenge PBKDF2 is computed here."""
        found: list[ClientEvent] = []
        if self.closed or not data:
            return found
        self._pinged_ms = None
        try:
            for payload in self._reader.feed(data):
                self._take(payload, now_ms, found)
                if self.closed:
                    return found
        except FrameError as error:
            reason = Goodbye.TOO_LARGE if isinstance(error, FrameTooLarge) else Goodbye.PROTOCOL
            self._fail(reason, str(error), found)
        return found

    def receive_eof(self) -> list[ClientEvent]:
        """Take note that the server has closed its side."""
        if self.closed:
            return []
        draining, reconnect_after_ms = self.state is State.DRAINING, self._reconnect_after_ms
        self._close()
        reason = Goodbye.DRAIN if draining else Goodbye.NORMAL
        return [Closed(reason, "closed by the server", by_peer=True, reconnect_after_ms=reconnect_after_ms)]

    def next_deadline_ms(self) -> int | None:
        """Return when `handle_timeout` wants to be called; it moves whenever something is sent or received."""
        if self.closed:
            return None
        if self.limits is None:
            return self._deadline_ms
        return (self._sent_ms if self._pinged_ms is None else self._pinged_ms) + self.limits.heartbeat_ms

    def handle_timeout(self, now_ms: int) -> list[ClientEvent]:
        """Send the heartbeat when it is due, or end a dead connection; does nothing when called too early."""
        found: list[ClientEvent] = []
        deadline = self.next_deadline_ms()
        if deadline is None or now_ms < deadline:
            return found
        if self.limits is None:
            self._fail(Goodbye.SLOW, "the handshake took too long", found)
        elif self._pinged_ms is None:
            self.ping(now_ms)
        else:
            self._fail(Goodbye.IDLE, f"no sign of the server within {self.limits.heartbeat_ms} ms after PING", found)
        return found

    def _close(self) -> None:
        self.state = State.CLOSED
        self._waiting.clear()
        self._reader = FrameReader(0)

    def _fail(self, reason: Goodbye, text: str, found: list[ClientEvent]) -> None:
        self.goodbye(reason, text)
        found.append(Closed(reason, text))

    def _take(self, payload: bytes, now_ms: int, found: list[ClientEvent]) -> None:
        try:
            message = decode(payload)
        except UnknownType:
            return  # A server of a later version may send messages that this register does not know.
        except Malformed as error:
            self._fail(Goodbye.PROTOCOL, str(error), found)
            return
        if isinstance(message, Farewell):
            self._take_farewell(message, found)
        elif self.state >= State.READY:
            self._take_message(message, now_ms, found)
        else:
            self._take_handshake(message, now_ms, found)

    def _take_message(self, message: WireMessage, now_ms: int, found: list[ClientEvent]) -> None:
        if isinstance(message, AnswerMessage | ErrorMessage):
            self._waiting.discard(message.request_id)
            found.append(message)
            if self.state is State.DRAINING and not self._waiting:
                self._close()
                text = "drained: everything in flight was answered"
                found.append(Closed(Goodbye.DRAIN, text, reconnect_after_ms=self._reconnect_after_ms))
        elif isinstance(message, Pong):
            found.append(PongReceived(message.nonce, message.server_time_ms))
        elif isinstance(message, Ping):
            self._out.append(encode(Pong(message.nonce, now_ms)))
            self._sent_ms = now_ms
        else:
            self._fail(Goodbye.PROTOCOL, f"{name_of(message)} at the wrong time", found)

    def _take_farewell(self, message: Farewell, found: list[ClientEvent]) -> None:
        if message.reason == Goodbye.DRAIN and self._waiting:
            self.state = State.DRAINING
            self._reconnect_after_ms = message.reconnect_after_ms
            found.append(Draining(message.text, message.reconnect_after_ms))
            return
        self._close()
        found.append(Closed(message.reason, message.text, by_peer=True, reconnect_after_ms=message.reconnect_after_ms))

    def _take_handshake(self, message: WireMessage, now_ms: int, found: list[ClientEvent]) -> None:
        try:
            if isinstance(message, Challenge) and self.state is State.CHALLENGE_AWAITED:
                self._take_challenge(message, now_ms, found)
            elif isinstance(message, Welcome) and self.state is State.WELCOME_AWAITED:
                self._take_welcome(message, found)
            else:
                self._fail(Goodbye.PROTOCOL, f"{name_of(message)} at the wrong time", found)
        except AuthenticationFailed as error:
            # The other end is not the server: it gets no further word, not even GOODBYE.
            self._close()
            found.append(Closed(Goodbye.AUTH_FAILED, str(error)))

    def _take_challenge(self, message: Challenge, now_ms: int, found: list[ClientEvent]) -> None:
        if message.version not in PROTOCOL_VERSIONS:
            self._fail(Goodbye.VERSION, f"version {message.version} was not offered", found)
            return
        self._out.append(encode(Proof(self._exchange.respond(message.server_first))))
        self._sent_ms = now_ms
        self.state = State.WELCOME_AWAITED

    def _take_welcome(self, message: Welcome, found: list[ClientEvent]) -> None:
        self._exchange.verify(message.server_final)
        self.limits = message.limits
        self.state = State.READY
        found.append(Welcomed(message.server_time_ms, message.limits, message.profile))
