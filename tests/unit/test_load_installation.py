import json
import os
import ssl
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from loadtests.certificate import make_certificate
from loadtests.installation import Installation
from loadtests.population import Population
from loadtests.process import InstallationError, Process
from loadtests.processor_time import descendants, is_running, processor_s

BURN = "import time; end = time.process_time() + 0.2\nwhile time.process_time() < end: pass"


def run(tmp_path: Path, program: str) -> Process:
    return Process("program", [sys.executable, "-c", program], os.environ, tmp_path / "its.log")


def test_a_population_names_its_terminals_and_cards(tmp_path: Path) -> None:
    file = tmp_path / "population.json"
    made = {"host": "h", "port": 1, "terminals": 2, "terminal_prefix": "load-", "secret": "sesame", "accounts": 20,
            "first_card": 0, "currency": "EUR", "lots": 6}  # fmt: skip
    file.write_text(json.dumps(made))
    population = Population.read(file)
    assert population.terminal(1) == "load-1"
    assert population.card(15).value == "2000000000152"
    assert population.card(15).token == "ean13:2000000000152"
    assert "sesame" not in repr(population)
    for number in (-1, 2):
        with pytest.raises(IndexError):
            population.terminal(number)
    for number in (-1, 20):
        with pytest.raises(IndexError):
            population.card(number)


def test_processor_time_counts_children_that_live_and_children_that_ended() -> None:
    waiting = f"{BURN}\nprint('burnt', flush=True); input()"
    parent = (
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BURN!r}], check=True)\n"
        f"sys.exit(subprocess.run([sys.executable, '-c', {waiting!r}], check=True).returncode)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "burnt\n"
        (child,) = descendants(process.pid)
        assert is_running(child)
        assert processor_s(process.pid) >= processor_s(child) + 0.2
        assert processor_s(child) >= 0.2
        process.communicate("\n")
    assert processor_s(process.pid) == 0.0
    assert not is_running(process.pid)


def test_a_command_that_fails_is_told_with_its_last_lines(tmp_path: Path) -> None:
    failing = run(tmp_path, "print('what was wrong', flush=True); raise SystemExit(3)")
    with pytest.raises(InstallationError, match=r"program failed with 3:\nwhat was wrong"):
        failing.expect_success()
    with pytest.raises(InstallationError, match=r"program ended by itself with 3:\nwhat was wrong"):
        failing.stop()
    silent = run(tmp_path, "pass")
    with pytest.raises(InstallationError, match="ended by itself with 0; it logged nothing"):
        silent.json_line(10)
    assert stat.S_IMODE((tmp_path / "its.log").stat().st_mode) == 0o600


def test_a_killed_command_takes_what_it_started_with_it(tmp_path: Path) -> None:
    sleeping = "import time; time.sleep(60)"
    process = run(tmp_path, f"import subprocess, sys; subprocess.run([sys.executable, '-c', {sleeping!r}])")
    while not (children := descendants(process.pid)):
        time.sleep(0.01)
    process.kill()
    assert not any(is_running(pid) for pid in (process.pid, *children))
    process.kill()


def test_the_certificate_is_trusted_for_loopback_and_made_once(tmp_path: Path) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "certificate.key"
    make_certificate(certificate, key)
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    assert ssl.create_default_context(cafile=certificate).get_ca_certs()
    text = certificate.read_text()
    make_certificate(certificate, key)
    assert certificate.read_text() == text


def test_nothing_is_told_of_an_installation_that_does_not_run(tmp_path: Path) -> None:
    with Installation(tmp_path / "here") as installation:
        with pytest.raises(InstallationError, match="no population"):
            _ = installation.population
        with pytest.raises(InstallationError, match="not running"):
            _ = installation.server_pid
        with pytest.raises(InstallationError, match="/metrics answers 0"):
            installation.metrics()
        assert installation.processors() == {}
        installation.kill_server()
