"""One installation of the product to put load on: started, filled, restarted and stopped through its command line.

Like every user of the command line it knows nothing of what is inside.
"""

from __future__ import annotations

import atexit
import http.client
import json
import os
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from loadtests.certificate import make_certificate
from loadtests.population import Population
from loadtests.process import InstallationError, Process
from loadtests.processor_time import processor_s
from protocol.blocking import BlockingClient

__all__ = ["Installation", "InstallationError", "Population"]

CHECKOUT = Path(__file__).parents[1]
_LOOPBACK = "127.0.0.1"
_PREFIX = "TILLWIRE_"
_READY_S = 120.0
_HTTP_S = 10.0
_VERIFY_S = 3_600.0
_POLL_S = 0.01
_OK = 200
_SIGN_ON_MS = 1_000


class Installation:
    """Engines and server of one product installation in one folder, driven from the command line alone.

    `settings` are the server's, by name, for every start. All ports are free ones of loopback. What was started ends
    with `stop`, with the `with` block, or with this process if it is not killed. Everything raises InstallationError.
    """

    def __init__(self, folder: Path, *, settings: Mapping[str, str] | None = None) -> None:
        self.folder = folder.absolute()
        self.folder.mkdir(parents=True, exist_ok=True)
        # Started by root, PostgreSQL runs as a user who must be able to pass through.
        self.folder.chmod(0o711)
        self.host = _LOOPBACK
        self.port, self.admin_port = _free_ports(2)
        self.postgres_url = ""
        self.redis_url = ""
        self.mqtt_url: str | None = None
        self.postgres_bin: Path | None = None
        self.tls_ca = self.folder / "certificate.pem"
        self._settings = dict(settings or {})
        self._population: Population | None = None
        self._engines: Process | None = None
        self._server: Process | None = None
        self._relays: list[Process] = []
        self._pids: dict[str, int] = {}
        atexit.register(self.stop)

    def __enter__(self) -> Self:
        """Return itself; nothing is started yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def population(self) -> Population:
        """What `populate` made."""
        if self._population is None:
            raise InstallationError("there is no population yet")
        return self._population

    @property
    def server_pid(self) -> int:
        """Pid of the server's first process; its workers live under it."""
        if self._server is None:
            raise InstallationError("the server is not running")
        return self._server.pid

    def start_engines(self) -> None:
        """Start PostgreSQL, Valkey and the broker, migrated; make the installation's keys if there are none."""
        if not (self.folder / "data" / "secrets.toml").exists():
            self._run("secrets", "create")
        self._engines = self._begin("engines", "--json")
        found = json.loads(self._engines.json_line(_READY_S))
        self.postgres_url, self.redis_url, self.mqtt_url = found["postgres_url"], found["redis_url"], found["mqtt_url"]
        self.postgres_bin = Path(found["postgres_bin"]) if found["postgres_bin"] else None
        self._pids = {
            "valkey": found["valkey_pid"], "postgresql": found["postgres_pid"], "broker": found["broker_pid"],
        }  # fmt: skip

    def populate(
        self,
        accounts: int,
        terminals: int,
        *,
        lots: int = 6,
        journal_rows: int = 0,
        relays: int = 0,
        relay_terminals: int = 1,
    ) -> None:
        """Fill the empty programme; see `tillwire add population --help`."""
        output = self.folder / "population.json"
        options = {
            "accounts": accounts, "terminals": terminals, "lots": lots, "journal-rows": journal_rows,
            "relays": relays, "relay-terminals": relay_terminals,
        }  # fmt: skip
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        self._run("add", "population", *words, "--output", str(output))
        self._population = Population.read(output)

    def add_token(self, name: str, permissions: Sequence[str]) -> str:
        """Return a new token for the admin API that permits so much."""
        process = self._begin("admin", "add-token", name, "--permissions", ",".join(permissions), "--json")
        try:
            told = json.loads(process.json_line(_READY_S))
            process.expect_success()
        finally:
            process.kill()
        return str(told["token"])

    def verify(self) -> dict[str, Any]:
        """Return what `tillwire verify` says of the books; the server need not run."""
        process = self._begin("verify", "--json")
        try:
            found: dict[str, Any] = json.loads(process.json_line(_VERIFY_S))
        finally:
            process.kill()
        return found

    def start_server(self, *, tls: bool = False, **settings: str) -> None:
        """Start the server and return when it accepts registers and calls itself ready.

        `settings` go beside those of the constructor and win over them. With `tls` registers must speak TLS, and
        `tls_ca` is what they trust.
        """
        if self._server is not None:
            raise InstallationError("the server is running already")
        if tls:
            key = self.folder / "certificate.key"
            make_certificate(self.tls_ca, key)
            settings = {"tls_cert_file": str(self.tls_ca), "tls_key_file": str(key), **settings}
        urls = {"postgres_url": self.postgres_url, "redis_url": self.redis_url, "mqtt_url": self.mqtt_url or ""}
        values = {name: url for name, url in urls.items() if url} | self._settings | settings
        self._server = server = self._begin("serve", settings=values)
        deadline = time.monotonic() + _READY_S
        while not (self._accepts() and self._get("/health/ready")[0] == _OK):
            server.expect_alive()
            if time.monotonic() > deadline:
                raise InstallationError(f"the server was not ready within {_READY_S:.0f} s{server.last_lines()}")
            time.sleep(_POLL_S)

    def stop_server(self) -> None:
        """Let the server drain and end. Harmless when it does not run."""
        if self._server is not None:
            server, self._server = self._server, None
            server.stop()

    def kill_server(self) -> None:
        """Kill all processes of the server at once."""
        if self._server is not None:
            server, self._server = self._server, None
            server.kill()

    def start_relay(self, number: int = 0, **settings: str) -> Population:
        """Start a relay of the population; return it as registers behind that relay see it, once they can sign on.

        `settings` are the relay's, without their common `relay_`.
        """
        (port,) = _free_ports(1)
        values = {
            "credential": self.population.relays[number],
            "mqtt_url": self.mqtt_url or "",
            "data_dir": str(self.folder / f"relay-{number}"),
            "listen_host": self.host,
            "listen_port": str(port),
            "log_level": "warning",
            **settings,
        }
        given = {f"relay_{name}": value for name, value in values.items()}
        relay = self._begin("relay", "run", settings=given, log=f"relay-{number}")
        self._relays.append(relay)
        behind = self.population.behind(number, self.host, port)
        _until_signed_on(behind, relay)
        return behind

    def stop_relays(self) -> None:
        """Let the relays drain and end. Harmless when there are none."""
        while self._relays:
            self._relays.pop().stop()

    def stop(self) -> None:
        """Stop everything that runs. Harmless when nothing does."""
        atexit.unregister(self.stop)
        try:
            self.stop_relays()
            self.stop_server()
        finally:
            if self._engines is not None:
                engines, self._engines = self._engines, None
                engines.stop()

    def processors(self) -> dict[str, float]:
        """Return the processor seconds that each part has used since it was started, under its name."""
        pids = {"server": self.server_pid, **self._pids} if self._server is not None else self._pids
        used = {name: processor_s(pid) for name, pid in pids.items()}
        return used | ({"relays": sum(processor_s(relay.pid) for relay in self._relays)} if self._relays else {})

    def metrics(self) -> dict[str, float]:
        """Return what /metrics says now, by name and labels as they stand there."""
        status, text = self._get("/metrics")
        if status != _OK:
            raise InstallationError(f"/metrics answers {status}")
        lines = [line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#")]
        return {name: float(value) for name, _, value in lines}

    def _begin(self, *words: str, settings: Mapping[str, str] | None = None, log: str = "") -> Process:
        """Start a command with settings beside those that make it one of this installation."""
        command = [sys.executable, "-m", "server.cli", *words]
        # A person who waits for a population sees its progress bar.
        shown = sys.stderr if sys.stderr.isatty() and words[0] == "add" else None
        file = self.folder / f"{log or words[0]}.log"
        return Process(f"tillwire {words[0]}", command, self._environment(settings or {}), file, stderr=shown)

    def _run(self, *words: str) -> None:
        """Run a command that ends by itself."""
        process = self._begin(*words)
        try:
            process.expect_success()
        finally:
            process.kill()

    def _environment(self, settings: Mapping[str, str]) -> dict[str, str]:
        # What a developer's shell has set must not reach what is measured.
        kept = {name: value for name, value in os.environ.items() if not name.startswith((_PREFIX, "PYTHON"))}
        values = {
            "data_dir": str(self.folder / "data"),
            "listen_host": self.host,
            "listen_port": str(self.port),
            "admin_port": str(self.admin_port),
            "log_level": "warning",
            **dict.fromkeys(("embedded_postgres_port", "embedded_valkey_port", "embedded_broker_port"), "0"),
            **settings,
        }
        given = {_PREFIX + name.upper(): value for name, value in values.items()}
        return {**kept, **given, "PYTHONPATH": str(CHECKOUT)}

    def _accepts(self) -> bool:
        with suppress(OSError), socket.create_connection((self.host, self.port), timeout=_HTTP_S):
            return True
        return False

    def _get(self, path: str) -> tuple[int, str]:
        """Ask the admin port; return status and text, 0 when nobody answers."""
        connection = http.client.HTTPConnection(self.host, self.admin_port, timeout=_HTTP_S)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except (OSError, http.client.HTTPException):
            return 0, ""
        finally:
            connection.close()


def _until_signed_on(population: Population, relay: Process) -> None:
    """Return when a register could sign on: a relay knows of its registers when headquarters has told it."""
    deadline = time.monotonic() + _READY_S
    with BlockingClient(population.host, population.port, population.terminal(0), population.secret) as register:
        while register.connect(_SIGN_ON_MS) is None:
            relay.expect_alive()
            if time.monotonic() > deadline:
                raise InstallationError(f"nobody can sign on at the relay{relay.last_lines()}")


def _free_ports(count: int) -> list[int]:
    """Return different ports of loopback that were free a moment ago."""
    probes = [socket.create_server((_LOOPBACK, 0)) for _ in range(count)]
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports
