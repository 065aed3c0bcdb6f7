"""One worker process: puts ledger, peer link and listener together, tells the supervisor how it is, drains on SIGTERM.

The supervisor starts it as `python -m server.workers.worker ...`; see `server.workers.process_link`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import os
import signal
import socket
import ssl
import sys
from collections.abc import Callable

import structlog
import uvloop

from ledger.clock import Clock, SystemClock
from ledger.journal.partitioning import NotMigrated, WorkersRunning
from ledger.journal.writer import JournalDown
from ledger.ledger import Engines, Ledger, Place
from ledger.slip import TemplateError
from server.bridge.bridge import Bridge
from server.bridge.limits import BridgeLimits
from server.errors import OperatorError
from server.ledger_engines import ledger_engines
from server.ledger_limits import ledger_limits
from server.observation.logs import configure_logging
from server.observation.metrics import Metrics
from server.observation.tallies import Tallies
from server.registers.answers import AnswerRenderer, check_programme
from server.registers.dispatch import Dispatcher
from server.registers.listener import Listener
from server.registers.reception import Reception
from server.registers.terminal_room import TerminalRoom
from server.registers.tls import server_context
from server.registers.wire_limits import connection_limits, dispatch_limits
from server.secrets import Secrets
from server.settings import Settings
from server.workers.open_files import allow_connections
from server.workers.peer_address import new_address
from server.workers.peer_link import PeerLinks
from server.workers.process_link import EXIT_CONFIGURATION, ProcessLink, ProcessState

_RETRY_S = 0.5
# Registers are let in when every partition is served; one in trouble does not keep the others waiting for ever.
_PARTITIONS_WAIT_S = 5.0
_POLL_S = 0.02
# Of the time to drain, what registers may use; the rest is for the other workers and for the last commits.
_REGISTERS_SHARE = 0.6
_PEERS_SHARE = 0.1
_GARBAGE_THRESHOLD = 50_000

_log = structlog.get_logger(subject="worker")


class ConfigurationError(Exception):
    """The worker cannot run with these settings, now or later."""


class Worker:
    """Everything that one worker process is made of. Built inside a running event loop."""

    def __init__(
        self,
        settings: Settings,
        secrets: Secrets,
        listening: socket.socket,
        place: Place,
        engines: Engines,
        clock: Clock,
        random_bytes: Callable[[int], bytes],
        metrics: Metrics | None = None,
    ) -> None:
        """Build the parts; nothing is connected yet. Raises ConfigurationError."""
        self.metrics = metrics or Metrics()
        self._settings = settings
        self._place = place
        self._clock = clock
        renderer = AnswerRenderer(lambda: self.ledger.programme, clock.now_ms)
        self.peers = PeerLinks(
            place.address,
            lambda submission: self.ledger.submit_local(submission),  # noqa: PLW0108 - the ledger comes to be below
            clock,
            outstanding_max=settings.queue_requests_max,
        )
        self.ledger = Ledger(
            engines,
            place,
            ledger_limits(settings),
            renderer,
            self.peers.forward,
            clock,
        )
        self.room = TerminalRoom(self.ledger.terminal_spent_today, clock.monotonic_s)
        dispatcher = Dispatcher(self.ledger, renderer, self.room, secrets.token_key, dispatch_limits(settings))
        reception = Reception(
            self.ledger,
            dispatcher,
            self.room,
            self.metrics,
            connection_limits(settings),
            secrets.scram_server_key,
            clock,
            random_bytes,
        )
        self.listener = Listener(reception, listening, _tls(settings))
        self.bridge = self._bridge(secrets, dispatcher, renderer, random_bytes)
        self._checked_version = 0

    def _bridge(
        self,
        secrets: Secrets,
        dispatcher: Dispatcher,
        renderer: AnswerRenderer,
        random_bytes: Callable[[int], bytes],
    ) -> Bridge | None:
        """Return the bridge to stores behind a broker, if there is a broker."""
        if self._settings.mqtt_url is None:
            return None
        try:
            return Bridge(
                self.ledger,
                dispatcher,
                renderer,
                self.room,
                self.metrics,
                self._clock,
                random_bytes,
                BridgeLimits.of(self._settings),
                url=self._settings.mqtt_url.get_secret_value(),
                ca_file=self._settings.mqtt_ca_file,
                relay_master=secrets.relay_master,
                token_key=secrets.token_key,
                first=self._place.index == 0,
            )
        except ValueError as error:
            raise ConfigurationError(str(error)) from error

    async def start(self) -> None:
        """Connect to the engines, however long they take to come up, and let registers in."""
        await self.peers.start()
        while True:
            try:
                await self.ledger.start()
                break
            except (JournalDown, NotMigrated, WorkersRunning) as error:
                _log.warning("cannot begin yet", reason=str(error))
                await asyncio.sleep(_RETRY_S)
        deadline = self._clock.monotonic_s() + _PARTITIONS_WAIT_S
        while not self.ledger.health()["ready"] and self._clock.monotonic_s() < deadline:  # noqa: ASYNC110 - once, at the start
            await asyncio.sleep(_POLL_S)
        await self.listener.start()
        if self.bridge is not None:
            self.bridge.start()

    async def failed(self) -> None:
        """Wait until a task ends by a bug and raise what ended it."""
        waits = {"ledger failed": self.ledger.failed()}
        if self.bridge is not None:
            waits["bridge failed"] = self.bridge.failed()
        failing = [asyncio.get_running_loop().create_task(wait, name=name) for name, wait in waits.items()]
        try:
            done, _ = await asyncio.wait(failing, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in failing:
                each.cancel()
        for each in done:
            each.result()

    async def stop(self) -> None:
        """Let registers have their answers and go, then let go of the engines."""
        started = self._clock.monotonic_s()
        timeout_ms = self._settings.drain_timeout_ms
        registers_ms = int(timeout_ms * _REGISTERS_SHARE)
        stores = [] if self.bridge is None else [self.bridge.drain(registers_ms)]
        await asyncio.gather(self.listener.drain(registers_ms), *stores)
        # The other workers may still forward requests of their registers here.
        await self.peers.drain(timeout_ms / 1000 * _PEERS_SHARE)
        if self.bridge is not None:
            await self.bridge.stop()
        await self.ledger.stop(max(0.1, timeout_ms / 1000 - (self._clock.monotonic_s() - started)))
        await self.peers.stop()
        await self.listener.stop()
        await self.room.stop()
        self.measure()

    def down(self) -> list[str]:
        """Return what this worker should serve and cannot, by name."""
        if not self.ledger.programme.version:
            return ["postgres"]
        partitions = self.ledger.health()["partitions"]
        assert isinstance(partitions, dict)  # noqa: S101 - an assertion that stays on
        return [
            f"partition {number}"
            for number, partition in partitions.items()
            if int(number) % self._place.workers == self._place.index and not partition["serving"]
        ]

    def detail(self) -> dict[str, object]:
        """Return what health shows beside that."""
        bridge = {} if self.bridge is None else self.bridge.health()
        return {**self.listener.health(), **bridge, **self.peers.health(), **self.ledger.health()}

    def measure(self) -> None:
        """Hand the numbers over to whoever scrapes."""
        partitions = self.ledger.health()["partitions"]
        assert isinstance(partitions, dict)  # noqa: S101 - an assertion that stays on
        totals = {f"{name}_total": value for name, value in dataclasses.asdict(self.ledger.statistics).items()}
        self.metrics.ledger(
            {
                "queued_requests": sum(partition["backlog"] for partition in partitions.values()),
                "partitions_serving": sum(bool(partition["serving"]) for partition in partitions.values()),
                "partitions_standby": sum(bool(partition["standby"]) for partition in partitions.values()),
                **self.peers.health(),
                **totals,
            }
        )
        self.metrics.journal_lag(max((partition["lag_ms"] for partition in partitions.values()), default=0) / 1000)
        self.metrics.connections(self.listener.connections)
        if self.bridge is not None:
            self.metrics.bridge(self.bridge.figures())
        self.metrics.flush()

    def check_slips(self) -> None:
        """Log a slip line that cannot be printed, once for each version of the programme."""
        programme = self.ledger.programme
        if programme.version == self._checked_version:
            return
        self._checked_version = programme.version
        try:
            check_programme(programme)
        except TemplateError as error:
            _log.error("slips of a network are left out", reason=str(error))


def _tls(settings: Settings) -> ssl.SSLContext | None:
    if settings.tls_cert_file is None or settings.tls_key_file is None:
        return None
    try:
        return server_context(settings.tls_cert_file, settings.tls_key_file, settings.tls_client_ca_file)
    except OSError as error:
        # ssl.SSLError is one of them: a file that is there but holds no usable certificate or key.
        raise ConfigurationError(f"the TLS files cannot be used: {error}") from error


async def _report_forever(worker: Worker, link: ProcessLink) -> None:
    """Tell the supervisor and the scraper how things are, at the interval of the settings."""
    while True:
        link.report(down=worker.down(), detail=worker.detail())
        worker.measure()
        worker.check_slips()
        await asyncio.sleep(link.settings.status_interval_ms / 1000)


async def serve(link: ProcessLink, clock: Clock) -> None:
    """Run a worker until SIGTERM, or until one of its tasks fails by a bug, which is raised."""
    loop = asyncio.get_running_loop()
    link.die_with_supervisor(loop)
    asked_to_stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked_to_stop.set)
    place = Place(new_address(link.settings.data_dir, link.index), link.index, link.settings.workers)
    engines = ledger_engines(link.settings, link.secrets)
    worker = Worker(link.settings, link.secrets, link.listen_socket, place, engines, clock, os.urandom)
    stopping = loop.create_task(_wait(asked_to_stop), name="stop asked")
    reporting = loop.create_task(_report_forever(worker, link), name="reports")
    tallies = Tallies(worker.metrics, engines.postgres, clock)
    tallying = loop.create_task(tallies.run(), name="tallies")
    starting = loop.create_task(worker.start(), name="start")
    watched = {stopping, reporting, starting, tallying}
    try:
        await asyncio.wait({stopping, reporting, starting}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done() and not stopping.done():
            starting.result()
            link.report(ProcessState.READY, worker.down(), worker.detail())
            _log.info("serving", connections_max=link.settings.connections_max)
            # What lives now lives as long as the process; the collector need not look at it again.
            gc.collect()
            gc.freeze()
            # A batch makes thousands of short-lived lists and hardly any cycle; by default they would be gone through
            # after every 700 of them.
            gc.set_threshold(_GARBAGE_THRESHOLD)
            failing = loop.create_task(worker.failed(), name="failed")
            watched.add(failing)
            await asyncio.wait({stopping, reporting, failing}, return_when=asyncio.FIRST_COMPLETED)
        link.report(ProcessState.DRAINING)
        if not starting.done():
            starting.cancel()
        await worker.stop()
        await tallies.finish()
    finally:
        for task in watched:
            task.cancel()
        done = await asyncio.gather(*watched, return_exceptions=True)
    for result in done:
        if isinstance(result, Exception):
            raise result


async def _wait(event: asyncio.Event) -> None:
    await event.wait()


def main(clock: Clock | None = None) -> None:
    """Run until asked to stop; the exit code tells the supervisor whether starting again can help."""
    link = ProcessLink(sys.argv[1:])
    configure_logging(link.settings.log_level, link.settings.log_format, worker=link.index)
    fitting = allow_connections(link.settings.connections_max)
    if fitting < link.settings.connections_max:
        _log.warning(
            "the limit of open files leaves less room than connections_max",
            connections_fitting=fitting,
            connections_max=link.settings.connections_max,
        )
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(link, clock or SystemClock()))
    except (ConfigurationError, OperatorError) as error:
        _log.error("worker cannot run", reason=str(error))
        sys.exit(EXIT_CONFIGURATION)
    except Exception:  # noqa: BLE001 - whatever it is, the supervisor starts a new worker
        _log.exception("worker failed")
        sys.exit(1)


if __name__ == "__main__":
    main()
