"""`tillwire admin create-owner`: the only way in while there is no way in."""

import asyncio
import json
import os
import subprocess
import sys

import asyncpg
import pytest

from server.first_owner import link_for_newcomer
from server.settings import Settings


def run(postgres_url: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "TILLWIRE_POSTGRES_URL": postgres_url, "TILLWIRE_ADMIN_URL": "https://t.example.com/"}
    command = [sys.executable, "-m", "server.cli", "admin", "create-owner", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)


async def execute(postgres_url: str, statement: str) -> None:
    connection = await asyncpg.connect(postgres_url)
    await connection.execute(statement)
    await connection.close()


def test_it_prints_a_link_until_an_owner_can_sign_in(postgres_url: str) -> None:
    anna = ("--email", "anna@example.com", "--name", "Anna")
    first, again = run(postgres_url, *anna), run(postgres_url, *anna, "--json")
    assert first.stdout.startswith("https://t.example.com/invitation/twi_"), first.stderr
    assert json.loads(again.stdout)["link"] not in first.stdout
    asyncio.run(execute(postgres_url, "UPDATE office.console_user SET password_hash = 'x'"))
    refused = run(postgres_url, *anna)
    assert (refused.returncode != 0, refused.stdout) == (True, "")
    assert "--another" in refused.stderr
    assert run(postgres_url, "--email", "b@example.com", "--name", "Boris", "--another").returncode == 0


def test_it_makes_no_owner_of_somebody_else(postgres_url: str) -> None:
    statement = (
        "INSERT INTO office.console_user (email, name, role, created_ms) VALUES ('e@example.com', 'Eva', 'auditor', 0)"
    )
    asyncio.run(execute(postgres_url, statement))
    refused = run(postgres_url, "--email", "E@example.com", "--name", "Eva", "--another")
    assert (refused.returncode != 0, refused.stdout) == (True, "")
    assert "no owner" in refused.stderr


@pytest.mark.parametrize("wrong", [("--email", "anna", "--name", "A"), ("--email", "a@b.c", "--name", " ")])
def test_nonsense_is_one_sentence(postgres_url: str, wrong: tuple[str, ...]) -> None:
    refused = run(postgres_url, *wrong)
    assert (refused.returncode != 0, len(refused.stderr.strip().splitlines())) == (True, 1)


def test_whoever_starts_a_new_installation_gets_in_until_somebody_else_is_invited(postgres_url: str) -> None:
    settings = Settings.model_validate({"postgres_url": postgres_url})
    first, again = asyncio.run(link_for_newcomer(settings)), asyncio.run(link_for_newcomer(settings))
    assert first is not None
    assert again is not None
    assert first.startswith("/invitation/twi_")
    assert again != first, "the one before works no longer"
    asyncio.run(execute(postgres_url, "UPDATE office.console_user SET password_hash = 'x'"))
    assert asyncio.run(link_for_newcomer(settings)) is None
    asyncio.run(execute(postgres_url, "UPDATE office.console_user SET password_hash = NULL"))
    assert run(postgres_url, "--email", "anna@example.com", "--name", "Anna").returncode == 0
    assert asyncio.run(link_for_newcomer(settings)) is None


def test_an_address_that_is_none_is_named_as_such() -> None:
    refused = run("nonsense", "--email", "anna@example.com", "--name", "Anna")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "invalid DSN" in refused.stderr
