"""One installation of the product to put load on: started, filled, restarted and stopped through its command line.

Like every user of the command line it knows nothing of what is inside.
"""

from __future__ import annotations

import atexit
import datetime as dt
import http.client
import ipaddress
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from loadtests.processor_time import descendants, is_running, processor_s
from protocol import tokens
from protocol.codes import CardKind
from protocol.requests import Card

CHECKOUT = Path(__file__).parents[1]
_LOOPBACK = "127.0.0.1"
_PREFIX = "TILLWIRE_"
_READY_S = 120.0
_STOP_S = 60.0
_HTTP_S = 10.0
_POLL_S = 0.01
_LAST_LINES = 8
_CERTIFICATE_DAYS = 30
_OK = 200


class InstallationError(RuntimeError):
    """A part of the installation did not do what it was told; the text ends with the last lines of its log."""


@dataclass(frozen=True, slots=True)
class Population:
    """What `tillwire add population` made: `accounts` cards and `terminals` terminals with one secret."""

    host: str
    port: int
    terminals: int
    terminal_prefix: str
    secret: str = field(repr=False)
    accounts: int
    first_card: int
    currency: str
    lots: int

    @classmethod
    def read(cls, file: Path) -> Self:
        """Return what is written in the command's output file."""
        return cls(**json.loads(file.read_text(encoding="utf-8")))

    def terminal(self, number: int) -> str:
        """Return the id of a terminal from 0 on. Raises IndexError."""
        if not 0 <= number < self.terminals:
            raise IndexError(f"there are {self.terminals} terminals, not {number + 1}")
        return f"{self.terminal_prefix}{number}"

    def card(self, number: int) -> Card:
        """Return the card of an account from 0 on. Raises IndexError."""
        if not 0 <= number < self.accounts:
            raise IndexError(f"there are {self.accounts} accounts, not {number + 1}")
        first12 = f"2{self.first_card + number:011d}"
        return Card(CardKind.EAN13, first12 + tokens.ean13_check_digit(first12))


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
        self._engines: _Process | None = None
        self._server: _Process | None = None
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
        # Nothing of what the server is told about engines: they are to be started.
        engines = _Process(self._command("engines", "--json"), self._environment({}), self.folder / "engines.log")
        self._engines = engines
        found = json.loads(engines.first_line(_READY_S))
        self.postgres_url, self.redis_url, self.mqtt_url = found["postgres_url"], found["redis_url"], found["mqtt_url"]
        self.postgres_bin = Path(found["postgres_bin"]) if found["postgres_bin"] else None
        self._pids = {"valkey": found["valkey_pid"], "postgresql": found["postgres_pid"]}

    def populate(self, accounts: int, terminals: int, *, lots: int = 6, journal_rows: int = 0) -> None:
        """Fill the empty programme; see `tillwire add population --help`."""
        output = self.folder / "population.json"
        options = {"accounts": accounts, "terminals": terminals, "lots": lots, "journal-rows": journal_rows}
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        self._run("add", "population", *words, "--output", str(output))
        self._population = Population.read(output)

    def start_server(self, *, tls: bool = False, **settings: str) -> None:
        """Start the server and return when it accepts registers and calls itself ready.

        `settings` go beside those of the constructor and win over them. With `tls` registers must speak TLS, and
        `tls_ca` is what they trust.
        """
        if self._server is not None:
            raise InstallationError("the server is running already")
        if tls:
            key = self.folder / "certificate.key"
            _make_certificate(self.tls_ca, key)
            settings = {"tls_cert_file": str(self.tls_ca), "tls_key_file": str(key), **settings}
        urls = {"postgres_url": self.postgres_url, "redis_url": self.redis_url, "mqtt_url": self.mqtt_url or ""}
        values = {name: url for name, url in urls.items() if url} | self._settings | settings
        server = _Process(self._command("serve"), self._environment(values), self.folder / "server.log")
        self._server = server
        deadline = time.monotonic() + _READY_S
        while not (self._accepts() and self._get("/health/ready")[0] == _OK):
            server.expect_alive()
            if time.monotonic() > deadline:
                raise InstallationError(f"the server was not ready within {_READY_S:.0f} s: {server.last_lines()}")
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

    def stop(self) -> None:
        """Stop everything that runs. Harmless when nothing does."""
        atexit.unregister(self.stop)
        try:
            self.stop_server()
        finally:
            if self._engines is not None:
                engines, self._engines = self._engines, None
                engines.stop()

    def processors(self) -> dict[str, float]:
        """Return the processor seconds that each part has used since it was started, under its name."""
        pids = {"server": self.server_pid, **self._pids} if self._server is not None else self._pids
        return {name: processor_s(pid) for name, pid in pids.items()}

    def metrics(self) -> dict[str, float]:
        """Return what /metrics says now, by name and labels as they stand there."""
        status, text = self._get("/metrics")
        if status != _OK:
            raise InstallationError(f"/metrics answers {status}")
        lines = [line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#")]
        return {name: float(value) for name, _, value in lines}

    def _run(self, *words: str) -> None:
        """Run a command that ends by itself."""
        log = self.folder / "commands.log"
        shown = sys.stderr if sys.stderr.isatty() else None
        process = _Process(self._command(*words), self._environment({}), log, stderr=shown)
        try:
            process.expect_success()
        finally:
            process.kill()

    def _command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "server.cli", "--log-level", "warning", *words]

    def _environment(self, settings: Mapping[str, str]) -> dict[str, str]:
        # What a developer's shell has set must not reach what is measured.
        kept = {name: value for name, value in os.environ.items() if not name.startswith((_PREFIX, "PYTHON"))}
        values = {
            "data_dir": str(self.folder / "data"),
            "listen_host": self.host,
            "listen_port": str(self.port),
            "admin_port": str(self.admin_port),
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


class _Process:
    """A command of the product at work, with its log."""

    def __init__(
        self, command: list[str], environment: dict[str, str], log: Path, *, stderr: IO[Any] | None = None
    ) -> None:
        self._log = log
        self._name = " ".join(command[5:7])
        with log.open("ab") as appended:
            self._log_start = appended.tell()
            # A session of its own: Ctrl-C reaches this process alone, which then stops everything in order.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=appended,
                stderr=appended if stderr is None else stderr,
                cwd=CHECKOUT,
                env=environment,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def first_line(self, timeout_s: float) -> str:
        """Return the first line of JSON that it printed."""
        deadline = time.monotonic() + timeout_s
        while True:
            for line in self._text().splitlines(keepends=True):
                if line.startswith("{") and line.endswith("\n"):
                    return line
            self.expect_alive()
            if time.monotonic() > deadline:
                raise InstallationError(f"{self._name} was not ready within {timeout_s:.0f} s: {self.last_lines()}")
            time.sleep(_POLL_S)

    def expect_alive(self) -> None:
        code = self._process.poll()
        if code is not None:
            raise InstallationError(f"{self._name} ended with {code}: {self.last_lines()}")

    def expect_success(self) -> None:
        code = self._process.wait()
        if code:
            raise InstallationError(f"{self._name} ended with {code}: {self.last_lines()}")

    def stop(self) -> None:
        """Ask it to end; kill it, and tell, when it does not."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise InstallationError(f"{self._name} did not end within {_STOP_S:.0f} s: {self.last_lines()}") from None

    def kill(self) -> None:
        """Kill it and all under it. Harmless when it has ended."""
        if self._process.poll() is not None:
            return
        tree = [self.pid, *descendants(self.pid)]
        for pid in tree:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        while any(is_running(pid) for pid in tree):
            time.sleep(_POLL_S)

    def last_lines(self) -> str:
        return "\n".join(self._text().splitlines()[-_LAST_LINES:]) or "it logged nothing"

    def _text(self) -> str:
        with self._log.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")


def _free_ports(count: int) -> list[int]:
    """Return different ports of loopback that were free a moment ago."""
    probes = [socket.create_server((_LOOPBACK, 0)) for _ in range(count)]
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def _make_certificate(certificate_file: Path, key_file: Path) -> None:
    """Write a self-signed certificate for loopback and its key, unless they are there."""
    if certificate_file.exists():
        return
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Tillwire load test")])
    now = dt.datetime.now(dt.UTC)
    hosts = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address(_LOOPBACK))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=_CERTIFICATE_DAYS))
        .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    key_text = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    with os.fdopen(os.open(key_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as opened:
        opened.write(key_text)
    certificate_file.write_bytes(certificate.public_bytes(pem))
