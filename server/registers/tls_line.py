"""TLS between a socket and a session: the transport of the one, the protocol of the other.

It costs less than the event loop's own TLS, which ends every read with an exception, sets 256 KiB aside for each
connection, and cannot half-close: here the last GOODBYE arrives as it does without TLS.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

_RECORD_BYTES_MAX = 16_384
"""What one record holds at most (RFC 8446, section 5.1), so that nothing of it is left after a read."""


@dataclass(frozen=True, slots=True)
class Handshakes:
    """What the lines of a listener share; `failed` is told why there is no TLS, and the other address."""

    context: ssl.SSLContext
    timeout_s: float
    lines_max: int
    failed: Callable[[str, object], None]
    under_way: set[TlsLine] = field(default_factory=set)

    def abort(self) -> None:
        """Close all lines that have not shaken hands yet."""
        for line in list(self.under_way):
            line.abort()


class TlsLine(asyncio.Protocol, asyncio.Transport):
    """The server's end of one connection. `session` hears of it when the handshake is done."""

    __slots__ = (
        "_closing",
        "_deadline",
        "_handshakes",
        "_in",
        "_out",
        "_session",
        "_tls",
        "_transport",
        "_up",
    )

    def __init__(self, handshakes: Handshakes, session: asyncio.Protocol) -> None:
        """Take what is above, and what it carries."""
        self._handshakes = handshakes
        self._session = session
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = handshakes.context.wrap_bio(self._in, self._out, server_side=True)
        self._transport: asyncio.Transport
        self._deadline: asyncio.TimerHandle
        self._up = False
        self._closing = False

    # The socket's calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the register's first record, unless too many are waited for."""
        self._transport = transport  # type: ignore[assignment]
        handshakes = self._handshakes
        self._deadline = asyncio.get_running_loop().call_later(handshakes.timeout_s, self._give_up)
        handshakes.under_way.add(self)
        if len(handshakes.under_way) > handshakes.lines_max:
            self._fail("too many handshakes at once")

    def data_received(self, data: bytes) -> None:
        """Take records, or parts of them."""
        self._in.write(data)
        try:
            if self._up or self._shake_hands():
                self._hand_over()
        except ssl.SSLError as error:
            self._fail(error.reason or "TLS is broken")

    def eof_received(self) -> None:
        """Take the end of the stream for the end of what the register says, said so under TLS or not."""
        if self._up:
            self._session.eof_received()

    def pause_writing(self) -> None:
        """Tell the session that the register does not read."""
        self._session.pause_writing()

    def resume_writing(self) -> None:
        """Tell the session that it does again."""
        self._session.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of everything."""
        self._deadline.cancel()
        self._handshakes.under_way.discard(self)
        if self._up:
            self._session.connection_lost(exc)

    def _shake_hands(self) -> bool:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return False
        self._flush()
        self._deadline.cancel()
        self._handshakes.under_way.discard(self)
        self._up = True
        self._session.connection_made(self)
        return True

    def _hand_over(self) -> None:
        while self._in.pending:
            try:
                data = self._tls.read(_RECORD_BYTES_MAX)
            except ssl.SSLWantReadError:
                # The record is not complete, or it was none of the session's.
                break
            if not data:
                self._session.eof_received()
                self.close()
                break
            self._session.data_received(data)
        if self._out.pending:
            self._flush()

    def _flush(self) -> None:
        records = self._out.read()
        if records and not self._closing:
            self._transport.write(records)

    def _give_up(self) -> None:
        self._fail("the handshake took too long")
        self.abort()

    def _fail(self, reason: str) -> None:
        peer = self.get_extra_info("peername")
        self._handshakes.failed(reason, peer[0] if isinstance(peer, tuple) else None)
        if self._up:
            # Answers that are still to be sent must not keep open what is broken.
            self.abort()
        else:
            # An alert says what is wrong.
            self._flush()
            self.close()

    # The session's calls.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes; without a TLS that works they go nowhere."""
        try:
            self._tls.write(data)
        except ssl.SSLError:
            return
        self._flush()

    def can_write_eof(self) -> bool:
        """Return True: TCP half-closes below TLS."""
        return True

    def write_eof(self) -> None:
        """Say that nothing more comes, and hear what the register still says."""
        # The register's own farewell is not here yet, and nobody waits for it.
        with suppress(ssl.SSLError):
            self._tls.unwrap()
        self._flush()
        self._closing = True
        self._transport.write_eof()

    def close(self) -> None:
        """Close when everything is sent."""
        self._closing = True
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._closing = True
        self._transport.abort()

    def is_closing(self) -> bool:
        """Return whether the connection is closed or will be."""
        return self._transport.is_closing()

    def get_extra_info(self, name: str, default: object = None) -> object:
        """Return what the socket's transport says."""
        return self._transport.get_extra_info(name, default)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the limits of what waits below TLS, in bytes."""
        self._transport.set_write_buffer_limits(high, low)
