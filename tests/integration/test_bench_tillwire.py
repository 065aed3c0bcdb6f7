"""The stages of the benchmark that measure Tillwire itself, at a size at which only their sums can be judged."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtests.bench.closed_loop import ClosedLoopStage, HotCardStage, MixStage, TlsStage
from loadtests.bench.connections import IdleConnectionsStage, ReconnectStage
from loadtests.bench.cost import CostStage
from loadtests.bench.growth import GrowthStage
from loadtests.bench.open_loop import OpenLoopStage, OverloadStage
from loadtests.bench.redis_memory import RedisMemoryStage
from loadtests.bench.stages import Bench, Run, Scale, Wrong
from loadtests.bench.traffic import Traffic, confirmed
from loadtests.generator import process
from loadtests.generator.load import Load
from loadtests.generator.outcome import Outcome
from loadtests.generator.target import Target
from loadtests.installation import Installation

SMALL = Scale("small", 200, 40, 0.3, 0.6, 2, 40, 400, 120, 500, 0.3)


@pytest.fixture(scope="module")
def bench(engines_folder: Path) -> Iterator[Bench]:
    folder = engines_folder / "bench-tillwire"
    folder.mkdir()
    folder.chmod(0o711)
    with Installation(folder / "installation") as installation:
        installation.start_engines()
        yield Bench(installation, SMALL, folder, lambda _text: None)


def test_stages_of_traffic_put_their_figures(bench: Bench) -> None:
    traffic = Traffic()
    stages = (ClosedLoopStage(traffic), CostStage(traffic), MixStage(traffic), OpenLoopStage(traffic),
              HotCardStage(traffic), OverloadStage(traffic))  # fmt: skip
    run = Run(bench)
    run.run(stages)
    assert [(done.name, done.error) for done in run.done] == [(stage.name, "") for stage in stages]
    values = bench.figures.values
    closed = {f"redeem_{n}_{what}" for n in (1, 64, 256, 1_000) for what in ("per_s", "p50_ms", "p99_ms", "p999_ms")}
    opened = {f"open_{n}_{what}" for n in (25, 50, 75) for what in ("per_s", "p50_ms", "p99_ms", "p999_ms")}
    cost = {"server_us_per_redeem", "valkey_us_per_redeem", "postgresql_us_per_redeem", "generator_us_per_redeem"}
    assert closed | opened | cost <= set(values)
    assert {"mix_256_per_s", "hot_card_256_per_s", "disk_bytes_written_per_redeem"} <= set(values)
    assert all(values[name] >= 0 for name in (*closed, *opened, *cost))
    assert values["redeem_1_per_s"] > 0 < values["redeem_64_p50_ms"]
    # Whatever the speed, 3x the peak is offered for a moment only: then nothing need be refused, or all of it.
    assert values["goodput_overload_3x_per_s"] >= 0
    assert [point.at for point in bench.figures.curves["registers"]] == [1, 64, 256, 1_000]
    assert len(bench.figures.curves["offered"]) == 3


def test_stages_that_restart_the_server_put_theirs(bench: Bench) -> None:
    stages = (TlsStage(Traffic()), IdleConnectionsStage(), ReconnectStage(), RedisMemoryStage())
    run = Run(bench)
    run.run(stages)
    assert [(done.name, done.error) for done in run.done] == [(stage.name, "") for stage in stages]
    values = bench.figures.values
    assert values["tls_256_per_s"] > 0 < values["tls_to_plain_in_turns"]
    assert values["reconnect_3000_s"] > 0
    # Of so few, what the process needs otherwise drowns what a connection does; an account is some hundred bytes.
    assert "kib_per_idle_connection" in values
    assert 100 < values["redis_bytes_per_account"] < 4_000


def test_growth_has_an_installation_of_its_own(bench: Bench) -> None:
    run = Run(bench)
    run.run([GrowthStage(Traffic())])
    assert [done.error for done in run.done] == [""]
    assert bench.figures.values["growth_redeem_256_per_s"] > 0 < bench.figures.values["growth_to_small_in_turns"]


def test_an_approval_that_the_journal_does_not_have_fails_the_stage(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hears_one_more(target: Target, load: Load, **more: object) -> Outcome:
        outcome = process.run(target, load)
        outcome.effects["REDEEM"] += 1
        return outcome

    monkeypatch.setattr("loadtests.bench.traffic.run", hears_one_more)
    with pytest.raises(Wrong, match="REDEEM were approved, but"):
        confirmed(bench.serve(), Load(4, 0.1))
