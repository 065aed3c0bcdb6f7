"""A whole installation in one process: the product's workers on simulated engines, network, clock and chance."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from functools import cache
from random import Random
from typing import Any, cast

from ledger.ledger import Engines, Place
from ledger.statistics import Statistics
from server.observation.metrics import Metrics
from server.settings import Settings
from server.workers.worker import Worker
from tests.simulator.loop import Loop, Process
from tests.simulator.network import Network, remove_socket
from tests.simulator.postgres_client import SimulatedPostgres
from tests.simulator.postgres_model import PostgresModel
from tests.simulator.postgres_tables import Tables
from tests.simulator.programme import SECRETS
from tests.simulator.redis_model import RedisModel, SimulatedRedis, runtime
from tests.simulator.register import HOST, PORT

_RESTART_S = (0.1, 0.6)


@cache
def _metrics() -> Metrics:
    """Return the one set of metrics of this process: nobody looks at it, and it takes a millisecond to make."""
    return Metrics()


class VirtualClock:
    """The installation's clock: it starts at a moment, goes with the loop, and can be set wrong."""

    def __init__(self, loop: Loop, start_ms: int) -> None:
        self._loop = loop
        self._start_ms = start_ms
        self.wrong_ms = 0

    def now_ms(self) -> int:
        """Return the server's time of day."""
        return self.true_ms() + self.wrong_ms

    def true_ms(self) -> int:
        """Return the registers' time of day, which nobody sets wrong."""
        return self._start_ms + int(self._loop.time() * 1000)

    def monotonic_s(self) -> float:
        """Return seconds since some moment."""
        return 1_000.0 + self._loop.time()


class WorkerProcess:
    """One place for a worker: the process that is there now, and the supervisor that starts the next one."""

    def __init__(self, installation: Installation, index: int) -> None:
        self.index = index
        self.worker: Worker | None = None
        self.process: Process | None = None
        self._installation = installation
        self._starts = 0
        self._stopping = False
        self._serving: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start a new process here."""
        here = self._installation
        self._starts += 1
        self._stopping = False
        self.process = Process(here.loop, f"worker-{self.index}.{self._starts}", slack_s=here.slack_s)
        self._serving = self.process.start(self._serve(f"{self.index}-{self._starts}.sock"), "serve")

    def kill(self, *, restart: bool = True) -> None:
        """End the process at once; another one comes soon."""
        self._installation.count(self.worker)
        process, self.worker = self.process, None
        if process is not None:
            process.kill()
            self._installation.counts["workers killed"] += 1
        if restart:
            low, high = _RESTART_S
            wait_s = low + (high - low) * self._installation.dice.random()
            self._installation.loop.after(wait_s, self.start)

    def drain(self) -> None:
        """Ask the process to stop in good order, as SIGTERM does; another one follows."""
        if self.worker is not None and self.process is not None and self.process.alive and not self._stopping:
            self._stopping = True
            self.process.start(self._drain(self.worker), "drain")

    async def _drain(self, worker: Worker) -> None:
        assert self._serving is not None
        self._serving.cancel()
        # The supervisor kills what does not stop in time.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._installation.settings.drain_timeout_ms / 1000 + 1):
                await worker.stop()
                self._installation.counts["workers drained"] += 1
        self._installation.loop.soon(None, self.kill)

    async def _serve(self, address: str) -> None:
        here = self._installation
        self.worker = worker = Worker(
            here.settings,
            SECRETS,
            cast("Any", here.network.bind(f"{HOST}:{PORT}")),
            Place(address, self.index, here.settings.workers),
            here.engines(),
            here.clock,
            here.dice.randbytes,
            _metrics(),
        )
        # Every worker would compile the scripts anew when it goes on without Redis.
        worker.ledger._partitions[0]._services.standby_stores.__dict__["_runtime"] = runtime()
        here.addresses.append(address)
        try:
            await worker.start()
            here.counts["workers started"] += 1
            await worker.ledger.failed()
        except Exception as error:  # noqa: BLE001 - a worker that fails by a bug is started again, but it is a bug
            here.broken(f"worker {self.index} failed", error)
            here.loop.soon(None, self.kill)


class Installation:
    """Engines, network and workers."""

    def __init__(
        self,
        loop: Loop,
        dice: Random,
        counts: dict[str, int],
        settings: Settings,
        tables: Tables,
        start_ms: int,
        broken: Callable[[str, BaseException], None],
    ) -> None:
        self.loop = loop
        self.dice = dice
        self.counts = counts
        self.settings = settings
        self.broken = broken
        self.slack_s = dice.choice((0.0, 0.0005, 0.005))
        self.clock = VirtualClock(loop, start_ms)
        self.network = Network(loop, dice, counts)
        self.network.attach()
        self.postgres = PostgresModel(loop, dice, counts, tables)
        self.redis = RedisModel(loop, dice, counts)
        self.addresses: list[str] = []
        self.workers = [WorkerProcess(self, index) for index in range(settings.workers)]
        self.postgres.kill = self._kill

    def engines(self) -> Engines:
        """Return what a worker reaches the engines by."""
        return Engines(
            postgres=cast("Any", SimulatedPostgres(self.postgres)),
            redis=cast("Any", SimulatedRedis(self.redis)),
            seal_key=SECRETS.seal_key,
            personal_key=SECRETS.personal_key,
        )

    def start(self) -> None:
        """Start all workers."""
        for worker in self.workers:
            worker.start()

    def _kill(self, process: Process) -> None:
        """Kill the worker that is this process, if it still is."""
        for place in self.workers:
            if place.process is process and process.alive:
                place.kill()

    def heal(self) -> None:
        """Be well again in every part."""
        self.postgres.heal()
        self.redis.heal()
        self.network.heal()
        for place in self.workers:
            if place.process is not None:
                place.process.resume()

    def end(self) -> None:
        """Count what the workers have done, and leave nothing behind."""
        for place in self.workers:
            self.count(place.worker)
        for address in self.addresses:
            remove_socket(address)

    def count(self, worker: Worker | None) -> None:
        """Add a worker's statistics to the scenario's."""
        if worker is not None:
            statistics = worker.ledger.statistics
            for name in Statistics.__dataclass_fields__:
                if not name.endswith("seconds"):
                    self.counts[name] += int(getattr(statistics, name))
