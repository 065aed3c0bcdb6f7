"""The stages that measure what people would use instead, each on a database of its own in the same PostgreSQL."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial

from loadtests.bench.figures import Point
from loadtests.bench.stages import Bench, Wrong
from loadtests.installation import Installation
from loadtests.peers.database import PeerDatabase, peer_database
from loadtests.peers.http_service import registers
from loadtests.peers.http_service.process import HttpService
from loadtests.peers.http_service.registers import HttpOutcome
from loadtests.peers.pgbench import runs
from loadtests.peers.pgbench.runs import FUNCTION, Pgbench, PgbenchError, PgbenchRun

#: What was best on two cores: more processes get into each other's way, more connections into PostgreSQL's.
_PROCESSES, _POOL = 2, 16
_ENDING_S = 0.2
_HALF = 0.5
#: To note every latency costs pgbench time; of many clients a part of them says as much.
_MANY, _SAMPLED = 8, 0.05


class PgbenchStage:
    """One SQL function inside PostgreSQL, called by pgbench."""

    name = "pgbench"

    def __init__(self, clients: Sequence[int] = (1, 8, 32, 64)) -> None:
        self._clients = clients

    def run(self, bench: Bench) -> None:
        """Put `pgbench_*` and the curves `pgbench` and `pgbench_offered`."""
        asyncio.run(self._on_own_database(bench))

    async def _on_own_database(self, bench: Bench) -> None:
        bench.stop_serving()
        installation = bench.installation
        if installation.postgres_bin is None:
            raise RuntimeError("this PostgreSQL came without pgbench")
        async with peer_database(installation.postgres_url, "peer_pgbench", bench.scale.accounts, FUNCTION) as database:
            pgbench = Pgbench(database, installation.postgres_bin, bench.folder / "pgbench")
            # A thread of its own: the connections of the database must not wait for pgbench.
            done = await asyncio.to_thread(_measure_pgbench, bench, pgbench, self._clients)
            await _booked(database, done, runs.POINTS, "pgbench")


def _measure_pgbench(bench: Bench, pgbench: Pgbench, all_clients: Sequence[int]) -> int:
    """Return how many transactions were made in all."""
    scale, figures, installation = bench.scale, bench.figures, bench.installation
    done = pgbench.run(max(all_clients), seconds=scale.warm_up_s).transactions
    best: tuple[PgbenchRun, int, float] | None = None
    best_seconds = 0.0
    for clients in all_clients:
        # What connecting costs PostgreSQL is not a transaction's: a run with next to none tells how much it is.
        few, few_s = _with_processor(installation, partial(pgbench.run, clients, each=1))
        seconds = scale.measuring_s + few.connecting_s
        sampled = _SAMPLED if clients >= _MANY else 1.0
        run, run_s = _with_processor(installation, partial(pgbench.run, clients, seconds=seconds, sampled=sampled))
        done += few.transactions + run.transactions
        _expect_latencies(run)
        us = (run_s - few_s) / (run.transactions - few.transactions) * 1e6
        figures.put(f"pgbench_{clients}_per_s", run.per_s)
        figures.add("pgbench", _point(clients, run.per_s, run.percentile_ms))
        bench.say(f"pgbench, {clients} clients: {run.per_s:,.0f} a second, {us:.0f} us of PostgreSQL each")
        if best is None or run.per_s > best[0].per_s:
            best, best_seconds = (run, clients, us), seconds
    assert best is not None  # noqa: S101 - there are clients
    run, clients, us = best
    figures.put("pgbench_best_per_s", run.per_s)
    figures.put("pgbench_best_clients", clients)
    figures.put("pgbench_postgresql_us_per_transaction", us)
    for part in (_HALF,) if bench.quick else (0.25, _HALF, 0.75):
        offered = run.per_s * part
        open_loops = [pgbench.run(clients, seconds=best_seconds, rate_per_s=offered) for _ in range(scale.repeats)]
        for one in open_loops:
            done += one.transactions
            _expect_latencies(one)
        open_loop = sorted(open_loops, key=lambda one: one.percentile_ms(0.99))[scale.repeats // 2]
        figures.add("pgbench_offered", _point(offered, open_loop.per_s, open_loop.percentile_ms))
        p99_ms = open_loop.percentile_ms(0.99)
        bench.say(f"pgbench at {part:.0%} of that: p99 {p99_ms:.1f} ms")
        if part == _HALF:
            figures.put("pgbench_half_peak_p99_ms", p99_ms)
    return done


def _expect_latencies(run: PgbenchRun) -> None:
    if not run.latencies_us:
        raise PgbenchError(f"{run.transactions} transactions are too few to say anything about their latency")


def _with_processor(installation: Installation, run: Callable[[], PgbenchRun]) -> tuple[PgbenchRun, float]:
    """Return a run and the processor seconds that PostgreSQL used for it."""
    before = _postgresql_s(installation)
    made = run()
    return made, _postgresql_s(installation) - before


def _postgresql_s(installation: Installation) -> float:
    # The kernel tells whole ticks for each living process. What those of the connections used is exact once all have
    # ended, which takes them a moment after pgbench has gone.
    time.sleep(_ENDING_S)
    return installation.processors()["postgresql"]


class HttpServiceStage:
    """An asyncio HTTP service with asyncpg and SELECT ... FOR UPDATE."""

    name = "http_service"

    def __init__(self, connections: Sequence[int] = (1, 32, 64, 256)) -> None:
        self._connections = connections

    def run(self, bench: Bench) -> None:
        """Put `http_service_*` and the curve `http_service`."""
        asyncio.run(self._on_own_database(bench))

    async def _on_own_database(self, bench: Bench) -> None:
        bench.stop_serving()
        url = bench.installation.postgres_url
        async with peer_database(url, "peer_http_service", bench.scale.accounts) as database:
            done = await asyncio.to_thread(_measure_http_service, bench, database, self._connections)
            await _booked(database, done, registers.POINTS, "the HTTP service")


def _measure_http_service(bench: Bench, database: PeerDatabase, all_connections: Sequence[int]) -> int:
    """Return how many redemptions were approved in all."""
    scale, figures, approved = bench.scale, bench.figures, 0
    best: tuple[HttpOutcome, int] | None = None
    with HttpService(database.url, bench.folder, processes=_PROCESSES, pool=_POOL) as service:
        for connections in all_connections:
            outcome = registers.load_for(
                service.host, service.port, connections, scale.accounts,
                warm_up_s=scale.warm_up_s, seconds=scale.measuring_s,
            )  # fmt: skip
            if outcome.others:
                raise Wrong(f"the HTTP service did not approve everything: {outcome.others}")
            approved += outcome.approved
            figures.put(f"http_service_{connections}_per_s", outcome.per_s)
            figures.add("http_service", _point(connections, outcome.per_s, outcome.percentile_ms))
            bench.say(f"HTTP service, {connections} connections: {outcome.per_s:,.0f} a second")
            if best is None or outcome.per_s > best[0].per_s:
                best = outcome, connections
    assert best is not None  # noqa: S101 - there are connections
    figures.put("http_service_best_per_s", best[0].per_s)
    figures.put("http_service_best_connections", best[1])
    return approved


async def _booked(database: PeerDatabase, done: int, points: int, who: str) -> None:
    """Compare what a peer said it did with its journal and its balances."""
    booked = await database.booked()
    if not (booked.entries == done and booked.points == booked.missing_from_balances == done * points):
        raise Wrong(f"{who} did {done} redemptions, its database says {booked}")


def _point(at: float, per_s: float, percentile_ms: Callable[[float], float]) -> Point:
    return Point(at, per_s, percentile_ms(0.5), percentile_ms(0.99), percentile_ms(0.999))
