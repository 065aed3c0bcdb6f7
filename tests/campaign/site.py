"""The installation under campaign: engines, proxies before them, a server with two workers, a shop."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg

from admin_api.cards.card_numbers import new_card
from ledger.hot_store import HotStore
from ledger.journal import migrate
from ledger.journal.enrolment import enrol
from ledger.journal.onboarding import onboarding
from ledger.programme import Rules
from ledger.verify import Verified, verify
from protocol.codes import CardKind, Message
from server.engines.account import make_passable
from server.engines.child import Child, EngineError
from server.engines.ports import free_port
from server.engines.postgres import EmbeddedPostgres
from server.engines.processes import command_of, descendants
from server.engines.valkey import EmbeddedValkey
from server.programme_setup import add_relay, add_terminal
from server.secrets import Secrets, create_secrets, load_secrets
from server.settings import Settings
from server.settings_load import to_handover
from tests.campaign import wrong_clock
from tests.campaign.disk import Disk, disk_for
from tests.campaign.proxy import LOOPBACK, Proxy
from tests.campaign.shop import ALLOWANCE_POINTS, IN_SHOP, RELAY, Shop

CHECKOUT = Path(__file__).parents[2]
WORKERS = 2
#: What differs from the defaults of production.
SETTINGS: dict[str, Any] = {"workers": WORKERS, "partitions": 4, "log_level": "info"}
#: Small enough for the disk that is to be filled, and nothing else.
POSTGRES = {"shared_buffers": "64MB", "max_wal_size": "128MB", "min_wal_size": "32MB"}
RULES = Rules(valid_from_ms=0, earn_rate_bp=10_000, slip=("Points spent: {spent}", "Balance: {available}"))
_READY_TIMEOUT_S = 120.0
_POLL_S = 0.1


class Site:
    """One installation. Started by `running_site`."""

    def __init__(self, folder: Path, dice: random.Random, *, mounting: bool) -> None:
        self.folder = folder
        self.postgres = EmbeddedPostgres(folder / "postgresql", options=POSTGRES)
        self.disk: Disk = disk_for(folder / "postgresql", lambda: self.postgres.pid, mounting=mounting)
        self.valkey = EmbeddedValkey(folder / "valkey")
        self.spare = EmbeddedValkey(folder / "spare")
        self.clock_file = folder / "clock"
        self.listen_port, self.admin_port = free_port(), free_port()
        self.registers = Proxy(self.listen_port, dice)
        self.to_redis = Proxy(0, dice)
        self.to_postgres = Proxy(0, dice)
        self.to_primary = Proxy(0, dice)
        self.shop = Shop(folder, CHECKOUT, dice)
        self.secrets: Secrets
        self.settings: Settings
        self._server: Child | None = None

    async def start(self) -> None:
        """Start engines, proxies and server, and wait until it serves."""
        await asyncio.gather(asyncio.to_thread(self.postgres.start), asyncio.to_thread(self.valkey.start))
        # Both take the same password, so that one can take the other's place.
        self.spare.folder.mkdir(mode=0o700)
        shutil.copy(self.valkey.folder / "password", self.spare.folder / "password")
        self.to_redis.target_port, self.to_postgres.target_port = self.valkey.port, self.postgres.port
        for proxy in (self.registers, self.to_redis, self.to_postgres, self.to_primary):
            await proxy.start()
        wrong_clock.set_offset(self.clock_file, 0)
        create_secrets(self.folder / "secrets.toml")
        broker_url = await self.shop.start()
        self.settings = Settings(
            listen_port=self.listen_port,
            admin_port=self.admin_port,
            data_dir=self.folder,
            postgres_url=self.postgres.url.replace(f":{self.postgres.port}/", f":{self.to_postgres.port}/"),
            redis_url=self.valkey.url.replace(f":{self.valkey.port}/", f":{self.to_redis.port}/"),
            mqtt_url=broker_url,
            **SETTINGS,
        )
        self.secrets = load_secrets(self.settings)
        (self.folder / "settings.json").write_text(json.dumps(to_handover(self.settings)))
        await migrate.run(self.postgres.url)
        self.start_server()
        await self.until_ready()

    async def stop(self) -> None:
        """Stop everything; what was paused runs on first."""
        await self.shop.stop()
        if self._server is not None:
            await asyncio.to_thread(self._server.end, (signal.SIGTERM, 15.0))
        for proxy in (self.registers, self.to_redis, self.to_postgres, self.to_primary):
            await proxy.close()
        for engine in (self.valkey, self.spare, self.postgres):
            await asyncio.to_thread(engine.stop)
        await asyncio.to_thread(self.disk.close)

    def start_server(self) -> None:
        """Start the server, which then comes up by itself."""
        argv = [sys.executable, "-m", "tests.campaign.server_process", str(self.folder / "settings.json")]
        environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), wrong_clock.VARIABLE: str(self.clock_file)}
        self._server = Child(argv, self.folder / "server.log", signal.SIGKILL, environment=environment)

    @property
    def server(self) -> Child:
        """The supervisor's process. Raises EngineError when it has ended."""
        if self._server is None or not self._server.alive:
            raise EngineError(f"the server is not running ({self.folder / 'server.log'})")
        return self._server

    def workers(self) -> list[int]:
        """Return the pids of the workers that there are just now."""
        return [pid for pid in descendants(self.server.pid) if "tests.campaign.worker_process" in command_of(pid)]

    def admin(self) -> list[int]:
        """Return the pid of the admin process, if there is one just now."""
        return [pid for pid in descendants(self.server.pid) if "server.workers.admin_process" in command_of(pid)]

    async def health(self) -> dict[str, Any]:
        """Return what the server says of itself; nothing when it does not."""
        return await asyncio.to_thread(_ask, f"http://{LOOPBACK}:{self.admin_port}/health/ready")

    async def until_ready(self) -> None:
        """Wait until every worker serves and misses nothing. Raises TimeoutError."""
        async with asyncio.timeout(_READY_TIMEOUT_S):
            while True:
                health = await self.health()
                if health.get("ready") and not health.get("down"):
                    return
                await asyncio.sleep(_POLL_S)

    @asynccontextmanager
    async def database(self) -> AsyncIterator[asyncpg.Connection[Any]]:
        """Open a connection past the proxy, for the campaign's own questions."""
        connection = await asyncpg.connect(self.postgres.url)
        try:
            yield connection
        finally:
            await connection.close()

    async def add_terminals(self, count: int) -> list[tuple[str, str]]:
        """Add a partner with terminals that may do everything; return their codes and secrets."""
        permitted = [int(op) for op in Message if Message.BALANCE <= op <= Message.REPLACE]
        async with onboarding(self.postgres.url) as to:
            network = await to.network(await to.partner("Partner"), "Network", "EUR")
            await to.rules(network, RULES)
            store = await to.store(network, "Store")
            return [(code := f"till-{i}", await add_terminal(to, store, code, permitted)) for i in range(count)]

    async def open_shop(self, count: int) -> list[tuple[str, str]]:
        """Add a store with a relay and so many terminals, and start the relay; return their codes and secrets."""
        permitted = [int(op) for op in Message if Message.BALANCE <= op <= Message.REPLACE]
        async with onboarding(self.postgres.url) as to:
            network = await to.network_named("Network")
            assert network is not None
            store = await to.store(network, "Shop")
            made = [(code := f"{IN_SHOP}{i}", await add_terminal(to, store, code, permitted)) for i in range(count)]
            master = self.secrets.relay_master
            credential = await add_relay(to, master, store, RELAY, allowance_points=ALLOWANCE_POINTS)
        self.shop.open(credential)
        # Nobody signs on at a relay that has never heard who its registers are.
        await self.shop.until_drained(_READY_TIMEOUT_S)
        return made

    async def enrol(self, active: Sequence[str], issued: Sequence[str]) -> list[int]:
        """Give each EAN-13 number an empty account of its own; return the accounts."""
        key = self.secrets.token_key
        cards = [new_card(CardKind.EAN13, number, key, active=number in active) for number in (*active, *issued)]
        async with self.database() as connection:
            return [enrolled.account for enrolled in await enrol(connection, cards)]

    def failures(self) -> list[str]:
        """Return the log lines of workers that ended by an exception that nobody expected."""
        with (self.folder / "server.log").open(errors="replace") as log:
            return [
                *(line.strip() for line in log if '"worker failed"' in line or "Traceback" in line),
                *self.shop.failures(),
            ]

    async def verify(self) -> Verified:
        """Let the product prove its own books. Raises BadRow."""
        hot = HotStore.at(self.valkey.url, timeout_s=10.0)
        try:
            return await verify(self.postgres.url, hot, self.secrets.seal_key, lambda _done, _total: None)
        finally:
            await hot.close()


def _ask(url: str) -> dict[str, Any]:
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=2) as answer:
            text = answer.read()
    except urllib.error.HTTPError as error:
        with error:
            text = error.read()
    except OSError:
        return {}
    found = json.loads(text)
    return found if isinstance(found, dict) else {}


@asynccontextmanager
async def running_site(dice: random.Random, *, mounting: bool) -> AsyncIterator[Site]:
    """Run an installation in a folder of its own, which goes away with it; `mounting`: whether it may mount a disk."""
    folder = Path(tempfile.mkdtemp(prefix="tillwire-campaign-"))
    make_passable(folder)
    folder.chmod(0o711)
    site = Site(folder, dice, mounting=mounting)
    try:
        await site.start()
        yield site
    finally:
        await site.stop()
        shutil.rmtree(folder, ignore_errors=True)
