"""The server's half of a connection, without I/O and without a clock (SPEC.md, the life of a connection).

Bytes go in by `receive_data`, events come out; what is to be sent is fetched by `data_to_send`, once per flush. Every
`now_ms` is milliseconds since the epoch, because PONG carries it; let it come from a clock that does not jump, such as
the time of the process's start plus a monotonic clock.
"""

from enum import IntEnum, auto
from typing import Final

from protocol import events
from protocol.codes import PROTOCOL_VERSIONS, ErrorCode, Goodbye
from protocol.events import Closed, ServerEvent
from protocol.fields import Malformed, UnknownType
from protocol.framing import FrameError, FrameReader, FrameTooLarge
from protocol.messages import WireMessage, answer_frame, decode, encode, error_frame, glance, name_of
from protocol.requests import Request, fingerprint
from protocol.scram import AuthenticationFailed, Credentials, ServerExchange
from protocol.session import (
    TEXT_CHARACTERS_MAX,
    Challenge,
    Farewell,
    Hello,
    Limits,
    Ping,
    Pong,
    Profile,
    Proof,
    Welcome,
)

HANDSHAKE_FRAME_BYTES_MAX: Final = 4_096
HANDSHAKE_TIMEOUT_MS: Final = 10_000
FRAME_TIMEOUT_MS: Final = 10_000
BUSY_RETRY_AFTER_MS: Final = 250


class State(IntEnum):
    """Where a connection of the server stands; it only ever moves downwards."""

    HELLO_AWAITED = auto()
    CHALLENGE_DUE = auto()
    PROOF_AWAITED = auto()
    WELCOME_DUE = auto()
    READY = auto()
    DRAINING = auto()
    CLOSED = auto()


# Reading a member from its enum is slow in Python 3.11, and these are compared for every request.
_READY: Final = State.READY
_DRAINING: Final = State.DRAINING
_CLOSED: Final = State.CLOSED


class ServerConnection:
    """One register's connection, seen from the server.

    `now_ms` is the time of its acceptance. Until WELCOME frames are kept short and time is limited by
    `handshake_timeout_ms`, because nobody has proved anything yet; `frame_timeout_ms` limits the time from the first to
    the last byte of any frame. What holds afterwards is given to `welcome`.
    """

    __slots__ = (
        "_exchange",
        "_frame_began_ms",
        "_frame_timeout_ms",
        "_handshake_deadline_ms",
        "_heard_ms",
        "_idle_timeout_ms",
        "_in_flight_max",
        "_out",
        "_reader",
        "_reconnect_after_ms",
        "_server_final",
        "_version",
        "in_flight",
        "state",
        "terminal_id",
    )

    def __init__(
        self,
        now_ms: int,
        *,
        handshake_timeout_ms: int = HANDSHAKE_TIMEOUT_MS,
        frame_timeout_ms: int = FRAME_TIMEOUT_MS,
        handshake_frame_bytes_max: int = HANDSHAKE_FRAME_BYTES_MAX,
    ) -> None:
        self.state = State.HELLO_AWAITED
        self.terminal_id = ""
        self.in_flight = 0
        self._reader = FrameReader(handshake_frame_bytes_max)
        self._out: list[bytes] = []
        self._exchange: ServerExchange | None = None
        self._server_final = ""
        self._version = 0
        self._in_flight_max = 0
        self._idle_timeout_ms = 0
        self._frame_timeout_ms = frame_timeout_ms
        self._handshake_deadline_ms = now_ms + handshake_timeout_ms
        self._heard_ms = now_ms
        self._frame_began_ms: int | None = None
        self._reconnect_after_ms = 0

    @property
    def frame_under_way(self) -> bool:
        """Whether a frame has begun and is not complete, so that `next_deadline_ms` may be nearer than before."""
        return self._frame_began_ms is not None

    @property
    def wants_flush(self) -> bool:
        """Whether `data_to_send` has something, or the socket is to be closed."""
        return bool(self._out) or self.state is _CLOSED

    @property
    def closed(self) -> bool:
        """Whether nothing more is read or queued: send what is queued, then close the socket."""
        return self.state is _CLOSED

    def data_to_send(self) -> bytes:
        """Return everything queued since the last call, to be written at once."""
        data = b"".join(self._out)
        self._out.clear()
        return data

    def receive_data(
        self, data: bytes | bytearray | memoryview, now_ms: int, busy_after_ms: int = 0
    ) -> list[ServerEvent]:
        """Take received bytes, in any chunks, and return what they mean.

        With `busy_after_ms`, which goes out as `retry_after_ms`, requests are answered BUSY and not read: whoever has
        too much to do must not spend the time that is left on those that it sends away.
        """
        found: list[ServerEvent] = []
        if self.state is _CLOSED or not data:
            return found
        began = self._frame_began_ms
        try:
            for payload in self._reader.feed(data):
                began = None
                if busy_after_ms and self.state is _READY and self._turn_away(payload, busy_after_ms, found):
                    continue
                self._take(payload, now_ms, found)
                if self.closed:
                    return found
        except FrameError as error:
            reason = Goodbye.TOO_LARGE if isinstance(error, FrameTooLarge) else Goodbye.PROTOCOL
            self._fail(reason, str(error), found)
        self._heard_ms = now_ms
        # A frame's time runs from its first byte, so that sending a byte now and then does not keep a connection alive.
        self._frame_began_ms = None if not self._reader.buffered_bytes else now_ms if began is None else began
        return found

    def receive_eof(self) -> list[ServerEvent]:
        """Take note that the register has closed its side."""
        if self.state is _CLOSED:
            return []
        self._close()
        return [Closed(Goodbye.NORMAL, "closed without GOODBYE", by_peer=True)]

    def next_deadline_ms(self) -> int | None:
        """Return when `handle_timeout` wants to be called; it moves whenever data is received."""
        if self.state is _CLOSED:
            return None
        if self.state < _READY:
            return self._handshake_deadline_ms
        idle = self._heard_ms + self._idle_timeout_ms
        return idle if self._frame_began_ms is None else min(idle, self._frame_began_ms + self._frame_timeout_ms)

    def handle_timeout(self, now_ms: int) -> list[ServerEvent]:
        """End the connection if a deadline has passed; does nothing when called too early."""
        found: list[ServerEvent] = []
        deadline = self.next_deadline_ms()
        if deadline is None or now_ms < deadline:
            return found
        if self.state < _READY:
            self._fail(Goodbye.SLOW, "the handshake took too long", found)
        elif deadline == self._heard_ms + self._idle_timeout_ms:
            self._fail(Goodbye.IDLE, f"nothing received for {self._idle_timeout_ms} ms", found)
        else:
            self._fail(Goodbye.SLOW, f"a frame was not complete after {self._frame_timeout_ms} ms", found)
        return found

    def challenge(self, credentials: Credentials, server_nonce: str) -> None:
        """Answer HELLO; an unknown terminal gets decoy credentials. Nothing happens if the connection has closed."""
        if self.state is _CLOSED:
            return
        if self.state is not State.CHALLENGE_DUE or self._exchange is None:
            raise RuntimeError("challenge answers HelloReceived, once")
        self._queue(encode(Challenge(self._version, self._exchange.challenge(credentials, server_nonce))))
        self.state = State.PROOF_AWAITED

    def welcome(self, server_time_ms: int, limits: Limits, profile: Profile) -> None:
        """Admit the terminal; the limits announced are those enforced from now on. Nothing happens once closed."""
        if self.state is _CLOSED:
            return
        if self.state is not State.WELCOME_DUE:
            raise RuntimeError("welcome answers Authenticated, once")
        self._queue(encode(Welcome(self._server_final, server_time_ms, limits, profile)))
        self._reader.frame_bytes_max = limits.frame_bytes_max
        self._in_flight_max = limits.in_flight_max
        self._idle_timeout_ms = limits.idle_timeout_ms
        self._exchange = None
        self.state = _READY

    def send_answer(self, request_id: bytes, replayed: bool, body: bytes) -> None:
        """Queue the ANSWER to a request in flight; `body` comes packed and is not looked into."""
        self._settle(answer_frame(request_id, replayed, body))

    def send_error(self, request_id: bytes, code: int, text: str, retry_after_ms: int = 0) -> None:
        """Queue the ERROR to a request in flight."""
        self._settle(error_frame(request_id, code, text, retry_after_ms))

    def ping(self, nonce: int) -> None:
        """Ask the register whether it is there; whatever it sends counts as an answer."""
        self._queue(encode(Ping(nonce)))

    def goodbye(self, reason: Goodbye, text: str, reconnect_after_ms: int = 0) -> None:
        """Say GOODBYE and close; with DRAIN only when everything in flight is answered, and new requests get BUSY."""
        if self.state >= _DRAINING and reason is Goodbye.DRAIN:
            return
        self._queue(encode(Farewell(reason, text[:TEXT_CHARACTERS_MAX], reconnect_after_ms)))
        if reason is Goodbye.DRAIN and self.in_flight and self.state is _READY:
            self.state = _DRAINING
            self._reconnect_after_ms = reconnect_after_ms
        else:
            self._close()

    def fail(self, reason: Goodbye, text: str) -> None:
        """Say GOODBYE and close because something went wrong; nothing in flight is answered any more."""
        self.goodbye(reason, text)

    def _queue(self, frame: bytes) -> None:
        if self.state is not _CLOSED:
            self._out.append(frame)

    def _close(self) -> None:
        self.state = _CLOSED
        self.in_flight = 0
        self._exchange = None
        self._reader = FrameReader(0)
        self._frame_began_ms = None

    def _fail(self, reason: Goodbye, text: str, found: list[ServerEvent]) -> None:
        self.goodbye(reason, text)
        found.append(Closed(reason, text))

    def _settle(self, frame: bytes) -> None:
        if self.state is _CLOSED:
            return
        if not self.in_flight:
            raise RuntimeError("an answer to a request that is not in flight")
        self._out.append(frame)
        self.in_flight -= 1
        if not self.in_flight and self.state is _DRAINING:
            self._close()

    def _turn_away(self, payload: bytes, busy_after_ms: int, found: list[ServerEvent]) -> bool:
        request = glance(payload)
        if request is None:
            return False
        op, request_id = request
        self._out.append(error_frame(request_id, ErrorCode.BUSY, "", busy_after_ms))
        found.append(events.TurnedAway(op))
        return True

    def _take(self, payload: bytes, now_ms: int, found: list[ServerEvent]) -> None:
        try:
            message = decode(payload)
        except Malformed as error:
            self._refuse(error.request_id, ErrorCode.MALFORMED, str(error), found)
        except UnknownType as error:
            self._refuse(error.request_id, ErrorCode.UNSUPPORTED, str(error), found)
        else:
            if self.state >= _READY:
                self._take_message(message, now_ms, found)
            else:
                self._take_handshake(message, found)

    def _refuse(self, request_id: bytes | None, code: ErrorCode, text: str, found: list[ServerEvent]) -> None:
        if request_id is None or self.state < _READY:
            self._fail(Goodbye.PROTOCOL, text, found)
            return
        retry_after_ms = 0
        if code is ErrorCode.BUSY:
            retry_after_ms = max(BUSY_RETRY_AFTER_MS, self._reconnect_after_ms)
        self._out.append(error_frame(request_id, code, text, retry_after_ms))
        found.append(events.BadRequest(request_id, code, text))

    def _take_message(self, message: WireMessage, now_ms: int, found: list[ServerEvent]) -> None:
        if isinstance(message, Request):
            if self.state is _DRAINING:
                self._refuse(message.request_id, ErrorCode.BUSY, "this connection is being drained", found)
            elif self.in_flight >= self._in_flight_max:
                self._refuse(message.request_id, ErrorCode.BUSY, "too many requests in flight", found)
            else:
                self.in_flight += 1
                found.append(events.RequestReceived(message, fingerprint(message, self.terminal_id)))
        elif isinstance(message, Ping):
            self._out.append(encode(Pong(message.nonce, now_ms)))
            found.append(events.PingReceived(message.nonce))
        elif isinstance(message, Farewell):
            self._take_farewell(message, found)
        elif not isinstance(message, Pong):
            self._fail(Goodbye.PROTOCOL, f"{name_of(message)} at the wrong time", found)

    def _take_farewell(self, message: Farewell, found: list[ServerEvent]) -> None:
        self._close()
        found.append(Closed(message.reason, message.text, by_peer=True, reconnect_after_ms=message.reconnect_after_ms))

    def _take_handshake(self, message: WireMessage, found: list[ServerEvent]) -> None:
        if isinstance(message, Hello) and self.state is State.HELLO_AWAITED:
            self._take_hello(message, found)
        elif isinstance(message, Proof) and self.state is State.PROOF_AWAITED:
            self._take_proof(message, found)
        elif isinstance(message, Farewell):
            self._take_farewell(message, found)
        else:
            self._fail(Goodbye.PROTOCOL, f"{name_of(message)} at the wrong time", found)

    def _take_hello(self, hello: Hello, found: list[ServerEvent]) -> None:
        common = set(hello.versions) & set(PROTOCOL_VERSIONS)
        if not common:
            spoken = ", ".join(str(version) for version in PROTOCOL_VERSIONS)
            self._fail(Goodbye.VERSION, f"versions spoken here: {spoken}", found)
            return
        try:
            self._exchange = ServerExchange(hello.client_first)
        except AuthenticationFailed as error:
            self._fail(Goodbye.AUTH_FAILED, str(error), found)
            return
        if self._exchange.username != hello.terminal_id:
            self._fail(Goodbye.AUTH_FAILED, "client_first names another terminal", found)
            return
        self._version = max(common)
        self.terminal_id = hello.terminal_id
        self.state = State.CHALLENGE_DUE
        found.append(events.HelloReceived(hello.terminal_id, hello.versions, hello.software))

    def _take_proof(self, proof: Proof, found: list[ServerEvent]) -> None:
        if self._exchange is None:
            raise RuntimeError("a proof is awaited only after a challenge")
        try:
            self._server_final = self._exchange.verify(proof.client_final)
        except AuthenticationFailed as error:
            self._fail(Goodbye.AUTH_FAILED, str(error), found)
            return
        self.state = State.WELCOME_DUE
        found.append(events.Authenticated(self.terminal_id))
