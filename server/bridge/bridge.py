"""The bridge of one worker: relays ask here, over an MQTT broker, what registers ask over TCP (SPEC.md, MQTT).

Order, and what keeps a publication from counting twice, live in the memory of the worker that a relay's session is
with. A worker that dies takes them along; the relay begins a new session anywhere and asks again under the same ids.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from random import Random
from typing import Any, Final, Protocol

import structlog

from ledger.clock import Clock
from ledger.relays import RelayConflict, RelayReport
from ledger.rendering import Renderer
from protocol.relay_messages import Hint
from server.bridge.admission import Admission, Registry
from server.bridge.arrivals import Arrivals
from server.bridge.conflicts import Conflicts
from server.bridge.desk import Desk
from server.bridge.intake import Intake, Overload
from server.bridge.limits import SILENT_HEARTBEATS, UNCONFIRMED_S, BridgeLimits
from server.bridge.outbox import Outbox
from server.bridge.reports import Reports
from server.bridge.session import Session, Unsaid
from server.bridge.sessions import Sessions
from server.bridge.tally import Tally
from server.bridge.topics import HELLOS, backlog_inbox, inbox, shared_hellos
from server.mqtt import Broker
from server.observation.metrics import Metrics
from server.registers.clock import SteadyClock
from server.registers.dispatch import Dispatcher
from server.registers.terminal_room import TerminalRoom

_NAME_BYTES: Final = 8
_SWEEP_S: Final = 0.25
_DRAIN_POLL_S: Final = 0.01

_log = structlog.get_logger(subject="bridge")


class BridgeLedger(Registry, Overload, Protocol):
    """What the bridge needs of the ledger beside what the dispatcher does."""

    async def report_relays(self, reports: Sequence[RelayReport]) -> None:
        """Note what relays said of themselves."""

    async def add_conflicts(self, conflicts: Sequence[RelayConflict]) -> None:
        """Put conflicts on the operators' list; committed when this returns."""

    async def listed_conflicts(self, requests: Sequence[tuple[bytes, int]]) -> Mapping[tuple[bytes, int], int]:
        """Return why those of the requests (id, terminal) were declined that stand on the list."""


class Bridge:
    """`start`, `drain` and `stop` may each be called twice."""

    def __init__(
        self,
        ledger: BridgeLedger,
        dispatcher: Dispatcher,
        renderer: Renderer,
        room: TerminalRoom,
        metrics: Metrics,
        clock: Clock,
        random_bytes: Callable[[int], bytes],
        limits: BridgeLimits,
        *,
        url: str,
        ca_file: Path | None,
        relay_master: bytes,
        token_key: bytes,
        first: bool,
    ) -> None:
        """Take the worker's parts and the broker's URL. Raises ValueError for one that cannot be used.

        `relay_master` is `Secrets.relay_master`.
        `first`: this is the worker that hears all relays where the broker cannot share them out.
        """
        name = random_bytes(_NAME_BYTES).hex()
        self._clock = clock
        self._limits = limits
        self.tally = Tally()
        self._steady = SteadyClock(clock)
        self._sessions = Sessions()
        shared = shared_hellos(relay_master)
        self._hello_topics = (shared, HELLOS) if first else (shared,)

        def connection(name: str, subscriptions: tuple[str, ...], unshared: tuple[str, ...]) -> Broker:
            return Broker(
                url,
                # Relays know the name of the inbox. Whoever knew this one could connect under it and throw us out.
                f"tillwire-{random_bytes(_NAME_BYTES).hex()}",
                subscriptions=subscriptions,
                unshared=unshared,
                on_message=lambda message: self._arrivals.take(message),  # noqa: PLW0108 - made below
                on_change=self._changed,
                random=Random(int.from_bytes(random_bytes(8))),  # noqa: S311 - spreads reconnects, guards nothing
                qos=limits.qos,
                limits=limits.broker,
                tls_ca_file=ca_file,
                name=name,
            )

        self._broker = connection("live", (shared, inbox(name)), (HELLOS, inbox(name)) if first else (inbox(name),))
        # What stores have gathered comes by a connection of its own: on one the broker would let live requests wait
        # behind it.
        self._backlog_broker = connection("backlog", (backlog_inbox(name),), (backlog_inbox(name),))

        def outbox(broker: Broker, unsaid: Callable[[Session], Unsaid]) -> Outbox:
            expiry_s = limits.line.ttl_max_ms / 1000
            return Outbox(broker, unsaid, self.tally, self._steady.now_ms, qos=limits.qos, expiry_s=expiry_s)

        self._outbox = outbox(self._broker, attrgetter("live"))
        self._backlog_outbox = outbox(self._backlog_broker, attrgetter("backlog"))
        self._conflicts = Conflicts(ledger.add_conflicts, ledger.listed_conflicts)
        self._reports = Reports(ledger.report_relays)
        desk = Desk(dispatcher, renderer, room, metrics, token_key, clock, limits, self._conflicts, self.tally)
        self._intake = Intake(desk, ledger, metrics, clock, limits, self._outbox, self._backlog_outbox, self.tally)
        self._admission = Admission(
            ledger,
            self._sessions,
            self._outbox,
            relay_master,
            name,
            clock,
            self._steady,
            random_bytes,
            limits,
            self.tally,
        )
        self._arrivals = Arrivals(
            name,
            self._sessions,
            self._admission,
            self._intake,
            self._reports,
            self._outbox,
            lambda: ledger.programme,
            clock,
            self._steady,
            self.tally,
        )
        self._tasks: list[asyncio.Task[None]] = []

    # ---- life

    def start(self) -> None:
        """Connect to the broker, however long it takes to come up, and let relays in."""
        if self._tasks:
            return
        works: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
            "broker": self._broker.run,
            "broker of backlogs": self._backlog_broker.run,
            "relay admission": self._admission.run,
            "relay conflicts": self._conflicts.run,
            "relay advices": self._conflicts.run_look_ups,
            "relay reports": self._reports.run,
            "relay sweeper": self._sweep,
        }
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(work(), name=name) for name, work in works.items()]

    async def failed(self) -> None:
        """Wait until a task of the bridge ends by a bug and raise what ended it; without tasks for ever."""
        if not self._tasks:
            await asyncio.Event().wait()
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()

    async def drain(self, timeout_ms: int) -> None:
        """Let no relay in any more, answer what is in flight, send each relay on; then return.

        What is not answered after `timeout_ms` is asked again elsewhere.
        """
        deadline_s = self._clock.monotonic_s() + timeout_ms / 1000
        if not self._arrivals.closed:
            self._arrivals.closed = True
            await self._broker.unsubscribe(self._hello_topics)
        while len(self._sessions) and self._broker.connected and self._clock.monotonic_s() < deadline_s:
            for session in self._sessions:
                if not (session.in_flight or session.has_something_to_say) and self._broker.has_room:
                    self._admission.end(session, Hint.DRAIN, "the server is restarting")
            await asyncio.sleep(_DRAIN_POLL_S)
        for session in self._sessions:
            self._admission.end(session, Hint.DRAIN, "the server is restarting")
        brokers = (self._broker, self._backlog_broker)
        while (  # noqa: ASYNC110 - once, at the end
            any(each.under_way for each in brokers) and self._clock.monotonic_s() < deadline_s
        ):
            await asyncio.sleep(_DRAIN_POLL_S)

    async def stop(self) -> None:
        """Let go of the broker."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
            await self._reports.write()

    def _changed(self, connected: bool) -> None:
        self._admission.ready = self._backlog_broker.connected
        if connected:
            self._outbox.resume()
            self._backlog_outbox.resume()

    async def _sweep(self) -> None:
        line = self._limits.line
        silent_s = SILENT_HEARTBEATS * line.heartbeat_ms / 1000
        while True:
            await asyncio.sleep(_SWEEP_S)
            self._steady.follow()
            now_s = self._clock.monotonic_s()
            for session in self._sessions:
                if now_s - session.heard_s > (silent_s if session.confirmed else UNCONFIRMED_S):
                    _log.info("a relay is silent", terminal=session.ends.code, confirmed=session.confirmed)
                    self._sessions.end(session)
            await self._admission.recheck()

    # ---- what others ask

    def health(self) -> dict[str, object]:
        """Return how the bridge is, first its connection for what is live. A broker that is away stops no worker."""
        return {
            "bridge": {
                **self._broker.health(),
                "backlog": self._backlog_broker.health(),
                "relays": self._sessions.confirmed,
                "in_flight": self._intake.in_flight,
            }
        }

    def figures(self) -> dict[str, int]:
        """Return numbers for whoever scrapes; those that end in `_total` only grow."""
        return {
            "connected": int(self._broker.connected and self._backlog_broker.connected),
            "relays": self._sessions.confirmed,
            "sessions": len(self._sessions),
            "in_flight": self._intake.in_flight,
            **self.tally.figures(),
        }
