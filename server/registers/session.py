"""One register's connection: moves bytes between a socket and `protocol.connection`, signs on, hands requests over."""

from __future__ import annotations

import asyncio

from ledger.programme import Terminal
from protocol.codes import ErrorCode, Goodbye
from protocol.connection import ServerConnection, State
from protocol.events import Authenticated, BadRequest, Closed, HelloReceived, RequestReceived, ServerEvent, TurnedAway
from server.registers.dispatch import Moment
from server.registers.pending import Pending
from server.registers.reception import Reception

# Ways in which connections end all day long; everything else is worth a line in the log.
_ORDINARY = frozenset({int(Goodbye.NORMAL), int(Goodbye.DRAIN), int(Goodbye.IDLE)})
# How many beyond `connections_max` are told so; still more are closed without a word.
_TURNED_AWAY_MAX = 128


class Session(asyncio.Protocol):
    """A connection from its acceptance to its end. Small: ten thousand idle ones must fit."""

    __slots__ = (
        "_connection",
        "_dirty",
        "_ending",
        "_reception",
        "_transport",
        "due_tick",
        "programme_version",
        "terminal",
    )

    def __init__(self, reception: Reception) -> None:
        limits = reception.limits
        self._reception = reception
        self._connection = ServerConnection(
            reception.clock.now_ms(),
            handshake_timeout_ms=limits.handshake_timeout_ms,
            frame_timeout_ms=limits.frame_timeout_ms,
        )
        self._transport: asyncio.Transport | None = None
        self._dirty = False
        self._ending = False
        self.due_tick = 0
        self.terminal: Terminal | None = None
        self.programme_version = 0

    # The transport's calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Admit the register, or send it away if too many are here."""
        self._transport = transport  # type: ignore[assignment]
        limits = self._reception.limits
        transport.set_write_buffer_limits(high=limits.send_buffer_bytes_max)  # type: ignore[attr-defined]
        turned_away = self._reception.enter(self) - limits.connections_max
        if turned_away > _TURNED_AWAY_MAX:
            self.cut_off()
        elif turned_away > 0:
            self._reception.log.warning("too many connections", connections_max=limits.connections_max)
            self.say_goodbye(Goodbye.BUSY, "too many connections")
        else:
            self._watch_time()

    def data_received(self, data: bytes) -> None:
        """Take bytes in any chunks; everything that they complete is dispatched at once."""
        reception, connection = self._reception, self._connection
        events = connection.receive_data(data, reception.clock.now_ms(), reception.busy_after_ms)
        if events:
            self._take(events)
        if connection.frame_under_way:
            self._watch_time()

    def eof_received(self) -> None:
        """Take note that the register closed; what is in flight goes on without it."""
        self._take(self._connection.receive_eof())

    def pause_writing(self) -> None:
        """Cut off a register whose unread answers exceed `send_buffer_bytes_max`."""
        # The register asks and does not read: its answers are in the journal, it will ask again (SPEC.md, no answer).
        self._reception.log.warning("register does not read its answers", **self._who())
        self._reception.metrics.ended(Goodbye.SLOW)
        self.cut_off()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of everything."""
        del exc
        self._connection.receive_eof()
        self._transport = None
        self._reception.wheel.cancel(self)
        self._reception.leave(self)

    # What the connection makes of the bytes.

    def _take(self, events: list[ServerEvent]) -> None:
        at: Moment | None = None
        for event in events:
            if type(event) is RequestReceived:
                if at is None:
                    system = self._reception.system_clock
                    at = Moment(system.now_ms(), system.monotonic_s())
                self._request(event, at)
            elif type(event) is TurnedAway:
                self._reception.metrics.refused(event.op, ErrorCode.BUSY)
            elif isinstance(event, HelloReceived):
                self._reception.spawn("sign-on", self._sign_on(event.terminal_id))
            elif isinstance(event, Authenticated):
                self._authenticated()
            elif isinstance(event, BadRequest):
                self._reception.metrics.refused(0, event.code)
                self._reception.log.warning(
                    "bad request", request_id=event.request_id.hex(), code=event.code, reason=event.text, **self._who()
                )
            elif isinstance(event, Closed):
                self._ended(event)
        if self._connection.wants_flush:
            self._flush_soon()

    def _request(self, event: RequestReceived, at: Moment) -> None:
        reception = self._reception
        terminal = self.terminal
        assert terminal is not None  # noqa: S101 - requests come after WELCOME
        request, fingerprint = event
        pending = Pending(
            self,
            terminal.store_id,
            int(request.op),
            at.monotonic,
            reception.metrics,
            reception.room,
            reception.system_clock,
        )
        reception.dispatcher.dispatch(request, fingerprint, terminal, pending, at)

    async def _sign_on(self, code: str) -> None:
        """Challenge a known terminal with its credentials and an unknown one with decoys, after the same look-up."""
        # What is looked up is as good as this version at least; one that comes during the handshake asks for a recheck.
        version = self._reception.ledger.programme.version
        try:
            known = await self._reception.look_up(code)
        except Exception as error:  # noqa: BLE001 - whatever is away, the register shall come back later
            self._reception.log.warning("terminal could not be looked up", terminal=code, reason=repr(error))
            self.say_goodbye(Goodbye.BUSY, "try again later")
            return
        self.terminal = known
        self.programme_version = version
        self._connection.challenge(self._reception.credentials(code, known), self._reception.nonce())
        self._flush_soon()

    def _authenticated(self) -> None:
        terminal = self.terminal
        if terminal is None:
            # Nobody can prove the identity of a decoy; if it happens, something is broken and not to be trusted.
            self.say_goodbye(Goodbye.INTERNAL, "sign-on is broken")
        elif not terminal.active:
            self.suspend()
        else:
            day = self._reception.needs_room(terminal, self._reception.system_clock.now_ms())
            if day is None:
                self._welcome(terminal)
            else:
                self._reception.spawn("terminal room", self._welcome_with_room(terminal, day))

    async def _welcome_with_room(self, terminal: Terminal, day: int) -> None:
        await self._reception.room.load(terminal.terminal_id, day)
        self._welcome(terminal)

    def _welcome(self, terminal: Terminal) -> None:
        reception = self._reception
        profile = reception.profile(terminal)
        if profile is None:
            self.say_goodbye(Goodbye.BUSY, "the terminal's network is not in the programme")
            return
        self._connection.welcome(reception.clock.now_ms(), reception.announced, profile)
        # The idle time-out may end before the handshake's would have.
        self._watch_time()
        self._flush_soon()

    def _ended(self, event: Closed) -> None:
        if event.by_peer:
            return
        self._reception.metrics.ended(event.reason)
        if event.reason not in _ORDINARY:
            self._reception.log.warning(
                "connection ended", goodbye=Goodbye(event.reason).name, reason=event.text, **self._who()
            )

    def _who(self) -> dict[str, object]:
        """Return what the log may say about the other end."""
        peer = self._transport.get_extra_info("peername") if self._transport is not None else None
        remote = peer[0] if isinstance(peer, tuple) else None
        return {"terminal": self._connection.terminal_id or None, "known": self.terminal is not None, "remote": remote}

    # What others ask of a session.

    @property
    def ready(self) -> bool:
        """Whether the register has signed on and may send requests."""
        return self._connection.state is State.READY

    def send_answer(self, request_id: bytes, replayed: bool, body: bytes) -> None:
        """Queue an answer for the next write; without a connection the register will ask again."""
        self._connection.send_answer(request_id, replayed, body)
        self._flush_soon()

    def send_error(self, request_id: bytes, code: int, text: str, retry_after_ms: int) -> None:
        """Queue an error for the next write."""
        self._connection.send_error(request_id, code, text, retry_after_ms)
        self._flush_soon()

    def say_goodbye(self, reason: Goodbye, text: str) -> None:
        """End the connection; with DRAIN only after everything in flight is answered."""
        if self._connection.closed:
            return
        after_ms = self._reception.reconnect_after_ms() if reason in (Goodbye.BUSY, Goodbye.DRAIN) else 0
        self._reception.metrics.ended(reason)
        self._connection.goodbye(reason, text, after_ms)
        self._flush_soon()

    def suspend(self) -> None:
        """End the connection of a terminal that the operator has switched off."""
        self._reception.log.warning("terminal is suspended", **self._who())
        self.say_goodbye(Goodbye.SUSPENDED, "this terminal is suspended")

    def disown(self) -> None:
        """End the connection of a terminal that signed on with a secret which holds no more."""
        self._reception.log.warning("terminal has a new secret", **self._who())
        self.say_goodbye(Goodbye.AUTH_FAILED, "this terminal's secret was replaced")

    def _flush_soon(self) -> None:
        if not self._dirty and self._transport is not None:
            self._dirty = True
            self._reception.flush_soon(self)

    def flush(self) -> None:
        """Write what is queued, at once; close if that was the last of it."""
        self._dirty = False
        transport = self._transport
        if transport is None:
            return
        data = self._connection.data_to_send()
        if data and not self._ending:
            transport.write(data)
        if self._connection.closed and not self._ending:
            self._end(transport)

    def _end(self, transport: asyncio.Transport) -> None:
        """Close so that a last GOODBYE arrives: a socket closed with unread bytes would discard it on the way."""
        self._ending = True
        reception = self._reception
        reception.wheel.cancel(self)
        reception.wheel.schedule(self, reception.clock.now_ms() + reception.limits.linger_ms)
        if transport.is_closing():
            return
        if transport.can_write_eof():
            transport.write_eof()
        else:
            transport.close()

    def on_due(self, now_ms: int) -> None:
        """End the connection if a time-out has passed (`server.registers.timer_wheel.Timed`)."""
        if self._ending:
            self.cut_off()
            return
        self._take(self._connection.handle_timeout(now_ms))
        self._watch_time()

    def _watch_time(self) -> None:
        deadline_ms = self._connection.next_deadline_ms()
        if deadline_ms is not None:
            self._reception.wheel.schedule(self, deadline_ms)

    def cut_off(self) -> None:
        """Close at once, without GOODBYE."""
        self._connection.receive_eof()
        if self._transport is not None:
            self._transport.abort()
