"""A whole server with its admin process, two workers and real engines, and somebody who asks it over HTTP."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from admin_api.security.permissions import Permission
from ledger.clock import SystemClock
from ledger.journal.postgres import Postgres
from ledger.ledger import OBSERVER, Ledger
from ledger.registry import tokens
from ledger.registry.registry import Registry
from server.ledger_engines import ledger_engines
from server.ledger_limits import ledger_limits
from server.registers.answers import AnswerRenderer
from server.settings import Settings
from server.workers.peer_link import PeerLinks
from server.workers.supervisor import Supervisor
from tests.rigs.office_rig import EVERYTHING
from tests.rigs.server_rig import PARTITIONS, SECRETS, Server, set_up


class Site(Server):
    def __init__(self, supervisor: Supervisor, port: int, running: asyncio.Task[int], base: str, url: str) -> None:
        super().__init__(supervisor, port, running)
        self.base = base
        self.postgres_url = url

    @property
    def admin(self) -> dict[str, Any]:
        return dict(self.supervisor.health()["admin"])

    async def token(self, *permissions: Permission) -> str:
        registry = Registry(Postgres(self.postgres_url), connections_max=1, timeout_s=10.0)
        now_ms = SystemClock().now_ms()
        try:
            async with registry.writing() as transaction:
                return (
                    await tokens.add(
                        transaction, name="test", permissions=[str(p) for p in permissions], partner_id=None,
                        created_by="system", person="system", now_ms=now_ms, expires_ms=now_ms + 3_600_000,
                    )
                )[1]  # fmt: skip
        finally:
            await registry.close()

    @asynccontextmanager
    async def client(self, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
        token = await self.token(*EVERYTHING)
        headers = {"authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(base_url=self.base, headers=headers, timeout=30, trust_env=False, **options) as c:
            yield c

    @asynccontextmanager
    async def observer(self) -> AsyncIterator[Ledger]:
        """Run what the admin process runs, where a test can hold it."""
        settings = Settings.model_validate({**self.settings, "data_dir": self.settings["data_dir"]})
        clock = SystemClock()
        peers = self.peers = PeerLinks("", lambda _: None, clock)
        engines = ledger_engines(settings, SECRETS)
        renderer = AnswerRenderer(lambda: ledger.programme, clock.now_ms)
        limits = replace(ledger_limits(settings), refresh_interval_s=0.05)
        ledger = Ledger(engines, OBSERVER, limits, renderer, peers.forward, clock)
        await peers.start()
        await ledger.start()
        try:
            yield ledger
        finally:
            await ledger.stop(1.0)
            await peers.stop()

    settings: dict[str, Any]
    peers: PeerLinks


async def until(condition: Callable[[], Any] | Callable[[], Awaitable[Any]]) -> None:
    async with asyncio.timeout(60):
        while True:
            held = condition()
            if await held if asyncio.iscoroutine(held) else held:
                return
            await asyncio.sleep(0.02)


async def execute(site: Site, statement: str, *arguments: Any) -> None:
    connection = await asyncpg.connect(site.postgres_url)
    try:
        await connection.execute(statement, *arguments)
    finally:
        await connection.close()


@asynccontextmanager
async def site_on(postgres_url: str, redis_url: str, folder: Path, **more: Any) -> AsyncIterator[Site]:
    settings = {
        "listen_port": 0,
        "admin_port": 0,
        "workers": 2,
        "partitions": PARTITIONS,
        "postgres_url": postgres_url,
        "redis_url": redis_url,
        "data_dir": folder,
        "status_interval_ms": 50,
        "drain_timeout_ms": 5_000,
        **more,
    }
    supervisor = Supervisor(Settings.model_validate(settings), SECRETS)
    _, port = supervisor.bind()
    host, admin_port = supervisor.bind_admin()
    running = asyncio.create_task(supervisor.run())
    scheme = "https" if "admin_tls_cert_file" in more else "http"
    site = Site(supervisor, port, running, f"{scheme}://{host}:{admin_port}", postgres_url)
    site.settings = settings
    try:
        yield site
    finally:
        supervisor.stop()
        await running


@pytest.fixture
async def site(postgres_url: str, valkey_url: str, tmp_path: Path) -> AsyncIterator[Site]:
    await set_up(postgres_url)
    async with site_on(postgres_url, valkey_url, tmp_path) as site:
        await site.until_ready()
        yield site
