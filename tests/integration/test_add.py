"""`tillwire add ...` asks the same questions as the operators' API, since it saves through the same functions."""

import json
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from protocol.relay_keys import RelayCredential, relay_key
from server.secrets import create_secrets, load_secrets
from server.settings import Settings
from tests.integration.test_cli import sentence, tillwire

NETWORK = ("add", "network", "Harvest Market", "--partner", "Harvest Foods", "--currency", "EUR")


async def test_the_first_sale_is_a_few_commands_away(tmp_path: Path, empty_postgres_url: str) -> None:
    variables = {"TILLWIRE_POSTGRES_URL": empty_postgres_url, "TILLWIRE_DATA_DIR": str(tmp_path)}

    def done(*words: str) -> Any:
        finished = tillwire(*words, "--json", **variables)
        assert finished.returncode == 0, finished.stderr
        return json.loads(finished.stdout)

    def said(*words: str) -> str:
        return sentence(tillwire(*words, **variables))

    done("migrate")
    done("add", "partner", "Harvest Foods")
    assert "the name 'Harvest Foods' is taken" in said("add", "partner", "Harvest Foods")
    assert "no partner named" in said("add", "network", "N", "--partner", "Nobody", "--currency", "EUR")
    done(*NETWORK, "--earn-rate-bp", "500", "--slip", "Balance: {available}")
    store = done("add", "store", "Mill Street", "--network", "Harvest Market")["store_id"]
    made = done("add", "terminal", "mill-1", "--store", str(store), "--may", "balance,sale")
    assert len(made["secret"]) >= 32
    assert "the terminal code 'mill-1' is taken" in said("add", "terminal", "mill-1", "--store", str(store))
    secrets = tmp_path / "secrets.toml"
    assert "there are no secret keys" in said("add", "relay", "mill-relay", "--store", str(store))
    create_secrets(secrets)
    credential = RelayCredential.parse(done("add", "relay", "mill-relay", "--store", str(store))["credential"])
    assert (credential.network, credential.store, credential.code) == ("1", str(store), "mill-relay")
    master = load_secrets(Settings(secrets_file=secrets)).relay_master
    assert credential.key == relay_key(master, "mill-relay", 1)
    assert "has the relay mill-relay" in said("add", "relay", "second", "--store", str(store))
    assert "no store 77" in said("add", "relay", "second", "--store", "77")
    connection = await asyncpg.connect(empty_postgres_url)
    try:
        (version,) = await connection.fetch("SELECT *, rules ->> 'earn_rate_bp' AS rate FROM rules_version")
        (rules,) = await connection.fetch("SELECT * FROM rules")
        terminals = await connection.fetch("SELECT permitted FROM terminal ORDER BY terminal_id")
        assert [row["permitted"] for row in terminals] == [[16, 22], [18, 20]]
        assert await connection.fetchval("SELECT (allowance_points, allowance_ms) FROM relay") == (0, 86_400_000)
    finally:
        await connection.close()
    assert (version["rate"], version["made_by"], version["valid_from_ms"]) == ("500", "system", 0)
    assert (rules["earn_rate_bp"], rules["slip"], rules["holds_max"]) == (500, ["Balance: {available}"], 16)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((*NETWORK, "--redeem-min", "100", "--redeem-max", "50"), "redeem_max"),
        ((*NETWORK, "--earn-rate-bp", "1000001"), "earn_rate_bp"),
        ((*NETWORK, "--slip", "{nonsense}"), "slip.0"),
        (("add", "terminal", "mill 1", "--store", "1"), "terminal's code"),
        (("add", "terminal", "mill-1", "--store", "1", "--may", "fly"), "'fly' is no operation"),
        (("add", "relay", "mill relay", "--store", "1"), "terminal's code"),
    ],
)
def test_what_no_installation_could_live_by_is_refused_before_anything_is_asked(
    words: tuple[str, ...], said: str
) -> None:
    done = tillwire(*words, TILLWIRE_POSTGRES_URL="postgresql://nobody@127.0.0.1:1/nothing")
    assert done.returncode == 2
    assert said in sentence(done)
