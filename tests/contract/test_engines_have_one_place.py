"""Each engine is spoken to in one place, and the core of the wire does no I/O; new files included."""

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: The product. Load tests look at it from outside, so they ask the engines themselves.
PACKAGES = ("admin_api", "ledger", "protocol", "server")
#: The two clients and their clock are the only parts of the protocol that move bytes or know the time.
SHELLS = {"protocol/client.py", "protocol/blocking.py", "protocol/steady_clock.py"}


def files() -> list[Path]:
    return [file for package in PACKAGES for file in (ROOT / package).rglob("*.py")]


@cache
def imported(file: Path) -> frozenset[str]:
    """Return what a file imports; every test of this module asks for every file."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return frozenset(found)


def importers(module: str) -> set[str]:
    return {file.relative_to(ROOT).as_posix() for file in files() if module in imported(file)}


def test_only_the_journal_and_the_registry_talk_to_postgresql() -> None:
    found = importers("asyncpg")
    assert found
    assert {file for file in found if not file.startswith(("ledger/journal/", "ledger/registry/"))} == set()


def test_one_module_talks_to_redis_and_its_embedded_twin_raises_the_same_errors() -> None:
    assert importers("redis") == {"ledger/hot_store.py", "ledger/embedded_redis.py"}
    twin = ast.parse((ROOT / "ledger/embedded_redis.py").read_text("utf-8"))
    from_redis = [node.module for node in ast.walk(twin) if isinstance(node, ast.ImportFrom)
                  and node.module and node.module.startswith("redis")]  # fmt: skip
    assert from_redis == ["redis.exceptions"]


def test_one_module_talks_to_a_broker_and_the_relays_store_alone_to_sqlite() -> None:
    assert importers("aiomqtt") == {"server/mqtt.py"}
    found = importers("sqlite3")
    assert found
    assert {file for file in found if not file.startswith("server/relay/store")} == set()


@pytest.mark.parametrize("module", ["asyncio", "socket", "ssl", "time", "datetime", "os", "random", "secrets"])
def test_the_core_of_the_wire_does_no_io_and_reads_no_clock(module: str) -> None:
    assert {file for file in importers(module) if file.startswith("protocol/")} <= SHELLS
