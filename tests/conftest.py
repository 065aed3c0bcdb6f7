"""Real engines for tests, on free ports, in a folder of their own that goes away with the run.

`postgres_url`, `valkey_url`, `broker_url` lead to engines that the whole run shares, clean for each test. The database
has all migrations; a test of migrations asks for `empty_postgres_url`. A test that breaks engines on purpose asks for
`own_postgres`, `own_valkey`, `own_broker`: running, with `kill`, `pause`, `start`.
"""

import asyncio
import os
import secrets
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import redis
from hypothesis import settings

from ledger.journal import migrate
from server.engines.broker import EmbeddedBroker
from server.engines.postgres import EmbeddedPostgres
from server.engines.valkey import EmbeddedValkey

# The suite draws the same cases every time, so that it fails for what was changed; `make nightly` draws fresh ones.
settings.register_profile("repeatable", derandomize=True, print_blob=True)
settings.register_profile("fresh", print_blob=True)
settings.load_profile("fresh" if "TILLWIRE_PROPERTY_CASES" in os.environ else "repeatable")

SMALL = {"shared_buffers": "64MB", "max_wal_size": "512MB"}
#: The engine that all share is never killed, and its data go with it: nothing is gained by waiting for the disk, which
#: is what making and dropping a database mostly does. A test that kills an engine has `own_postgres`, which waits.
SHARED = {**SMALL, "fsync": "off", "full_page_writes": "off"}


@pytest.fixture(scope="session")
def engines_folder() -> Iterator[Path]:
    # pytest's own temporary folders are closed to the user as whom PostgreSQL runs when the tests run as root.
    folder = Path(tempfile.mkdtemp(prefix="tillwire-test-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def own_folder(engines_folder: Path) -> Iterator[Path]:
    folder = engines_folder / secrets.token_hex(4)
    folder.mkdir()
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgres_server(engines_folder: Path) -> Iterator[EmbeddedPostgres]:
    engine = EmbeddedPostgres(engines_folder / "postgresql", options=SHARED)
    engine.start()
    yield engine
    engine.stop()


@pytest.fixture(scope="session")
def migrated_template(postgres_server: EmbeddedPostgres) -> str:
    """Make a database with all migrations once, since copying it takes a fraction of migrating another one."""
    _administer(postgres_server, "CREATE DATABASE migrated")
    _apart(migrate.run(postgres_server.url_of("migrated")))
    return "migrated"


@pytest.fixture(scope="session")
def make_template(
    postgres_server: EmbeddedPostgres, migrated_template: str
) -> Callable[[str, Callable[[Any], Awaitable[None]]], str]:
    """Make a database to be copied: with all migrations, and with what is put into it."""

    def make(name: str, fill: Callable[[Any], Awaitable[None]]) -> str:
        _administer(postgres_server, f"CREATE DATABASE {name} TEMPLATE {migrated_template} STRATEGY FILE_COPY")

        async def work() -> None:
            connection = await asyncpg.connect(postgres_server.url_of(name))
            try:
                await fill(connection)
            finally:
                await connection.close()

        _apart(work())
        return name

    return make


@pytest.fixture
def databases(postgres_server: EmbeddedPostgres) -> Iterator[Callable[[str], str]]:
    """Make databases as copies of a named one; they go away with the test."""
    made: list[str] = []

    def make(template: str) -> str:
        name = f"test_{secrets.token_hex(6)}"
        _administer(postgres_server, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
        made.append(name)
        return postgres_server.url_of(name)

    yield make
    for name in made:
        _administer(postgres_server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def new_database(databases: Callable[[str], str], migrated_template: str) -> Callable[[], str]:
    return lambda: databases(migrated_template)


@pytest.fixture
def postgres_url(new_database: Callable[[], str]) -> str:
    return new_database()


@pytest.fixture
def empty_postgres_url(databases: Callable[[str], str]) -> str:
    return databases("template1")


@pytest.fixture(scope="session")
def valkey_server(engines_folder: Path) -> Iterator[EmbeddedValkey]:
    engine = EmbeddedValkey(engines_folder / "valkey")
    engine.start()
    yield engine
    engine.stop()


@pytest.fixture
def valkey_url(valkey_server: EmbeddedValkey) -> str:
    with redis.Redis.from_url(valkey_server.url) as client:
        client.flushall()
        client.script_flush()
        client.function_flush()
    return valkey_server.url


@pytest.fixture(scope="session")
def broker_url(engines_folder: Path) -> Iterator[str]:
    engine = EmbeddedBroker(engines_folder / "mqtt")
    yield engine.start()
    engine.stop()


@pytest.fixture
def own_postgres(own_folder: Path) -> Iterator[EmbeddedPostgres]:
    engine = EmbeddedPostgres(own_folder / "postgresql", options=SMALL)
    engine.start()
    yield engine
    engine.stop()


@pytest.fixture
def own_valkey(own_folder: Path) -> Iterator[EmbeddedValkey]:
    engine = EmbeddedValkey(own_folder / "valkey")
    engine.start()
    yield engine
    engine.stop()


@pytest.fixture
def own_broker(own_folder: Path) -> Iterator[EmbeddedBroker]:
    engine = EmbeddedBroker(own_folder / "mqtt")
    engine.start()
    yield engine
    engine.stop()


def _administer(server: EmbeddedPostgres, statement: str) -> None:
    async def execute() -> None:
        connection = await asyncpg.connect(server.url_of("postgres"))
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    _apart(execute())


def _apart(work: Coroutine[Any, Any, object]) -> None:
    """Run in a thread of its own, so that it neither meets nor replaces the event loop of an asynchronous test."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, work).result()
