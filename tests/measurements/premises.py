"""A whole installation to measure: engines as durable as in production and the server as a process of its own.

Every part can be killed by itself. Everything lies in one folder and listens on free ports of loopback.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import asyncpg

from ledger.card_tokens import token_hash
from ledger.journal import migrate
from ledger.journal.enrolment import NewCard
from ledger.journal.onboarding import onboarding
from ledger.journal.partitioning import ensure_partitions
from ledger.journal.postgres import Postgres
from protocol import tokens
from protocol.requests import Card
from server.engines.child import Child
from server.engines.ports import LOOPBACK, free_port
from server.engines.postgres import EmbeddedPostgres
from server.engines.valkey import EmbeddedValkey
from server.population import programme
from server.population.specimen import Origin
from server.secrets import KEY_BYTES, NAMES, VARIABLE_PREFIX, Secrets
from server.settings_load import PREFIX

CHECKOUT = Path(__file__).parents[2]
_ACTIVE = 1
_MODULES = ("server.cli", "server.commands.serving", "server.workers.worker")
_DRAIN_S = 20.0
_POLL_S = 0.002


class Premises:
    """Engines and server; `settings` are the server's by name, beside those that follow from the engines."""

    #: Both are there once the programme is founded.
    secret: str
    origin: Origin

    def __init__(
        self, folder: Path, *, postgres_options: dict[str, str] | None = None, settings: dict[str, str] | None = None
    ) -> None:
        self.folder = folder
        self.keys = Secrets(**{name: os.urandom(KEY_BYTES) for name in NAMES})
        self.postgres = EmbeddedPostgres(folder / "postgresql", options=postgres_options)
        self.valkey = EmbeddedValkey(folder / "valkey")
        self.host, self.port = LOOPBACK, free_port()
        self._admin_port = free_port()
        self._settings = settings or {}
        self._server: Child | None = None

    def start_engines(self) -> None:
        self.postgres.start()
        self.valkey.start()

    async def found(self, terminals: int) -> None:
        """Create an empty programme in which so many terminals may do everything; all have the same secret."""
        await migrate.run(self.postgres.url)
        await ensure_partitions(Postgres(self.postgres.url), int(self._settings.get("partitions", "1")))
        founded = await programme.found(self.postgres.url, terminals)
        self.origin, self.secret = founded.origin, founded.secret

    def terminal(self, number: int) -> str:
        return f"{programme.TERMINAL_PREFIX}{number}"

    def token(self, card: Card) -> bytes:
        """Return what the ledger knows the card by."""
        assert card.token is not None
        return token_hash(card.token, self.keys.token_key)

    async def enrol(self, cards: Sequence[Card]) -> None:
        async with onboarding(self.postgres.url) as to:
            await to.cards(
                [NewCard(self.token(card), int(card.kind), tokens.masked(card.token or ""), _ACTIVE) for card in cards]
            )

    def start_server(self) -> None:
        """Start the server's process and return at once."""
        values = {
            **self._settings,
            "listen_port": str(self.port),
            "admin_port": str(self._admin_port),
            "data_dir": str(self.folder),
            "postgres_url": self.postgres.url,
            "redis_url": self.valkey.url,
        }
        environment = self._environment() | {PREFIX + name.upper(): value for name, value in values.items()}
        environment |= {VARIABLE_PREFIX + name.upper(): value for name, value in self.keys.to_handover().items()}
        command = [sys.executable, "-m", "server.cli", "--log-level", "warning", "serve"]
        self._server = Child(command, self.folder / "server.log", signal.SIGTERM, environment=environment)

    def compile(self) -> None:
        """Let Python keep its bytecode, as that of an installed server is kept: a cold start is not a first start."""
        subprocess.run([sys.executable, "-c", f"import {', '.join(_MODULES)}"], env=self._environment(), check=True)

    def _environment(self) -> dict[str, str]:
        dropped = (PREFIX, "PYTHON")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
        return {**kept, "PYTHONPATH": str(CHECKOUT), "PYTHONPYCACHEPREFIX": str(self.folder / "bytecode")}

    @property
    def server(self) -> Child:
        assert self._server is not None
        return self._server

    async def until_listening(self, timeout_s: float = 60.0) -> None:
        """Return when the server's port accepts connections; it was bound before any worker was ready."""
        async with asyncio.timeout(timeout_s):
            while self.server.alive:
                with suppress(OSError):
                    _, writer = await asyncio.open_connection(self.host, self.port)
                    writer.close()
                    await writer.wait_closed()
                    return
                await asyncio.sleep(_POLL_S)
        raise RuntimeError(f"the server ended: {self.server.last_words()}")

    def stop(self) -> None:
        """Stop everything that runs."""
        if self._server is not None:
            self._server.end((signal.SIGTERM, _DRAIN_S))
        self.valkey.stop()
        self.postgres.stop()

    async def fetch(self, sql: str, *values: object) -> list[asyncpg.Record]:
        """Ask the database itself."""
        connection = await asyncpg.connect(self.postgres.url)
        try:
            return list(await connection.fetch(sql, *values))
        finally:
            await connection.close()
