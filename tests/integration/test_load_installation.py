import os
import ssl
import time
from pathlib import Path

import pytest

from loadtests.installation import Installation, InstallationError
from loadtests.processor_time import is_running
from protocol.blocking import BlockingClient
from protocol.codes import Outcome
from protocol.requests import Receipt, RedeemRequest
from protocol.ticket import Reply

POINT = 100


def redeem(installation: Installation, tls: ssl.SSLContext | None = None) -> Reply:
    people = installation.population
    with BlockingClient(people.host, people.port, people.terminal(1), people.secret, tls=tls) as register:
        request = RedeemRequest(os.urandom(16), 10_000, people.card(0), POINT, Receipt(0, people.currency))
        return register.request(request)


def test_an_installation_is_filled_used_restarted_and_leaves_nothing_behind(
    own_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What a developer's shell has set is not what is measured.
    monkeypatch.setenv("TILLWIRE_WORKERS", "nonsense")
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    with Installation(own_folder / "site", settings={"status_interval_ms": "50"}) as installation:
        installation.start_engines()
        assert installation.postgres_url.startswith("postgresql://")
        assert installation.redis_url.startswith("redis://")
        assert installation.postgres_bin is None or (installation.postgres_bin / "pgbench").is_file()
        installation.populate(20, 2, lots=3)
        installation.start_server()
        with pytest.raises(InstallationError, match="running already"):
            installation.start_server()
        first = redeem(installation)
        assert (first.outcome, first.points) == (Outcome.APPROVED, POINT)
        assert first.balance is not None
        spent = installation.processors()
        assert set(spent) == {"server", "valkey", "postgresql", "broker"}
        # The kernel counts in ticks of 10 ms, and an engine with as little to do as the broker may not have used one.
        assert spent["server"] > 0 <= min(spent.values())
        # A worker tells its figures every so often.
        while not installation.metrics()['tillwire_request_seconds_count{operation="REDEEM"}']:
            time.sleep(0.01)
        server = installation.server_pid
        installation.kill_server()
        assert not is_running(server)
        installation.start_server(tls=True, workers="1")
        second = redeem(installation, ssl.create_default_context(cafile=installation.tls_ca))
        assert second.balance is not None
        assert second.balance.available == first.balance.available - POINT
        installation.stop_server()
        engines = installation._pids
    assert not any(is_running(pid) for pid in engines.values())


def test_a_server_that_cannot_start_says_why(own_folder: Path) -> None:
    with Installation(own_folder / "site") as installation:
        with pytest.raises(InstallationError, match="tillwire serve ended by itself with 2") as failure:
            installation.start_server(workers="none")
        assert "workers" in str(failure.value)
        installation.kill_server()
