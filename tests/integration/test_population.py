import asyncio
import json
import stat
from collections import Counter
from pathlib import Path

import asyncpg
import pytest

from protocol.relay_keys import RelayCredential, relay_key
from server.commands import population
from server.errors import OperatorError
from server.population import filling
from server.secrets import load_secrets
from server.settings import Settings
from tests.integration.test_cli import sentence, tillwire

ACCOUNTS = 147
TERMINALS = 3


def installation(folder: Path, postgres_url: str) -> dict[str, str]:
    variables = {"TILLWIRE_POSTGRES_URL": postgres_url, "TILLWIRE_DATA_DIR": str(folder)}
    assert tillwire("secrets", "create", **variables).returncode == 0
    return variables


async def rows(postgres_url: str, sql: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(postgres_url)
    try:
        return list(await connection.fetch(sql))
    finally:
        await connection.close()


async def test_relays_have_stores_of_their_own_and_credentials_that_headquarters_can_derive(
    tmp_path: Path, postgres_url: str
) -> None:
    variables = installation(tmp_path, postgres_url)
    words = ("add", "population", "--accounts", "10", "--terminals", "1", "--relays", "2", "--relay-terminals", "3")
    made = json.loads(tillwire(*words, "--json", **variables).stdout)
    credentials = [RelayCredential.parse(line) for line in made["relays"]]
    assert (made["relay_terminals"], made["relay_terminal_prefix"]) == (3, "store-")
    master = load_secrets(Settings(data_dir=tmp_path)).relay_master
    assert [one.key for one in credentials] == [relay_key(master, f"relay-{n}", 1) for n in range(2)]
    terminals = await rows(postgres_url, "SELECT * FROM terminal ORDER BY terminal_id")
    assert [terminal["code"] for terminal in terminals] == [
        "load-0", "relay-0", "store-0-0", "store-0-1", "store-0-2", "relay-1", "store-1-0", "store-1-1", "store-1-2",
    ]  # fmt: skip
    assert [str(terminals[at]["store_id"]) for at in (1, 2, 5, 8)] == [
        credentials[0].store, credentials[0].store, credentials[1].store, credentials[1].store,
    ]  # fmt: skip
    assert len({terminal["store_id"] for terminal in terminals}) == 3
    # Registers share a secret; that of a relay's terminal nobody knows.
    assert len({terminal["stored_key"] for terminal in terminals}) == 3
    relays = await rows(
        postgres_url, "SELECT terminal_id, generation, allowance_points FROM relay ORDER BY terminal_id"
    )
    assert [tuple(relay) for relay in relays] == [
        (terminals[1]["terminal_id"], 1, 0),
        (terminals[5]["terminal_id"], 1, 0),
    ]

    await asyncio.to_thread(filling.clear, postgres_url)
    assert await rows(postgres_url, "SELECT FROM relay UNION ALL SELECT FROM terminal") == []


async def test_a_population_is_what_was_asked_for_and_its_books_are_in_order(tmp_path: Path, postgres_url: str) -> None:
    variables = installation(tmp_path, postgres_url)
    words = ("add", "population", "--accounts", str(ACCOUNTS), "--terminals", str(TERMINALS), "--json")
    file = tmp_path / "population.json"
    done = tillwire(*words, "--lots", "4", "--output", str(file), **variables, TILLWIRE_LISTEN_HOST="::")
    assert (done.returncode, done.stderr) == (0, "")
    made = json.loads(file.read_text())
    assert json.loads(done.stdout) == made
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    secret = made.pop("secret")
    assert len(secret) >= 32
    assert made == {"host": "::1", "port": 7411, "terminals": TERMINALS, "terminal_prefix": "load-",
                    "accounts": ACCOUNTS, "first_card": 0, "currency": "EUR", "lots": 4,
                    "relays": [], "relay_terminals": 0, "relay_terminal_prefix": "store-"}  # fmt: skip

    verified = json.loads(tillwire("verify", "--skip-redis", "--json", **variables).stdout)
    assert (verified["clean"], verified["accounts"]) == (True, ACCOUNTS)
    # Every purchase is a lot.
    assert 3.7 < verified["entries"] / ACCOUNTS < 4.3
    heads = await rows(postgres_url, "SELECT account_id, balance, seq, due_ms FROM account ORDER BY account_id")
    assert [head["account_id"] for head in heads] == list(range(1, ACCOUNTS + 1))
    assert all(49_900 <= head["balance"] <= 5_000_000 for head in heads)
    assert heads[0]["balance"] > 4_990_000
    assert set(Counter(head["seq"] for head in heads)) == {2, 3, 4, 5, 6}
    terminals = await rows(postgres_url, "SELECT code, salt, permitted FROM terminal ORDER BY terminal_id")
    assert [terminal["code"] for terminal in terminals] == ["load-0", "load-1", "load-2"]
    assert len({terminal["salt"] for terminal in terminals}) == 1
    # Whoever is enrolled next gets a number of its own.
    added = json.loads(tillwire("add", "cards", "200100000000", "--json", **variables).stdout)
    assert added["added"] == 1

    assert "not empty" in sentence(tillwire(*words, **variables))


async def test_a_long_journal_is_spread_over_the_accounts_and_is_as_valid(tmp_path: Path, postgres_url: str) -> None:
    variables = installation(tmp_path, postgres_url)
    done = tillwire("add", "population", "--accounts", "50", "--terminals", "1", "--journal-rows", "1500", **variables)
    assert done.returncode == 0
    assert done.stdout.startswith("accounts 50, terminals 1, their secret ")
    verified = json.loads(tillwire("verify", "--skip-redis", "--json", **variables).stdout)
    assert 1_500 <= verified["entries"] <= 1_600
    lengths = await rows(postgres_url, "SELECT seq AS n FROM account")
    assert {row["n"] for row in lengths} <= {30, 31}


@pytest.mark.parametrize(
    "words",
    [
        ("--accounts", "0", "--terminals", "1"),
        ("--accounts", "1", "--terminals", "0"),
        ("--accounts", "1", "--terminals", "1", "--lots", "0"),
        ("--accounts", "1", "--terminals", "1", "--lots", "257"),
        ("--accounts", "1", "--terminals", "1", "--journal-rows", "-1"),
        ("--accounts", "2", "--terminals", "1", "--journal-rows", "20001"),
        ("--accounts", "1", "--terminals", "1", "--output", "/nowhere/population.json"),
        ("--accounts", "NaN", "--terminals", "1"),
        ("--accounts", "1"),
    ],
)
def test_nonsense_is_refused_before_anything_is_done(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = tillwire("add", "population", *words, TILLWIRE_DATA_DIR=str(tmp_path))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


async def test_a_population_that_fails_leaves_the_programme_empty(
    tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = installation(tmp_path, postgres_url)
    await rows(postgres_url, "ALTER TABLE card ADD CHECK (account_id <> 30)")
    settings = Settings(data_dir=tmp_path)
    monkeypatch.setattr(filling, "_ENTRIES_AT_ONCE", 60)
    with pytest.raises(OperatorError, match="could not be written"):
        await asyncio.to_thread(
            population._populated, postgres_url, load_secrets(settings), 100, 2, 6, 0, None, quiet=True
        )
    for table in ("account", "card", "entry", "terminal", "partner"):
        assert (await rows(postgres_url, f"SELECT count(*) AS n FROM {table}"))[0]["n"] == 0  # noqa: S608
    await rows(postgres_url, "ALTER TABLE card DROP CONSTRAINT card_account_id_check")
    assert tillwire("add", "population", "--accounts", "1", "--terminals", "1", **variables).returncode == 0
    (head,) = await rows(postgres_url, "SELECT account_id FROM account")
    assert head["account_id"] == 1
