"""Do registers suffer from operators? A closed loop of registers alone, beside operators, and beside tireless ones.

    python -m tests.measurements.operators_beside [--registers 64] [--operators 20] [--seconds 10] [--rounds 3]

There is also a case without: registers while even the admin process stands still, for what it costs by itself.

The cases take turns, so that what else happens on the machine does not fall on one of them. What the registers
heard is looked up in the journal. Prints a table of the medians of the rounds, and one JSON object as its last line.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from loadtests import play
from loadtests.generator.confirm import confirm
from loadtests.generator.load import Load
from loadtests.generator.process import run
from loadtests.generator.target import Target
from loadtests.installation import CHECKOUT, Installation
from loadtests.processor_time import descendants

CASES = ("without", "alone", "beside", "tireless")
_LOCUSTFILE = "tests/measurements/operators_locustfile.py"
_ADMIN = b"server.workers.admin_process"
_WARM_UP_S = 2.0
#: Locust, and every operator with a connection.
_OPERATORS_BEGIN_S = 5.0
_LOCUST_END_S = 60
_ACCOUNTS = 20_000
#: All operators are one actor here, and what is asked is not whether its limit works. A process that stands still is
#: not to be started anew.
_SETTINGS = {"requests_per_minute_max": "1000000", "worker_kill_after_ms": "3600000"}


@dataclass(frozen=True)
class Plan:
    """So many registers and operators, and how long each case is measured."""

    registers: int
    operators: int
    seconds: float
    accounts: int = _ACCOUNTS
    begin_s: float = _OPERATORS_BEGIN_S


def measured(site: Installation, token: str, plan: Plan, case: str, folder: Path) -> dict[str, Any]:
    """Run one case and return its figures. Raises Trouble or Mismatch when they would be of nothing."""
    with _admin_process(site, running=case != "without"), _operators(site, token, plan, case, folder) as reported:
        load = Load(plan.registers, plan.seconds, warm_up_s=_WARM_UP_S)
        outcome = run(Target(site.population), load, observe=site.processors)
    confirm(site.postgres_url, outcome)
    p50, p99, p999 = outcome.percentiles_ms(0.5, 0.99, 0.999)
    rows = json.loads(reported.read_text()) if reported.exists() else []
    elapsed_s = max((row["last_request_timestamp"] for row in rows), default=0) - min(
        (row["start_time"] for row in rows), default=0
    )
    return {
        "case": case,
        "redeems_per_s": round(outcome.approved_per_s),
        "p50_ms": p50,
        "p99_ms": p99,
        "p999_ms": p999,
        "errors": sum(outcome.errors.values()),
        "operators_per_s": round(sum(row["num_requests"] for row in rows) / elapsed_s, 1) if rows else 0.0,
        "operators_failed": sum(row["num_failures"] for row in rows),
        "server_cores": round(outcome.observed["server"] / outcome.seconds, 2),
        "postgresql_us": round(1e6 * outcome.observed["postgresql"] / (outcome.approved_per_s * outcome.seconds), 1),
    }


@contextmanager
def _admin_process(site: Installation, *, running: bool) -> Iterator[None]:
    """Let the admin process stand still unless it is to be running. Raises ValueError when there is none."""
    pids = [] if running else [pid for pid in descendants(site.server_pid) if _ADMIN in _command_line(pid)]
    if not running and not pids:
        raise ValueError("there is no admin process that could stand still")
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def _command_line(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


@contextmanager
def _operators(site: Installation, token: str, plan: Plan, case: str, folder: Path) -> Iterator[Path]:
    """Have operators at work; yield the file in which their figures are afterwards."""
    output = folder / f"operators-{time.monotonic_ns()}"
    reported = output.with_suffix(".json")
    if case in ("without", "alone"):
        yield reported
        return
    seconds = plan.begin_s + _WARM_UP_S + plan.seconds + 1
    told = {
        **play.environment(site, token),
        "TILLWIRE_REGISTERS": str(plan.operators),
        "TILLWIRE_SECONDS": str(round(seconds)),
        "TILLWIRE_TIRELESS": "1" if case == "tireless" else "0",
    }
    command = [sys.executable, "-m", "locust", "-f", _LOCUSTFILE, "--headless", "--json-file", str(output)]
    with output.with_suffix(".log").open("wb") as log:
        locust = subprocess.Popen(command, cwd=CHECKOUT, env=told, stdout=log, stderr=log)
    try:
        time.sleep(plan.begin_s)
        yield reported
        locust.wait(_LOCUST_END_S)
    finally:
        locust.kill()
        locust.wait()


def compare(folder: Path, plan: Plan, rounds: int) -> list[dict[str, Any]]:
    """Return the figures of every case of every round."""
    with Installation(folder, settings=_SETTINGS) as site:
        site.start_engines()
        site.populate(plan.accounts, max(plan.registers, plan.operators))
        site.start_server()
        token = site.add_token("operators beside registers", play.PERMISSIONS)
        return [measured(site, token, plan, case, folder) for _ in range(rounds) for case in CASES]


def medians(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one row a case."""
    found = []
    for case in CASES:
        own = [row for row in rows if row["case"] == case]
        names = [name for name in own[0] if name != "case"]
        found.append({"case": case, **{name: median(row[name] for row in own) for name in names}})
    return found


def _show(rows: Sequence[dict[str, Any]], load_before: float) -> None:
    table = Table(*(name.replace("_", " ") for name in rows[0]), title=f"load before: {load_before}")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    Console().print(table)


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(description="Registers with and without operators beside them.")
    parser.add_argument("--registers", type=int, default=64)
    parser.add_argument("--operators", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each case in each round")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    # What others do on this machine is in the figures too.
    load_before = round(os.getloadavg()[0], 2)
    with tempfile.TemporaryDirectory(prefix="tillwire-beside-", ignore_cleanup_errors=True) as folder:
        plan = Plan(options.registers, options.operators, options.seconds)
        rows = compare(Path(folder), plan, options.rounds)
    _show(medians(rows), load_before)
    print(json.dumps({"load_before": load_before, "rows": rows}))  # noqa: T201


if __name__ == "__main__":
    main()
