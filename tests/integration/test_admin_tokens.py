"""`tillwire admin add-token` and `revoke-token`: tokens for programs, made by whoever has the host."""

import asyncio
import json
import os
import re
import subprocess
import sys
from typing import Any

import asyncpg
import pytest

from ledger.clock import SystemClock
from ledger.journal import migrate
from ledger.journal.postgres import Postgres
from ledger.registry import tokens
from ledger.registry.registry import Registry

DAY_MS = 86_400_000


def run(postgres_url: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "TILLWIRE_POSTGRES_URL": postgres_url}
    command = [sys.executable, "-m", "server.cli", "admin", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)


async def _fetch(postgres_url: str, statement: str) -> list[dict[str, Any]]:
    connection = await asyncpg.connect(postgres_url)
    rows = await connection.fetch(statement)
    await connection.close()
    return [dict(row) for row in rows]


async def _in_force(postgres_url: str, token: str) -> dict[str, Any] | None:
    registry = Registry(Postgres(postgres_url), connections_max=1, timeout_s=10)
    async with registry.reading() as transaction:
        row = await tokens.by_token(transaction, token, SystemClock().now_ms())
    await registry.close()
    return None if row is None else dict(row)


def actions(postgres_url: str) -> list[tuple[str, str, str]]:
    statement = "SELECT action, subject, actor_name FROM office.audit ORDER BY audit_id"
    return [(row["action"], row["subject"], row["actor_name"]) for row in asyncio.run(_fetch(postgres_url, statement))]


@pytest.fixture
def migrated_url(postgres_url: str) -> str:
    asyncio.run(migrate.run(postgres_url))
    return postgres_url


def test_a_token_is_made_works_and_is_revoked_and_the_log_knows_both(migrated_url: str) -> None:
    made = run(
        migrated_url, "add-token", "load", "--permissions", "figures:read, accounts:read", "--days", "2", "--json"
    )
    assert made.returncode == 0, made.stderr
    told = json.loads(made.stdout)
    assert set(told) == {"token_id", "token", "expires_ms"}
    assert abs(told["expires_ms"] - SystemClock().now_ms() - 2 * DAY_MS) < DAY_MS
    found = asyncio.run(_in_force(migrated_url, told["token"]))
    assert found is not None
    assert (found["name"], sorted(found["permissions"])) == ("load", ["accounts:read", "figures:read"])
    subject = f"token:{told['token_id']}"
    for _ in range(2):
        revoked = run(migrated_url, "revoke-token", str(told["token_id"]))
        assert (revoked.returncode, asyncio.run(_in_force(migrated_url, told["token"]))) == (0, None), revoked.stderr
    assert actions(migrated_url) == [
        ("token.make", subject, "command line"),
        ("token.revoke", subject, "command line"),
    ]


def test_the_token_is_printed_once_and_kept_nowhere(migrated_url: str) -> None:
    made = run(migrated_url, "add-token", "load", "--permissions", "figures:read")
    match = re.fullmatch(r"token (\d+): (tw_\S+)\n", made.stdout)
    assert match is not None, made
    for statement in ("SELECT * FROM office.api_token", "SELECT * FROM office.audit"):
        assert match[2] not in str(asyncio.run(_fetch(migrated_url, statement)))


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        (("--permissions", "figures:read,everything"), "'everything'"),
        (("--permissions", ""), "there are accounts:read"),
        (("--permissions", "own-account"), "member tokens"),
        (("--permissions", "figures:read", "--days", "0"), "days"),
        (("--permissions", "figures:read", "--days", "367"), "days is at most 366"),
    ],
)
def test_a_wrong_wish_is_one_sentence_and_leaves_nothing(migrated_url: str, wrong: tuple[str, ...], word: str) -> None:
    refused = run(migrated_url, "add-token", "load", *wrong)
    assert (refused.returncode, refused.stdout, len(refused.stderr.strip().splitlines())) == (2, "", 1), refused
    assert word in refused.stderr
    assert actions(migrated_url) == []


def test_a_token_that_is_not_there_is_one_sentence(migrated_url: str) -> None:
    for number in ("7", "99999999999"):
        refused = run(migrated_url, "revoke-token", number)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert f"there is no token {number}" in refused.stderr


def test_a_name_of_nothing_is_refused(migrated_url: str) -> None:
    refused = run(migrated_url, "add-token", " ", "--permissions", "figures:read")
    assert (refused.returncode, len(refused.stderr.strip().splitlines())) == (2, 1), refused
    assert "name" in refused.stderr


def test_without_a_database_it_says_so() -> None:
    refused = run("postgresql://nobody@127.0.0.1:1/none", "add-token", "load", "--permissions", "figures:read")
    assert (refused.returncode, len(refused.stderr.strip().splitlines())) == (1, 1), refused
