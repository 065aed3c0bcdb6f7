"""A store of the campaign: a broker, a relay as a process of its own, and between them a line that can be harmed."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from server.engines.broker import EmbeddedBroker
from server.engines.child import Child, EngineError
from server.engines.ports import free_port
from tests.campaign.disk import FileSizeLimit
from tests.campaign.proxy import Proxy

RELAY = "relay"
IN_SHOP = "shop-"
"""How the codes of the shop's registers begin."""
#: What the relay may reserve for a card; the campaign's redemptions are of 1 to 299 points.
ALLOWANCE_POINTS = 150
#: Less than a page of the relay's store: nothing more can be written.
_FULL_BYTES = 1_024
_POLL_S = 0.3


class Shop:
    """Started by `Site`; `line` is between the relay and the broker."""

    def __init__(self, folder: Path, checkout: Path, dice: random.Random) -> None:
        self.broker = EmbeddedBroker(folder / "mqtt")
        self.line = Proxy(0, dice)
        self.port = free_port()
        self.disk = FileSizeLimit(lambda: self.relay.pid, _FULL_BYTES)
        self._folder, self._checkout = folder, checkout
        self._log = folder / "relay.log"
        self._environment: dict[str, str] = {}
        self._relay: Child | None = None

    async def start(self) -> str:
        """Start the broker and the line to it; return the broker's URL, past the line."""
        await asyncio.to_thread(self.broker.start)
        self.line.target_port = self.broker.port
        await self.line.start()
        return self.broker.url

    def open(self, credential: str) -> None:
        """Start the relay, which then comes up by itself."""
        self._environment = {
            **os.environ,
            "PYTHONPATH": str(self._checkout),
            "TILLWIRE_RELAY_CREDENTIAL": credential,
            "TILLWIRE_RELAY_MQTT_URL": self.broker.url.replace(f":{self.broker.port}", f":{self.line.port}"),
            "TILLWIRE_RELAY_DATA_DIR": str(self._folder / "relay"),
            "TILLWIRE_RELAY_LISTEN_PORT": str(self.port),
        }
        self.start_relay()

    def start_relay(self) -> None:
        """Start the relay anew. Harmless when it runs."""
        if self._relay is None or not self._relay.alive:
            argv = [sys.executable, "-m", "server.cli", "relay", "run"]
            self._relay = Child(argv, self._log, signal.SIGKILL, environment=self._environment)

    @property
    def relay(self) -> Child:
        """The relay's process. Raises EngineError when it has ended."""
        if self._relay is None or not self._relay.alive:
            raise EngineError(f"the relay is not running ({self._log})")
        return self._relay

    def kill_relay(self) -> None:
        """Kill the relay. Harmless when it has ended."""
        if self._relay is not None:
            self._relay.kill()

    async def stop(self) -> None:
        """Stop everything."""
        if self._relay is not None:
            await asyncio.to_thread(self._relay.end, (signal.SIGTERM, 15.0))
        await self.line.close()
        await asyncio.to_thread(self.broker.stop)

    async def status(self) -> dict[str, Any]:
        """Return what `tillwire relay status` says; nothing when it cannot."""
        return await asyncio.to_thread(self._status)

    async def until_drained(self, timeout_s: float) -> None:
        """Wait until the relay is on line and nothing waits in it. Raises TimeoutError."""
        async with asyncio.timeout(timeout_s):
            while True:
                status = await self.status()
                if status.get("line") == "up" and status.get("queued") == 0:
                    return
                await asyncio.sleep(_POLL_S)

    def failures(self) -> list[str]:
        """Return the log lines of a relay that ended by an exception that nobody expected."""
        with self._log.open(errors="replace") as log:
            return [line.strip() for line in log if "Traceback" in line or '"level":"critical"' in line]

    def _status(self) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, "-m", "server.cli", "relay", "status", "--json"],
            env=self._environment, capture_output=True, text=True, check=False, timeout=30,
        )  # fmt: skip
        if not done.stdout.startswith("{"):
            return {}
        found: dict[str, Any] = json.loads(done.stdout)
        return found
