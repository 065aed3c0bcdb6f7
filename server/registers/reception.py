"""What all sessions of a worker share: limits, clock, time-outs, who may come in, and the one flush of answers."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Protocol

import structlog

from ledger.clock import Clock
from ledger.programme import Programme, Terminal
from protocol.codes import Goodbye
from protocol.requests import Request
from protocol.scram import ITERATIONS, Credentials, decoy_credentials
from protocol.session import NETWORK_NAME_CHARACTERS_MAX, Limits, Profile
from server.observation.metrics import Metrics
from server.registers.clock import SteadyClock
from server.registers.dispatch import ALWAYS_PERMITTED, Moment
from server.registers.log_budget import LogBudget
from server.registers.pending import Pending
from server.registers.terminal_room import TerminalRoom
from server.registers.timer_wheel import Timed, TimerWheel

LOOKUPS_MAX = 64
_NONCE_BYTES = 18

_log = structlog.get_logger(subject="connections")


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """The settings of the same names; `linger_ms` is how long a closing connection may take to read its GOODBYE."""

    connections_max: int
    frame_bytes_max: int
    in_flight_max: int
    send_buffer_bytes_max: int
    handshake_timeout_ms: int
    frame_timeout_ms: int
    idle_timeout_ms: int
    heartbeat_ms: int
    ttl_default_ms: int
    ttl_max_ms: int
    reconnect_after_ms: int
    listen_backlog_connections_max: int = 4_096
    linger_ms: int = 2_000
    tick_ms: int = 250

    def announced(self) -> Limits:
        """Return the part that WELCOME tells a register."""
        return Limits(
            frame_bytes_max=self.frame_bytes_max,
            in_flight_max=self.in_flight_max,
            heartbeat_ms=self.heartbeat_ms,
            idle_timeout_ms=self.idle_timeout_ms,
            ttl_default_ms=self.ttl_default_ms,
            ttl_max_ms=self.ttl_max_ms,
        )


class Registry(Protocol):
    """What the listener needs of whoever knows the terminals."""

    @property
    def programme(self) -> Programme:
        """The programme in force."""

    @property
    def overloaded(self) -> bool:
        """Whether it would refuse every request as BUSY."""

    async def terminals(self, codes: Sequence[str]) -> Mapping[str, Terminal]:
        """Return those terminals that exist, by code, with credentials and permissions as PostgreSQL has them now."""


class Desk(Protocol):
    """What sessions need of whoever takes their requests."""

    @property
    def busy_retry_after_ms(self) -> int:
        """When a register shall come again that was told BUSY."""

    def drain(self, retry_after_ms: int) -> None:
        """Refuse every further request as BUSY."""

    def dispatch(self, request: Request, fingerprint: bytes, terminal: Terminal, pending: Pending, at: Moment) -> None:
        """Take a request; its answer comes through `pending`."""


class Guest(Timed, Protocol):
    """A session, as far as the reception knows it."""

    terminal: Terminal | None
    programme_version: int

    @property
    def ready(self) -> bool:
        """Whether the register has signed on."""

    def flush(self) -> None:
        """Write what is queued, at once."""

    def say_goodbye(self, reason: Goodbye, text: str) -> None:
        """End the connection."""

    def suspend(self) -> None:
        """End the connection of a terminal that is switched off."""

    def disown(self) -> None:
        """End the connection of a terminal whose secret was replaced."""

    def cut_off(self) -> None:
        """Close at once."""


class Reception:
    """Shared by the sessions of one listener."""

    def __init__(
        self,
        ledger: Registry,
        dispatcher: Desk,
        room: TerminalRoom,
        metrics: Metrics,
        limits: ConnectionLimits,
        decoy_secret: bytes,
        clock: Clock,
        random_bytes: Callable[[int], bytes],
    ) -> None:
        """Take the parts.

        `decoy_secret` makes up the salts of terminals that do not exist; it must stay the same through restarts.
        `random_bytes` must be fit for nonces.
        """
        self.ledger = ledger
        self.dispatcher = dispatcher
        self.room = room
        self.metrics = metrics
        self.limits = limits
        self.announced = limits.announced()
        self.system_clock = clock
        self.clock = SteadyClock(clock)
        self.wheel = TimerWheel(self.clock.now_ms(), limits.tick_ms)
        self.log = LogBudget(_log, asyncio.get_running_loop().time)
        self._decoy_secret = decoy_secret
        self._random_bytes = random_bytes
        self._lookups = asyncio.Semaphore(LOOKUPS_MAX)
        self._tasks: set[asyncio.Task[None]] = set()
        self._dirty: list[Guest] = []
        # When registers shall come again whose requests are not even read now; 0 while they are.
        self.busy_after_ms = 0
        # In the order of their coming, so that whatever is done to all of them is done in the same order every time.
        self.guests: dict[Guest, None] = {}
        self.empty = asyncio.Event()
        self.empty.set()
        # Two terminals of one programme mostly may do the same; ten thousand sessions share a few sets.
        self._permitted: dict[frozenset[int], frozenset[int]] = {}
        self._random = Random(int.from_bytes(random_bytes(8)))  # noqa: S311 - spreads reconnects, guards nothing

    def enter(self, session: Guest) -> int:
        """Count a connection and return how many there are with it."""
        self.guests[session] = None
        self.empty.clear()
        return len(self.guests)

    def leave(self, session: Guest) -> None:
        """Count a connection no more."""
        self.guests.pop(session, None)
        if not self.guests:
            self.empty.set()

    def flush_soon(self, session: Guest) -> None:
        """Have a session write once, after everything that happens in this turn of the loop."""
        if not self._dirty:
            asyncio.get_running_loop().call_soon(self._flush)
        self._dirty.append(session)

    def _flush(self) -> None:
        dirty, self._dirty = self._dirty, []
        for session in dirty:
            session.flush()
        # While the ledger has too much to do it answers something all the time, so this is looked at again soon.
        self.busy_after_ms = self.dispatcher.busy_retry_after_ms if self.ledger.overloaded else 0

    def spawn(self, name: str, work: Awaitable[None]) -> None:
        """Run a short piece of work for a session; it is cancelled when the reception closes."""

        async def run() -> None:
            await work

        task = asyncio.get_running_loop().create_task(run(), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def look_up(self, code: str) -> Terminal | None:
        """Return a terminal fresh from the ledger. Raises what the ledger raises."""
        return (await self.look_up_all((code,))).get(code)

    async def look_up_all(self, codes: Sequence[str]) -> dict[str, Terminal]:
        """Return those terminals that exist, fresh from the ledger; `LOOKUPS_MAX` look-ups at a time, so many each."""
        async with self._lookups:
            known = await self.ledger.terminals(codes)
        return {code: self._sharing(terminal) for code, terminal in known.items()}

    def _sharing(self, known: Terminal) -> Terminal:
        """Return the terminal with a set of permissions that it shares with others."""
        shared = self._permitted.setdefault(known.permitted, known.permitted)
        return known if shared is known.permitted else replace(known, permitted=shared)

    def credentials(self, code: str, known: Terminal | None) -> Credentials:
        """Return what to challenge with; for an unknown terminal a decoy that no secret fits."""
        if known is None:
            return decoy_credentials(code, self._decoy_secret, ITERATIONS)
        return Credentials(known.salt, known.iterations, known.stored_key, known.server_key)

    def nonce(self) -> str:
        """Return a new server nonce."""
        return base64.urlsafe_b64encode(self._random_bytes(_NONCE_BYTES)).decode()

    def profile(self, terminal: Terminal) -> Profile | None:
        """Return what a terminal may know about itself; None if its network has vanished."""
        programme: Programme = self.ledger.programme
        network = programme.networks.get(terminal.network_id)
        if network is None:
            return None
        permitted = tuple(sorted(terminal.permitted | ALWAYS_PERMITTED))
        return Profile(network.name[:NETWORK_NAME_CHARACTERS_MAX], network.currency, permitted)

    def needs_room(self, terminal: Terminal, now_ms: int) -> int | None:
        """Return today's day number if the terminal's spending is limited now, else None."""
        programme = self.ledger.programme
        network = programme.networks.get(terminal.network_id)
        if network is None or not network.rules_at(now_ms).terminal_day_points_max:
            return None
        return programme.day(now_ms)

    def set_clock(self) -> None:
        """Begin anew at the clock's time; connections are closed, because their time-outs are told by the old one."""
        for guest in list(self.guests):
            guest.cut_off()
        self.clock = SteadyClock(self.system_clock)
        self.wheel = TimerWheel(self.clock.now_ms(), self.limits.tick_ms)

    def reconnect_after_ms(self) -> int:
        """Return once to twice the setting, so that registers that were sent away do not all come back at once."""
        return int(self.limits.reconnect_after_ms * self._random.uniform(1, 2))

    async def close(self) -> None:
        """Cancel work under way; may be called twice."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
