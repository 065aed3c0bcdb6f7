"""Who reads the HTTP layer: a monitor that asks for health, a Prometheus that fetches the metrics."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import urlsplit

from locust import User, constant_pacing

from loadtests.users import rows
from loadtests.users.options import Options
from loadtests.users.rows import Rows

_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One thing to ask. `good` says of a body whether it is what it should be."""

    path: str
    good: Callable[[bytes], bool]
    method: str = "GET"
    status: int = 200

    @property
    def name(self) -> str:
        """Its row."""
        return f"{self.method} {self.path}"


def _says(field: str) -> Callable[[bytes], bool]:
    def good(body: bytes) -> bool:
        told: Any = json.loads(body)
        return isinstance(told, dict) and told.get(field) is True

    return good


#: What the HTTP layer serves. A further endpoint is a further line.
ENDPOINTS = (
    Endpoint("/health/live", _says("live")),
    Endpoint("/health/ready", _says("ready")),
    Endpoint("/metrics", lambda body: b"tillwire_" in body),
)


class AdminReader(User):
    """Asks for each of its endpoints in turn, over one connection that is kept open."""

    abstract = True
    endpoints: ClassVar[tuple[Endpoint, ...]] = ENDPOINTS
    wait_time = constant_pacing(5)

    def on_start(self) -> None:
        """Prepare the connection; it is opened by the first request."""
        address = urlsplit(Options.of(self.environment).admin_url)
        kind = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
        self.connection = kind(address.hostname or "", address.port, timeout=_TIMEOUT_S)
        self.report = Rows(self.environment.events.request.fire, rows.HTTP)

    def on_stop(self) -> None:
        """Close the connection."""
        if hasattr(self, "connection"):
            self.connection.close()

    def read_all(self) -> None:
        """Ask for everything once."""
        for endpoint in self.endpoints:
            self.read(endpoint)

    def read(self, endpoint: Endpoint) -> None:
        """Ask and report: a failure is another status, another body than expected, or no answer."""
        began_s = time.perf_counter()
        try:
            self.connection.request(endpoint.method, endpoint.path)
            answer = self.connection.getresponse()
            body = answer.read()
            word = _fault(endpoint, answer.status, body)
        except (OSError, http.client.HTTPException) as error:
            self.connection.close()
            body, word = b"", type(error).__name__
        if word:
            self.report.failed(endpoint.name, word)
        else:
            self.report.good(endpoint.name, time.perf_counter() - began_s, len(body))

    tasks = [read_all]  # noqa: RUF012 (locust's own way)


def _fault(endpoint: Endpoint, status: int, body: bytes) -> str:
    if status != endpoint.status:
        return f"Status{status}"
    try:
        return "" if endpoint.good(body) else "UnexpectedBody"
    except ValueError:
        return "UnexpectedBody"
