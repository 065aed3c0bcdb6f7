"""Accepts registers on an inherited socket, watches their time-outs, and sends them on when the worker stops."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl

import structlog

from ledger.programme import Terminal
from protocol.codes import Goodbye
from server.registers.reception import Guest, Reception
from server.registers.session import Session
from server.registers.tls_line import Handshakes, TlsLine

# Terminals of one query after a change of the programme: some 10 ms of PostgreSQL, and as much of this process.
_RECHECKED_AT_ONCE = 1_000

_log = structlog.get_logger(subject="listener")


class Listener:
    """The listening socket and its sessions. `start`, `drain` and `stop` may each be called twice."""

    def __init__(self, reception: Reception, listening: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        """Take a bound, listening TCP socket; it is closed with the listener."""
        self._reception = reception
        self._listening = listening
        self._handshakes = None if tls is None else self._tls_for(tls)
        self._server: asyncio.AbstractServer | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self._rechecker: asyncio.Task[None] | None = None
        self._draining = False

    def _tls_for(self, context: ssl.SSLContext) -> Handshakes:
        limits = self._reception.limits
        return Handshakes(context, limits.handshake_timeout_ms / 1000, limits.connections_max, self._no_tls)

    async def start(self) -> None:
        """Begin to accept."""
        if self._server is not None:
            return
        loop = asyncio.get_running_loop()
        self._sweeper = loop.create_task(self._sweep(), name="connection time-outs")
        self._server = await loop.create_server(
            self._accept,
            sock=self._listening,
            # The loop listens once more, and would cut the backlog to a hundred: too few for a fleet that reconnects.
            backlog=self._reception.limits.listen_backlog_connections_max,
        )

    def _accept(self) -> asyncio.BaseProtocol:
        session = Session(self._reception)
        return TlsLine(self._handshakes, session) if self._handshakes is not None else session

    def _no_tls(self, reason: str, remote: object) -> None:
        self._reception.log.warning("no TLS with a client", reason=reason, remote=remote)

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._reception.guests)

    def health(self) -> dict[str, object]:
        """Return whether registers are accepted, and how many are there."""
        return {"accepting": self._server is not None and not self._draining, "connections": self.connections}

    async def _sweep(self) -> None:
        reception = self._reception
        while True:
            await asyncio.sleep(reception.limits.tick_ms / 1000)
            reception.clock.follow()
            reception.wheel.advance(reception.clock.now_ms())
            version = reception.ledger.programme.version
            if any(session.ready and session.programme_version != version for session in reception.guests):
                self._recheck_soon()

    def _recheck_soon(self) -> None:
        if self._rechecker is None or self._rechecker.done():
            self._rechecker = asyncio.get_running_loop().create_task(self._recheck(), name="terminal permissions")

    async def _recheck(self) -> None:
        """Look the connected terminals up again after the programme changed, many by one query.

        One may have been suspended, or its secret replaced.
        """
        version = self._reception.ledger.programme.version
        stale = [guest for guest in self._reception.guests if guest.ready and guest.programme_version != version]
        for start in range(0, len(stale), _RECHECKED_AT_ONCE):
            part = [(guest, guest.terminal) for guest in stale[start : start + _RECHECKED_AT_ONCE]]
            try:
                known = await self._reception.look_up_all([before.code for _, before in part if before is not None])
            except Exception as error:  # noqa: BLE001 - what is away comes back, the next sweep tries again
                _log.warning("terminals could not be looked up", reason=repr(error))
                return
            for guest, before in part:
                if before is not None and guest.ready:
                    _settle(guest, before, known.get(before.code), version)

    async def drain(self, timeout_ms: int) -> None:
        """Accept nobody more, let what is in flight be answered, tell registers to reconnect, close; then return.

        What is not answered after `timeout_ms` is cut off: it is in the journal or it was never executed.
        """
        self._stop_accepting()
        if not self._draining:
            self._draining = True
            self._reception.dispatcher.drain(self._reception.limits.reconnect_after_ms)
            for session in list(self._reception.guests):
                session.say_goodbye(Goodbye.DRAIN, "the server is restarting")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_ms / 1000):
                await self._reception.empty.wait()
        if self.connections:
            _log.warning("connections cut off", count=self.connections)

    def _stop_accepting(self) -> None:
        if self._server is not None:
            self._server.close()
        if self._handshakes is not None:
            self._handshakes.abort()

    async def stop(self) -> None:
        """Close everything at once."""
        self._stop_accepting()
        for session in list(self._reception.guests):
            session.cut_off()
        for task in (self._sweeper, self._rechecker):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        self._sweeper = self._rechecker = None
        await self._reception.close()
        self._listening.close()
        # One turn of the loop, in which the transports report that they are closed.
        await asyncio.sleep(0)


def _settle(guest: Guest, before: Terminal, now: Terminal | None, version: int) -> None:
    """Let a connection go on with what holds now, or end it."""
    if now is None or not now.active:
        guest.suspend()
    elif (now.stored_key, now.server_key) != (before.stored_key, before.server_key):
        guest.disown()
    else:
        guest.terminal = now
        guest.programme_version = version
