"""The peers of the benchmark at a small size: they do the job that they are compared by."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import asyncpg
import httpx

from loadtests.bench.peer_stages import HttpServiceStage, PgbenchStage
from loadtests.bench.stages import Bench, Run, Scale
from loadtests.bench.white_box_stages import AllocationsStage, CeilingsStage
from loadtests.installation import Installation
from loadtests.peers.database import FIRST_BALANCE, Booked, peer_database
from loadtests.peers.http_service import registers
from loadtests.peers.http_service.process import HttpService
from loadtests.peers.pgbench.runs import FUNCTION, POINTS, Pgbench
from loadtests.processor_time import processor_s
from server.engines.binaries import find_postgres
from server.engines.postgres import EmbeddedPostgres

SMALL = Scale("small", 300, 24, 0.1, 0.4, 1, 30, 2_000, 0, 0, 0.0)


@dataclass
class EnginesAlone:
    """Stands for an installation of which nothing but PostgreSQL is used."""

    postgres: EmbeddedPostgres
    postgres_bin: Path = field(default_factory=lambda: find_postgres().path.parent)

    @property
    def postgres_url(self) -> str:
        return self.postgres.url

    def processors(self) -> dict[str, float]:
        return {"postgresql": processor_s(self.postgres.pid)}


async def test_pgbench_moves_balances_and_journals_each_id_once(
    postgres_server: EmbeddedPostgres, tmp_path: Path
) -> None:
    async with peer_database(postgres_server.url, "peer_test_pgbench", 50, FUNCTION) as database:
        assert await database.booked() == Booked(0, 0, 0)
        pgbench = Pgbench(database, find_postgres().path.parent, tmp_path)
        run = await asyncio.to_thread(pgbench.run, 4, each=25)
        assert (run.transactions, len(run.latencies_us)) == (100, 100)
        assert 0 < run.percentile_ms(0.5) <= run.percentile_ms(0.99)
        assert await database.booked() == Booked(100, 100 * POINTS, 100 * POINTS)

        connection = await asyncpg.connect(database.url)
        try:
            redeem = "SELECT redeem($1, $2, 7, $3)"
            request = uuid4()
            before = await connection.fetchval("SELECT balance FROM account WHERE account_id = 9")
            first = await connection.fetchval(redeem, request, 9, 250)
            assert first[:1] == b"\x00"
            assert await connection.fetchval(redeem, request, 9, 250) == first
            assert await connection.fetchval("SELECT balance FROM account WHERE account_id = 9") == before - 250
            # More than there is: nothing happens, and nothing is remembered.
            assert await connection.fetchval(redeem, uuid4(), 9, FIRST_BALANCE + 1) == b"\x01"
            rows = await connection.fetch("SELECT seq, balance_after FROM entry WHERE account_id = 9 ORDER BY seq")
        finally:
            await connection.close()
        assert [row["seq"] for row in rows] == list(range(1, len(rows) + 1))
        assert rows[-1]["balance_after"] == before - 250
        assert (await database.booked()).entries == 101


async def test_pgbench_at_a_rate_counts_latency_from_the_schedule(
    postgres_server: EmbeddedPostgres, tmp_path: Path
) -> None:
    async with peer_database(postgres_server.url, "peer_test_rate", 50, FUNCTION) as database:
        pgbench = Pgbench(database, find_postgres().path.parent, tmp_path)
        # One client cannot keep up with such a rate, so that transactions fall further and further behind it.
        run = await asyncio.to_thread(pgbench.run, 1, each=200, rate_per_s=1_000_000)
        unhurried = await asyncio.to_thread(pgbench.run, 1, each=200)
    assert run.transactions == len(run.latencies_us) == 200
    assert run.percentile_ms(1.0) > sum(unhurried.latencies_us[:20]) / 1000


def test_the_stage_of_pgbench_brings_its_figures(postgres_server: EmbeddedPostgres, tmp_path: Path) -> None:
    bench = Bench(EnginesAlone(postgres_server), SMALL, tmp_path, lambda _text: None)  # type: ignore[arg-type]
    run = Run(bench)
    run.run([PgbenchStage(clients=(1, 4))])
    assert run.done[0].error == ""
    values, curves = bench.figures.values, bench.figures.curves
    rates = {clients: values[f"pgbench_{clients}_per_s"] for clients in (1, 4)}
    assert values["pgbench_best_per_s"] == max(rates.values()) == rates[int(values["pgbench_best_clients"])]
    assert values["pgbench_postgresql_us_per_transaction"] > 0
    assert values["pgbench_half_peak_p99_ms"] > 0
    assert [point.at for point in curves["pgbench"]] == [1, 4]
    assert curves["pgbench_offered"][0].at == values["pgbench_best_per_s"] / 2


async def test_the_http_service_spends_once_for_an_id(postgres_server: EmbeddedPostgres, tmp_path: Path) -> None:
    async with peer_database(postgres_server.url, "peer_test_http", 20) as database:
        with HttpService(database.url, tmp_path, processes=1, pool=4) as service:
            url = f"http://{service.host}:{service.port}/redeem"
            asked = {"request_id": str(uuid4()), "account_id": 3, "terminal_id": 1, "points": 250}
            async with httpx.AsyncClient() as client:
                answers = await asyncio.gather(*(client.post(url, json=asked) for _ in range(4)))
                missing = await client.post(url, json={**asked, "request_id": str(uuid4()), "points": FIRST_BALANCE})
                unknown = await client.post(url, json={**asked, "request_id": str(uuid4()), "account_id": 21})
            assert {(answer.status_code, answer.json()["balance"]) for answer in answers} == {
                (200, FIRST_BALANCE - 250)
            }
            assert (missing.status_code, unknown.status_code) == (409, 404)
            assert await database.booked() == Booked(1, 250, 250)
            outcome = await asyncio.to_thread(
                registers.load_for, service.host, service.port, 8, 20, warm_up_s=0.1, seconds=0.3
            )
        assert outcome.others == {}
        assert 0 < len(outcome.latencies_us) <= outcome.approved
        booked = await database.booked()
        assert booked.entries == outcome.approved + 1
        assert booked.points == booked.missing_from_balances == outcome.approved * registers.POINTS + 250


def test_the_stage_of_the_http_service_brings_its_figures(postgres_server: EmbeddedPostgres, tmp_path: Path) -> None:
    bench = Bench(EnginesAlone(postgres_server), SMALL, tmp_path, lambda _text: None)  # type: ignore[arg-type]
    run = Run(bench)
    run.run([HttpServiceStage(connections=(1, 16))])
    assert run.done[0].error == ""
    values = bench.figures.values
    rates = {connections: values[f"http_service_{connections}_per_s"] for connections in (1, 16)}
    assert values["http_service_best_per_s"] == max(rates.values())


def test_ceilings_and_allocations_are_measured_on_an_installation(own_folder: Path) -> None:
    with Installation(own_folder) as installation:
        installation.start_engines()
        bench = Bench(installation, SMALL, own_folder, lambda _text: None)
        run = Run(bench)
        run.run([CeilingsStage(), AllocationsStage()])
    assert [done.error for done in run.done] == ["", ""]
    values = bench.figures.values
    assert values["ceiling_script_per_s"] > 0
    assert values["ceiling_journal_per_s"] > 0
    # Each request has at least an id, a body and an answer of its own.
    assert values["allocations_per_redeem"] > 3
