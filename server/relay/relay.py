"""A whole relay: puts store, line, desk, backlog and the registers' side together. Many fit into one process."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import os
import signal
import socket
import ssl
from collections.abc import Awaitable, Callable
from random import Random
from types import TracebackType
from typing import Any, Final, Self

import orjson
import structlog
import uvloop

from ledger.clock import Clock, SystemClock
from protocol.fields import Malformed
from protocol.relay_keys import derived
from protocol.relay_messages import Report, Roster, read_down, write_down
from server.errors import OperatorError
from server.mqtt import Broker
from server.registers.tls import server_context
from server.registers.wire_limits import connection_limits
from server.relay.allowances import Allowances
from server.relay.backlog import Backlog
from server.relay.balances import Balances
from server.relay.desk import Desk, DeskLimits
from server.relay.front import Front
from server.relay.line import HeadquartersLine, LineSettings, Outlook
from server.relay.line_clock import KeptClock, LineClock
from server.relay.settings import RelaySettings, broker_url, relay_credential
from server.relay.store import Store
from server.relay.store_errors import StoreFailed, StoreFull
from server.relay.store_rows import StoreLimits

#: What the store keeps for this module, by name.
ROSTER, CLOCK, HEARTBEAT = "roster", "clock", "heartbeat"
_SOFTWARE: Final = "tillwire relay"

_log = structlog.get_logger(subject="relay")


class Relay:
    """One store's relay. Use it by `async with`, or `start` and `stop`; `stop` may be called twice.

    `clock` and `random_bytes` come from outside, so that a test or a simulation can bring its own.
    """

    def __init__(
        self,
        settings: RelaySettings,
        clock: Clock | None = None,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """Take the settings; nothing is opened yet. Raises OperatorError for a missing or damaged credential."""
        self._settings = settings
        self._credential = relay_credential(settings)
        self._broker_url = broker_url(settings)
        self._clock = clock or SystemClock()
        self._random_bytes = random_bytes
        self._random = Random(int.from_bytes(random_bytes(8)))  # noqa: S311 - spreads what would come at once
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._keeping: set[asyncio.Task[None]] = set()
        self._roster: Roster | None = None
        self._stopped = False

    # Life.

    async def start(self) -> None:
        """Open the store, let registers in, begin to connect. Raises OperatorError."""
        settings = self._settings
        self.store = await Store.open(settings.data_dir, store_limits(settings))
        try:
            self._build()
            await self.front.start()
        except BaseException:
            await self.store.close()
            raise
        self._run("relay broker", self._broker.run)
        self._run("relay line", self.line.run)
        self._run("relay backlog", self.backlog.run)
        self._run("relay allowances", self.allowances.run)
        self._run("relay balances", self.balances.run)
        self._run("relay heartbeat", self._beat)
        _log.info("relay serves", registers=f"{self.address[0]}:{self.address[1]}", relay=self._credential.code)

    def _build(self) -> None:
        settings, store = self._settings, self.store
        tls = _tls(settings)
        self._now = LineClock(self._clock, _kept_clock(store), self._keep_clock)
        self.line = HeadquartersLine(
            self._credential,
            _software(),
            line_settings(settings),
            Outlook(self._report, self._roster_version, self._take_roster, self._line_up),
            self._now,
            self._random_bytes,
            self._random,
        )
        self._broker = self._make_broker()
        self.line.use(self._broker)
        self.balances = Balances(store)
        self.allowances = Allowances(
            store,
            self.line,
            lambda: self._roster,
            self._credential.code,
            self._random_bytes,
            settings.allowances_max,
        )
        self.desk = Desk(store, self.line, lambda: self._roster, self.balances, self.allowances, desk_limits(settings))
        self.backlog = Backlog(store, self.line, self.allowances, self._random, self._clock.monotonic_s)
        listening = _bind(settings)
        self.address: tuple[str, int] = listening.getsockname()[:2]
        self.front = Front(
            self.desk,
            listening,
            tls,
            connection_limits(settings),
            settings.busy_retry_after_ms,
            derived(self._credential.key, "tillwire relay decoys"),
            self._now,
            self._random_bytes,
        )
        self._roster = _kept_roster(store)
        if self._roster is not None:
            self.front.use(self._roster)

    def _make_broker(self) -> Broker:
        try:
            return Broker(
                self._broker_url,
                f"tillwire-{self._credential.code}-{self._random_bytes(4).hex()}",
                subscriptions=(self.line.answer_topic,),
                on_message=self.line.received,
                on_change=self._connection_changed,
                random=self._random,
                qos=self._settings.mqtt_qos,
                tls_ca_file=self._settings.mqtt_ca_file,
            )
        except ValueError as error:
            raise OperatorError(str(error)) from None

    async def stop(self) -> None:
        """Let registers have their answers and go, then let go of everything; what is stored is stored."""
        if self._stopped:
            return
        self._stopped = True
        timeout_ms = self._settings.drain_timeout_ms
        await self.front.drain(timeout_ms)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_ms / 1_000):
                await self.desk.drain()
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        await self.front.stop()
        await asyncio.gather(*self._keeping, return_exceptions=True)
        await self._note()
        await self.store.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def _run(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        async def run() -> None:
            await work()

        self._tasks[name] = asyncio.get_running_loop().create_task(run(), name=name)

    async def failed(self) -> None:
        """Wait until a part fails by a bug, and raise that; returns when the relay was stopped."""
        done, _ = await asyncio.wait(self._tasks.values(), return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            if not task.cancelled():
                task.result()

    def _connection_changed(self, connected: bool) -> None:
        if not self._stopped:
            self.line.connection_changed(connected)

    # What the line asks and tells.

    def _report(self) -> Report:
        store = self.store
        oldest_ms = next(iter(store.queued.values()), None)
        age_ms = 0 if oldest_ms is None else max(0, self._now.now_ms() - oldest_ms)
        return Report(len(store.queued), age_ms, store.conflicts, self.line.down_since_ms)

    def _roster_version(self) -> int:
        return 0 if self._roster is None else self._roster.version

    def _take_roster(self, roster: Roster) -> None:
        self._roster = roster
        self.front.use(roster)
        _log.info("roster", version=roster.version, registers=len(roster.terminals))
        self._keep(ROSTER, write_down(0, roster.version, [roster]))
        self._note_soon()

    def _line_up(self) -> None:
        # Now headquarters' time is known, perhaps for the first time.
        self.front.check_clock()
        self.backlog.wake()
        self._note_soon()

    # What is remembered.

    def _keep_clock(self, kept: KeptClock) -> None:
        self._keep(CLOCK, orjson.dumps(tuple(kept)))

    def _keep(self, name: str, value: bytes) -> None:
        task = asyncio.get_running_loop().create_task(self._keep_value(name, value), name=f"relay keeps {name}")
        self._keeping.add(task)
        task.add_done_callback(self._keeping.discard)

    async def _keep_value(self, name: str, value: bytes) -> None:
        try:
            await self.store.keep(name, value)
        except (StoreFailed, StoreFull) as error:
            # It holds in this process, and is told again after a restart.
            _log.warning("could not be kept", what=name, reason=str(error))

    async def _beat(self) -> None:
        while True:
            await self._note()
            await asyncio.sleep(self._settings.status_interval_ms / 1_000)

    def _note_soon(self) -> None:
        """Let whoever has just set the relay up, or mended the line, see it at once."""
        self._keep(HEARTBEAT, orjson.dumps(self.health()))

    async def _note(self) -> None:
        await self._keep_value(HEARTBEAT, orjson.dumps(self.health()))

    def health(self) -> dict[str, Any]:
        """Return how the relay is, as `tillwire relay status` reads it from the store."""
        server_ms = self.line.server_now_ms()
        return {
            "at_ms": self._clock.now_ms(),
            "pid": os.getpid(),
            "running": not self._stopped,
            "relay": self._credential.code,
            "registers": self.front.connections,
            "roster_version": self._roster_version(),
            "clock_ahead_ms": None if server_ms is None else server_ms - self._clock.now_ms(),
            "store_failing": self.store.failing,
            "line": self.line.health(),
            "broker": self._broker.health(),
        }


def _kept_roster(store: Store) -> Roster | None:
    kept = store.kept(ROSTER)
    if kept is None:
        return None
    try:
        _, _, (roster,) = read_down(kept)
    except (Malformed, ValueError):
        _log.warning("the roster that was kept cannot be read; headquarters will be asked")
        return None
    return roster if isinstance(roster, Roster) else None


def _kept_clock(store: Store) -> KeptClock | None:
    kept = store.kept(CLOCK)
    return None if kept is None else KeptClock(*orjson.loads(kept))


def _software() -> str:
    try:
        return f"{_SOFTWARE} {importlib.metadata.version('tillwire')}"
    except importlib.metadata.PackageNotFoundError:
        return _SOFTWARE


def _bind(settings: RelaySettings) -> socket.socket:
    try:
        return socket.create_server(
            (settings.listen_host, settings.listen_port), backlog=settings.listen_backlog_connections_max
        )
    except OSError as error:
        raise OperatorError(
            f"registers cannot be served at {settings.listen_host}:{settings.listen_port}: {error.strerror}"
        ) from None


def _tls(settings: RelaySettings) -> ssl.SSLContext | None:
    if settings.tls_cert_file is None or settings.tls_key_file is None:
        return None
    try:
        return server_context(settings.tls_cert_file, settings.tls_key_file, settings.tls_client_ca_file)
    except OSError as error:
        raise OperatorError(f"the TLS files cannot be used: {error}") from None


def store_limits(settings: RelaySettings) -> StoreLimits:
    """Return what bounds the store."""
    return StoreLimits(
        queue_max=settings.queue_max,
        answers_max=settings.answers_max,
        balances_max=settings.balances_max,
        conflicts_max=settings.conflicts_max,
        allowances_max=settings.allowances_max,
    )


def line_settings(settings: RelaySettings) -> LineSettings:
    """Return what bounds the line."""
    return LineSettings(
        mqtt_qos=settings.mqtt_qos,
        publications_under_way_max=settings.publications_under_way_max,
        waiting_requests_max=settings.waiting_requests_max,
        silence_ms=settings.silence_ms,
        grace_ms=settings.grace_ms,
    )


def desk_limits(settings: RelaySettings) -> DeskLimits:
    """Return what bounds the desk."""
    return DeskLimits(
        under_way_max=settings.requests_under_way_max,
        answer_timeout_ms=settings.answer_timeout_ms,
        busy_retry_after_ms=settings.busy_retry_after_ms,
        amount_max=settings.amount_max,
    )


async def _serve(settings: RelaySettings, clock: Clock) -> None:
    asked_to_stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, asked_to_stop.set)
    async with Relay(settings, clock) as relay:
        stopping = asyncio.ensure_future(asked_to_stop.wait())
        failing = asyncio.ensure_future(relay.failed())
        await asyncio.wait({stopping, failing}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if failing.done():
            failing.result()
        _log.info("relay stops")


def serve(settings: RelaySettings, clock: Clock | None = None) -> None:
    """Run a relay until SIGTERM or SIGINT. Raises OperatorError."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, clock or SystemClock()))
