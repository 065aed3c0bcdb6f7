"""The registers' side of a relay: the server's own listener, with a roster instead of a ledger behind it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Sequence
from zoneinfo import ZoneInfo

import structlog

from ledger.business_day import BusinessDay
from ledger.clock import Clock
from ledger.programme import Network, Programme, Rules, Terminal
from ledger.submission import Refusal
from protocol.relay_messages import Roster, RosterTerminal
from protocol.requests import Request
from server.observation.metrics import Metrics
from server.registers.dispatch import Moment
from server.registers.listener import Listener
from server.registers.pending import Pending
from server.registers.reception import ConnectionLimits, Reception
from server.registers.terminal_room import TerminalRoom
from server.relay.desk import Desk

# Registers are told the time. Where it was wrong by so much they must be told anew.
_CLOCK_WRONG_MS = 60_000
_CLOCK_LOOKED_AT_S = 1.0
_NETWORK_ID = 0

_log = structlog.get_logger(subject="registers")


class RosterUnknown(Exception):  # noqa: N818 - it says what is the matter
    """Headquarters has never told this relay who its registers are."""


class RosterRegistry:
    """What the listener needs to know of the registers, out of a roster; and the way of their requests to the desk."""

    def __init__(self, desk: Desk, busy_retry_after_ms: int) -> None:
        """Take whoever answers requests; nobody can sign on before the first `use`."""
        self.programme = Programme.empty()
        self.overloaded = False
        self.busy_retry_after_ms = busy_retry_after_ms
        self._desk = desk
        self._terminals: dict[str, RosterTerminal] = {}
        self._draining_retry_ms: int | None = None

    def use(self, roster: Roster) -> None:
        """Let this roster be in force."""
        self._terminals = {terminal.code: terminal for terminal in roster.terminals}
        network = Network(_NETWORK_ID, 0, roster.network_name, roster.currency, (Rules(0),))
        self.programme = Programme(roster.version, {_NETWORK_ID: network}, BusinessDay(ZoneInfo("UTC")))

    async def terminals(self, codes: Sequence[str]) -> dict[str, Terminal]:
        """Return those terminals that exist, by code. Raises RosterUnknown."""
        if not self.programme.version:
            raise RosterUnknown("headquarters has not told yet who the registers of this store are")
        return {code: _terminal(self._terminals[code]) for code in codes if code in self._terminals}

    def drain(self, retry_after_ms: int) -> None:
        """Refuse every further request as BUSY."""
        self._draining_retry_ms = retry_after_ms

    def dispatch(self, request: Request, fingerprint: bytes, terminal: Terminal, pending: Pending, at: Moment) -> None:
        """Hand a request to the desk."""
        del fingerprint
        known = self._terminals.get(terminal.code)
        if self._draining_retry_ms is not None or known is None:
            pending.refuse(request.request_id, Refusal.BUSY, self._draining_retry_ms or self.busy_retry_after_ms)
        else:
            self._desk.take(request, known, pending.sender, at)


def _terminal(known: RosterTerminal) -> Terminal:
    return Terminal(
        terminal_id=0,
        code=known.code,
        network_id=_NETWORK_ID,
        store_id=0,
        permitted=frozenset(known.permitted),
        active=known.active,
        salt=known.salt,
        iterations=known.iterations,
        stored_key=known.stored_key,
        server_key=known.server_key,
    )


class Front:
    """The listening socket of a relay. `start`, `drain` and `stop` may each be called twice."""

    def __init__(
        self,
        desk: Desk,
        listening: socket.socket,
        tls: ssl.SSLContext | None,
        limits: ConnectionLimits,
        busy_retry_after_ms: int,
        decoy_secret: bytes,
        clock: Clock,
        random_bytes: Callable[[int], bytes],
    ) -> None:
        """Take the parts; `clock` tells headquarters' time, as far as it is known. Inside a running loop."""
        self._registry = RosterRegistry(desk, busy_retry_after_ms)
        self._clock = clock
        self._reception = Reception(
            self._registry,
            self._registry,
            TerminalRoom(_nothing_spent, clock.monotonic_s),
            Metrics(),
            limits,
            decoy_secret,
            clock,
            random_bytes,
        )
        self._listener = Listener(self._reception, listening, tls)
        self._watch: asyncio.Task[None] | None = None

    @property
    def connections(self) -> int:
        """How many registers are connected."""
        return self._listener.connections

    def use(self, roster: Roster) -> None:
        """Let a roster be in force; connections of terminals that it suspends or gives another secret end soon."""
        self._registry.use(roster)

    async def start(self) -> None:
        """Begin to accept."""
        if self._watch is None:
            self._watch = asyncio.get_running_loop().create_task(self._watch_clock(), name="registers' clock")
        await self._listener.start()

    async def _watch_clock(self) -> None:
        while True:
            await asyncio.sleep(_CLOCK_LOOKED_AT_S)
            self.check_clock()

    def check_clock(self) -> None:
        """See whether registers are told the right time; if not, they must connect again."""
        wrong_ms = self._clock.now_ms() - self._reception.clock.now_ms()
        if abs(wrong_ms) > _CLOCK_WRONG_MS:
            # Small errors are made up for without anybody noticing (`server.registers.clock`).
            _log.warning("the time was wrong; registers shall connect again", wrong_ms=wrong_ms)
            self._reception.set_clock()

    async def drain(self, timeout_ms: int) -> None:
        """Accept nobody more, let what is in flight be answered, tell registers to reconnect; then return."""
        await self._listener.drain(timeout_ms)

    async def stop(self) -> None:
        """Close everything at once."""
        if self._watch is not None:
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watch
            self._watch = None
        await self._listener.stop()


async def _nothing_spent(_terminal_id: int) -> int:
    """Stand in for the journal: a terminal's daily limit is headquarters' business, and a roster has none."""
    return 0
