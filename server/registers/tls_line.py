"""TLS between a socket and a session: the transport of the one, the protocol of the other.

It costs less than the event loop's own TLS, which ends every read with an exception, sets 256 KiB aside for each
connection, and cannot half-close: here the last GOODBYE arrives as it does without TLS.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress

_RECORD_BYTES_MAX = 16_384
"""What one record holds at most (RFC 8446, section 5.1), so that nothing of it is left after a read."""


class TlsLine(asyncio.Protocol, asyncio.Transport):
    """The server's end of one connection. `session` hears of it when the handshake is done."""

    __slots__ = (
        "_closing",
        "_deadline",
        "_failed",
        "_handshake_timeout_s",
        "_in",
        "_out",
        "_session",
        "_tls",
        "_transport",
        "_up",
    )

    def __init__(
        self,
        context: ssl.SSLContext,
        session: asyncio.Protocol,
        handshake_timeout_s: float,
        failed: Callable[[str, object], None],
    ) -> None:
        """Take what is above; `failed` is told why there is no TLS, and the other address."""
        self._session = session
        self._failed = failed
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_side=True)
        self._handshake_timeout_s = handshake_timeout_s
        self._transport: asyncio.Transport
        self._deadline: asyncio.TimerHandle
        self._up = False
        self._closing = False

    # The socket's calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the register's first record."""
        self._transport = transport  # type: ignore[assignment]
        self._deadline = asyncio.get_running_loop().call_later(self._handshake_timeout_s, self._give_up)

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
        self._failed(reason, peer[0] if isinstance(peer, tuple) else None)
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
