"""Every load profile, for some seconds, against a real installation: the right rows, and no failures but the wanted.

Locust runs in processes of its own, as it changes the sockets and threads of the process that imports it. All profiles
run side by side, each with terminals of its own, because most of a test with locust is waiting.
"""

import json
import re
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from loadtests import play
from loadtests.installation import CHECKOUT, Installation

LOCUST_S = 90
HEARD_BEFORE_THE_KILL = 20
TERMINALS_EACH = 50
#: Registers and seconds of each profile here.
SMALL = {
    "broker_echo": (10, 5),
    "card_enumeration": (10, 6),
    "fleet_reconnect": (12, 8),
    "full_speed": (3, 3),
    "opening_minute": (30, 8),
    "quiet_day": (20, 5),
    "saturday_noon": (45, 7),
    "stores": (8, 6),
}
OPERATIONS = {
    "BALANCE", "CAPTURE", "CONNECT", "EARN", "HOLD", "REDEEM", "REFUND", "RELEASE", "REVERSE", "SALE", "STATUS",
    # The accounts of the test are few, so that some are spent.
    "HOLD declined INSUFFICIENT", "REDEEM declined INSUFFICIENT", "SALE declined INSUFFICIENT",
}  # fmt: skip
MONITOR = {"GET /health/live", "GET /health/ready", "GET /metrics"}
DESK = {
    "POST /v1/cards/find", "GET /v1/accounts/{account_id}", "GET /v1/accounts/{account_id}/entries",
    "GET /v1/requests/{request_id}", "POST /v1/accounts/{account_id}/adjustments",
    "POST /v1/accounts/{account_id}/adjustments repeated",
}  # fmt: skip
DASHBOARD = {"GET /v1/figures/now", "GET /v1/operations/live", "GET /v1/figures"}
SIGNED_IN = {"POST /v1/cards/find", "POST /v1/members", "POST /v1/member-tokens"}
APP = {*SIGNED_IN, "POST /v1/members conflict", "GET /v1/me", "GET /v1/me/balance", "GET /v1/me/entries"}
#: Whom a profile is sure to have shown in some seconds, and whom it may have.
OPERATORS = {
    "opening_minute": (DASHBOARD | {"POST /v1/cards/find"}, DESK | DASHBOARD),
    "quiet_day": (MONITOR | DASHBOARD | {"POST /v1/cards/find"}, MONITOR | DESK | DASHBOARD | APP),
    "saturday_noon": (MONITOR | DASHBOARD | SIGNED_IN | {"GET /v1/me/balance"}, MONITOR | DESK | DASHBOARD | APP),
}


@dataclass
class Run:
    """One run of locust."""

    name: str
    registers: int
    folder: Path
    process: subprocess.Popen[bytes]

    def wait(self) -> "Run":
        self.process.wait(LOCUST_S)
        return self

    @property
    def log(self) -> str:
        return (self.folder / f"{self.name}.log").read_text()

    @property
    def report(self) -> dict[str, Any]:
        """What the HTML report shows."""
        html = (self.folder / f"{self.name}.html").read_text()
        shown = re.search(r"window\.templateArgs = (\{.*?\})\s*(?:;|window|</script>)", html, re.DOTALL)
        assert shown is not None
        return dict(json.loads(shown[1]))

    @property
    def statistics(self) -> list[dict[str, Any]]:
        """The rows of `--json-file`."""
        return list(json.loads((self.folder / f"{self.name}.json").read_text()))

    @property
    def counts(self) -> dict[tuple[str, str], tuple[int, int]]:
        """Requests and failures of each row, by type and name."""
        return {(row["method"], row["name"]): (row["num_requests"], row["num_failures"]) for row in self.statistics}

    @property
    def failures(self) -> dict[tuple[str, str], int]:
        """How often each error came, by name and error."""
        return {(row["name"], row["error"]): row["occurrences"] for row in self.report["failures_statistics"]}

    def names(self, request_type: str) -> set[str]:
        return {name for kind, name in self.counts if kind == request_type}


def start(site: Installation, profile: str, first_terminal: int, *options: str, name: str = "", **told: object) -> Run:
    registers, seconds = SMALL[profile]
    folder, name = site.folder / "locust", name or profile
    folder.mkdir(exist_ok=True)
    told = {"first_terminal": first_terminal, "registers": registers, "seconds": seconds, **told}
    environment = {**play.environment(site), **{f"TILLWIRE_{key.upper()}": str(value) for key, value in told.items()}}
    output = folder / name
    reports = ("--headless", "--only-summary", "--html", f"{output}.html", "--json-file", str(output))
    command = play.command(profile, [*reports, *options])
    with output.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen(command, cwd=CHECKOUT, env=environment, stdout=log, stderr=log)
    return Run(name, registers, folder, process)


@pytest.fixture(scope="module")
def site(engines_folder: Path) -> Iterator[Installation]:
    with Installation(engines_folder / "locust") as site:
        site.start_engines()
        terminals = TERMINALS_EACH * len(SMALL)
        site.populate(accounts=500, terminals=terminals, lots=2, relays=SMALL["stores"][0])
        site.start_server()
        yield site


@pytest.fixture(scope="module")
def runs(site: Installation) -> Iterator[dict[str, Run]]:
    """All profiles, run to their end, and one of them by two workers and a master."""
    admin_token = site.add_token("locust", play.PERMISSIONS)
    with ExitStack() as stack:
        found = {}
        for position, profile in enumerate(SMALL):
            found[profile] = start(site, profile, position * TERMINALS_EACH, admin_token=admin_token)
            stack.callback(found[profile].process.kill)
        for run in found.values():
            run.wait()
        # Afterwards: a worker without processor time for three seconds is given up by its master.
        port = str(free_port())
        distributed = ("--processes", "2", "--master-bind-host", "127.0.0.1", "--master-bind-port", port)
        found["distributed"] = start(site, "full_speed", 0, *distributed, "--master-port", port, name="distributed")
        stack.callback(found["distributed"].process.kill)
        found["distributed"].wait()
        yield found


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def test_every_profile_is_run_here() -> None:
    assert set(play.names()) == set(SMALL)
    assert {file.stem for file in play.PROFILES.glob("*.py")} == {*SMALL, "__init__"}


@pytest.mark.parametrize("profile", [*sorted(set(SMALL) - {"fleet_reconnect"}), "distributed"])
def test_no_failures_and_a_report(runs: dict[str, Run], profile: str) -> None:
    run = runs[profile]
    assert (run.process.returncode, run.failures) == (0, {}), run.log
    assert "Traceback" not in run.log
    reported = {(row["method"], row["name"]): row["num_requests"] for row in run.report["requests_statistics"]}
    assert reported.pop(("", "Aggregated")) == sum(requests for requests, _ in run.counts.values())
    assert reported == {row: requests for row, (requests, _) in run.counts.items()}


def test_saturday_noon_has_the_whole_mix(runs: dict[str, Run]) -> None:
    run = runs["saturday_noon"]
    assert {"CONNECT", "BALANCE", "SALE", "HOLD", "CAPTURE"} <= run.names("tillwire") <= OPERATIONS
    assert run.counts["tillwire", "CONNECT"] == (45, 0)


def test_a_quiet_day_has_registers_and_a_monitor(runs: dict[str, Run]) -> None:
    run = runs["quiet_day"]
    assert {"CONNECT", "BALANCE"} <= run.names("tillwire") <= OPERATIONS


@pytest.mark.parametrize("profile", sorted(SMALL))
def test_operators_and_members_are_beside_the_registers_of_some_profiles(runs: dict[str, Run], profile: str) -> None:
    surely, at_most = OPERATORS.get(profile, (set(), set()))
    assert surely <= runs[profile].names("http") <= at_most, runs[profile].log


def test_an_adjustment_asked_for_twice_is_answered_twice_alike(runs: dict[str, Run]) -> None:
    """OtherAnswer would be among the failures, of which there are none."""
    route = "POST /v1/accounts/{account_id}/adjustments"
    for run in runs.values():
        once, twice = (run.counts.get(("http", name), (0, 0)) for name in (route, f"{route} repeated"))
        # The test may have ended between the two, at each of the desks.
        assert once[0] - 3 <= twice[0] <= once[0]


def test_in_the_opening_minute_every_register_signs_on_once_and_asks(runs: dict[str, Run]) -> None:
    run = runs["opening_minute"]
    assert run.counts["tillwire", "CONNECT"] == (run.registers, 0), run.log
    assert run.counts["tillwire", "BALANCE"][0] >= run.registers
    assert run.names("tillwire") <= OPERATIONS


def test_two_workers_share_the_registers(runs: dict[str, Run]) -> None:
    run = runs["distributed"]
    assert "2 workers connected" in run.log
    assert run.counts["tillwire", "CONNECT"] == (run.registers, 0), run.log
    assert {"CONNECT", "REDEEM"} <= run.names("tillwire") <= OPERATIONS


def test_the_thief_is_told_apart_from_honest_registers(runs: dict[str, Run]) -> None:
    run = runs["card_enumeration"]
    stolen = {name for name in run.names("tillwire") if name.endswith(" (stolen)")}
    assert stolen == {
        "BALANCE (stolen)", "BALANCE declined BAD_CARD (stolen)", "BALANCE declined UNKNOWN_CARD (stolen)",
        "CONNECT (stolen)",
    }  # fmt: skip
    honest = run.names("tillwire") - stolen
    during = {name for name in honest if name.endswith(" during the theft")}
    assert {"BALANCE", "CONNECT"} <= honest - during <= OPERATIONS
    assert {"BALANCE during the theft"} <= during
    assert {name.removesuffix(" during the theft") for name in during} <= OPERATIONS


def test_a_fleet_that_falls_comes_back_and_leaves_no_doubt(runs: dict[str, Run]) -> None:
    run = runs["fleet_reconnect"]
    names = run.names("tillwire")
    assert {"CONNECT", "CONNECT again", "SALE", "SALE repeated", "REVERSE"} <= names
    assert names <= {*OPERATIONS, "CONNECT again", "SALE repeated"}
    assert set(run.failures) == {("SALE", "ConnectionLost")}, run.log
    # Each sale that went down was sent again by its register, or reversed if that had lost its memory.
    lost = run.failures["SALE", "ConnectionLost"]
    assert lost == run.counts["tillwire", "SALE repeated"][0] + run.counts["tillwire", "REVERSE"][0]
    assert lost == run.counts["tillwire", "SALE"][1]
    assert run.process.returncode == 1
    # What had no answer has no time, or the percentiles would be of something else than answers.
    sale = next(row for row in run.statistics if row["name"] == "SALE")
    assert sum(sale["response_times"].values()) == sale["num_requests"] - lost


def test_the_broker_alone_is_called_so(runs: dict[str, Run]) -> None:
    run = runs["broker_echo"]
    assert run.names("mqtt") == {"CONNECT", "broker echo"}
    assert run.names("tillwire") == set()
    assert run.counts["mqtt", "broker echo"][0] >= run.registers


def test_stores_ask_over_the_broker_with_their_relays_credentials(runs: dict[str, Run]) -> None:
    run = runs["stores"]
    declined = {"REDEEM declined INSUFFICIENT", "SALE declined INSUFFICIENT"}
    asked = {"BALANCE", "SALE", "REDEEM", "EARN advice"}
    assert {"CONNECT", "SESSION", *asked} <= run.names("mqtt") <= {"CONNECT", "SESSION", *asked, *declined}
    assert run.names("tillwire") == set()
    assert run.counts["mqtt", "SESSION"] == (run.registers, 0)
    assert run.failures == {}, run.log
    assert run.process.returncode == 0


def test_full_speed_does_one_thing(runs: dict[str, Run]) -> None:
    assert {"CONNECT", "REDEEM"} <= runs["full_speed"].names("tillwire") <= OPERATIONS


def test_without_a_population_one_sentence_says_so(site: Installation) -> None:
    run = start(site, "quiet_day", 0, name="nobody", population="/nowhere/population.json").wait()
    assert run.process.returncode == 2
    assert "no population: " in run.log
    assert "Traceback" not in run.log


def test_a_server_that_is_killed_midway_is_counted_as_failures(site: Installation, runs: dict[str, Run]) -> None:
    """Over TLS, so that this way is gone as well."""
    assert runs
    site.stop_server()
    site.start_server(tls=True)
    # Without a token, so without operators.
    run = start(site, "saturday_noon", 0, "--stop-timeout", "1", name="killed", tls_ca=site.tls_ca, seconds=5)
    try:
        while run.process.poll() is None and answered(site) < HEARD_BEFORE_THE_KILL:
            time.sleep(0.05)
        site.kill_server()
        run.wait()
    finally:
        run.process.kill()
    failures = run.failures
    assert run.process.returncode == 1
    assert failures["CONNECT again", "NotReached"] > 0, run.log
    assert run.names("http") <= MONITOR
    assert {name for name, _ in failures} - MONITOR <= {*OPERATIONS, "CONNECT again"}
    assert {error for name, error in failures if name not in MONITOR} <= {
        "ConnectionLost",
        "NotReached",
        "HandshakeFailed",
    }
    by_name: Counter[str] = Counter()
    for (name, _), count in failures.items():
        by_name[name] += count
    assert by_name == {name: failed for (_, name), (_, failed) in run.counts.items() if failed}
    assert sum(requests - failed for requests, failed in run.counts.values()) >= HEARD_BEFORE_THE_KILL


def answered(site: Installation) -> float:
    return sum(value for name, value in site.metrics().items() if name.startswith("tillwire_answers_total"))
