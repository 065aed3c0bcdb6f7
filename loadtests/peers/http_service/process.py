"""The service as processes of its own."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from loadtests.peers.http_service.service import POOL_VARIABLE, URL_VARIABLE
from loadtests.processor_time import processor_s

_HOST = "127.0.0.1"
_CHECKOUT = Path(__file__).parents[3]
_READY_S = 30.0
_STOP_S = 15.0
_POLL_S = 0.05
_OK = 200


class ServiceError(Exception):
    """The service did not start; the text is what it logged last."""


class HttpService:
    """uvicorn with so many processes and so many database connections in each; runs within its `with` block."""

    def __init__(self, postgres_url: str, folder: Path, *, processes: int, pool: int) -> None:
        self.host = _HOST
        with socket.create_server((_HOST, 0)) as probe:
            self.port: int = probe.getsockname()[1]
        self._log = folder / "http_service.log"
        self._environment = {
            **os.environ,
            URL_VARIABLE: postgres_url,
            POOL_VARIABLE: str(pool),
            "PYTHONPATH": str(_CHECKOUT),
        }
        self._command = [
            sys.executable, "-m", "uvicorn", "loadtests.peers.http_service.service:app", "--host", _HOST,
            "--port", str(self.port), "--loop", "uvloop", "--http", "httptools", "--workers", str(processes),
            "--no-access-log", "--log-level", "warning", "--backlog", "4096",
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start it, and return when it answers. Raises ServiceError."""
        with self._log.open("wb") as log:
            # A session of its own: Ctrl-C reaches the bench alone, which then stops everything in order.
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=_CHECKOUT, env=self._environment,
                start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + _READY_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._stop()
                raise ServiceError(self._log.read_text(errors="replace")[-1000:])
            time.sleep(_POLL_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def processor_s(self) -> float:
        """Return the processor seconds that its processes have used."""
        return processor_s(self._process.pid) if self._process is not None else 0.0

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            # Its session is its own, so its group is all that is under it.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=1.0)
        try:
            connection.request("GET", "/ready")
            return connection.getresponse().status == _OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
