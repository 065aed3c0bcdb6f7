"""An import may die at any moment, meet another one, or a server: nothing is lost, doubled or changed unasked."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from datetime import date, timedelta
from pathlib import Path

import asyncpg
import pytest

from ledger.hot_store import HotStore
from ledger.verify import verify
from protocol.codes import CardKind, Outcome
from protocol.requests import Card
from server.errors import OperatorError
from server.moving import importing
from tests.integration.test_cli import BARE, CHECKOUT, tillwire
from tests.integration.test_population import installation
from tests.rigs.ledger_rig import Rig
from tests.rigs.moving_rig import SECRETS, MovingRig, ean13, in_a_thread
from tests.rigs.server_rig import SECRETS as SERVER_SECRETS
from tests.rigs.server_rig import Server, number_of, receipt, server

__all__ = ["server"]
SOON = date.today() + timedelta(days=100)  # noqa: DTZ011
MEMBERS = 6_000


@pytest.fixture
def rig(postgres_url: str, tmp_path: Path) -> MovingRig:
    return MovingRig(postgres_url, tmp_path)


def many(rig: MovingRig) -> dict[str, Path]:
    """Two lots for each of many members, all with a card."""
    members = [(f"C{i}", f"Given{i}", f"+49151{i:07}") for i in range(MEMBERS)]
    cards = [(f"C{i}", ean13(i)) for i in range(MEMBERS)]
    lots = [(f"C{i}", f"{i % 90 + 1}.{i % 100:02}", SOON + timedelta(days=i % 2)) for i in range(MEMBERS)]
    lots += [(f"C{i}", "1", "") for i in range(0, MEMBERS, 2)]
    return {
        "members": rig.file("members.csv", ("id", "first name", "phone"), *members),
        "cards": rig.file("cards.csv", ("id", "number"), *cards),
        "balances": rig.file("balances.csv", ("id", "points", "expires"), *lots),
    }


def import_command(kind: str, file: Path, **variables: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "server.cli", "import", kind, str(file), "--json"]
    environment = {**BARE, "PYTHONPATH": str(CHECKOUT), **variables}
    return subprocess.Popen(
        words, cwd=CHECKOUT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def test_an_import_that_is_killed_goes_on_where_it_was(rig: MovingRig, tmp_path: Path) -> None:
    variables = installation(tmp_path, rig.postgres_url)
    files = many(rig)
    tables = {"members": "personal.member", "cards": "card", "balances": "entry"}
    for kind, file in files.items():
        process = import_command(kind, file, **variables)
        try:
            give_up = time.monotonic() + 60
            # In the middle: some of it is there.
            while process.poll() is None and not rig.value(f"SELECT count(*) FROM {tables[kind]}"):  # noqa: S608
                assert time.monotonic() < give_up
        finally:
            process.kill()
            process.communicate()
        # What the dead one's processes had under way ends with them.
        while rig.value("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tillwire-import'"):
            assert time.monotonic() < give_up
            time.sleep(0.05)
        done = tillwire("import", kind, str(file), "--json", **variables)
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        assert report["agrees"]
        assert report["already"] > 0
        assert report["imported"] + report["already"] == report["rows"]
    rows = [line.split(",") for line in files["balances"].read_text().splitlines()[1:]]
    total = sum(int(points.replace(".", "")) * (1 if "." in points else 100) for _, points, _ in rows)
    verified = json.loads(tillwire("verify", "--skip-redis", "--json", **variables).stdout)
    assert (verified["clean"], verified["accounts"], verified["entries"]) == (True, MEMBERS, len(rows))
    assert verified["balance"] == total
    assert rig.value("SELECT count(*) FROM card") == MEMBERS


def test_two_imports_do_not_run_at_once(rig: MovingRig) -> None:
    file = rig.file("m.csv", ("id",), ("1",))

    async def hold() -> None:
        connection = await asyncpg.connect(rig.postgres_url)
        try:
            await connection.execute("SELECT pg_advisory_lock(74110002)")
            with pytest.raises(OperatorError, match="another import"):
                await asyncio.to_thread(rig.take, "members", file)
        finally:
            await connection.close()

    in_a_thread(hold)
    assert rig.take("members", file).imported == 1


async def test_balances_come_to_accounts_of_a_stopped_server_and_its_redis_is_not_believed(
    postgres_url: str, valkey_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What Redis remembers of an account is void once the account was changed beside it."""
    plain = Rig(postgres_url, valkey_url)
    await plain.prepare(cards=2)
    async with plain.ledger() as ledger:
        await plain.give(ledger, 0, 1_000)
        assert await plain.available(ledger, 1) == 0
    moving = await asyncio.to_thread(MovingRig, postgres_url, tmp_path)
    async with plain.database() as connection:
        accounts = await connection.fetch("SELECT account_id FROM card ORDER BY account_id")
        for number, row in enumerate(accounts):
            kind, hashed = importing_hash(f"C{number}")
            await connection.execute("INSERT INTO personal.member (account_id) VALUES ($1)", row["account_id"])
            await connection.execute("INSERT INTO personal.lookup VALUES ($1, $2, $3)", kind, hashed, row["account_id"])
    file = moving.file("b.csv", ("id", "points"), ("C0", "5"), ("C1", "7"))
    # The rig's books are sealed with its own key.
    monkeypatch.setattr("tests.rigs.moving_rig.SECRETS", rig_secrets())
    report = await asyncio.to_thread(moving.take, "balances", file)
    assert (report.imported, report.points_imported) == (2, 1_200)
    async with plain.ledger() as ledger:
        assert await plain.available(ledger, 0) == 1_500
        assert await plain.available(ledger, 1) == 700
    assert (await plain.verify()).balance == 2_200


def importing_hash(external_id: str) -> tuple[int, bytes]:
    from ledger.registry.personal import PersonalData  # noqa: PLC0415

    return PersonalData(rig_secrets().personal_key).external(external_id)


def rig_secrets() -> object:
    from dataclasses import replace  # noqa: PLC0415

    from tests.rigs.ledger_rig import PERSONAL_KEY, SEAL_KEY  # noqa: PLC0415

    return replace(SECRETS, seal_key=SEAL_KEY, personal_key=PERSONAL_KEY)


async def test_beside_a_running_server_new_accounts_come_at_once_and_others_through_their_owners(
    server: Server, postgres_url: str, valkey_url: str, tmp_path: Path
) -> None:
    moving = await asyncio.to_thread(MovingRig, postgres_url, tmp_path)
    files = {
        "members": moving.file("m.csv", ("id", "first name"), ("C1", "Ann"), ("C2", "Bo")),
        "cards": moving.file("c.csv", ("id", "number"), ("C1", ean13(10**9)), ("C2", ean13(10**9 + 1))),
        "balances": moving.file(
            "b.csv", ("id", "number", "points"), ("C1", "", "5"), ("C3", "", "6"), ("", number_of(0), "7")
        ),
    }
    async with server.tills(1) as (till,):
        earned = await till.earn(Card(CardKind.EAN13, number_of(0)), receipt(1_000))
        assert earned.outcome == Outcome.APPROVED
        for kind, rows in (("members", 2), ("cards", 2), ("balances", 3)):
            report = await asyncio.to_thread(moving.take, kind, files[kind])
            assert (report.imported, report.rejected) == (rows, 0), report.first_rejects
            again = await asyncio.to_thread(moving.take, kind, files[kind])
            assert (again.already, again.rejected) == (rows, 0), again.first_rejects
        for number, points in ((ean13(10**9), 500), (number_of(0), 1_700)):
            reply = await till.balance(Card(CardKind.EAN13, number))
            assert (reply.outcome, reply.balance.available if reply.balance else None) == (Outcome.APPROVED, points)
    hot_store = HotStore.at(valkey_url, timeout_s=5.0)
    try:
        verified = await verify(postgres_url, hot_store, SERVER_SECRETS.seal_key, lambda _done, _total: None)
    finally:
        await hot_store.close()
    assert verified.balance == 500 + 600 + 1_700


def test_a_server_whose_owners_cannot_be_asked_leaves_existing_accounts_alone(
    rig: MovingRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.take("cards", rig.file("c.csv", ("id", "number"), ("C1", ean13(1))))
    before = rig.everything()
    file = rig.file("b.csv", ("id", "points"), ("C1", "5"), ("C2", "6"))

    async def beside_an_owner() -> None:
        connection = await asyncpg.connect(rig.postgres_url)
        try:
            await connection.execute("UPDATE programme SET partitions = 1")
            await connection.execute("INSERT INTO partition (partition_id, owner) VALUES (0, '/nowhere')")
            await connection.execute("SELECT pg_advisory_lock(7411, 0)")
            report = await asyncio.to_thread(rig.take, "balances", file)
            assert (report.imported, report.rejected) == (1, 1)
            assert "did not decide" in report.first_rejects[0]["reason"]
        finally:
            await connection.close()

    in_a_thread(beside_an_owner)
    assert rig.everything()["account"][: len(before["account"])] == before["account"]
    assert rig.take("balances", file).imported == 1
    assert rig.verify().balance == 1_100


def test_a_worker_cannot_come_to_own_accounts_during_an_import(rig: MovingRig) -> None:
    async def meanwhile() -> None:
        connection = await asyncpg.connect(rig.postgres_url)
        try:
            await connection.execute("UPDATE programme SET partitions = 2")
            await connection.execute("INSERT INTO partition (partition_id, epoch) VALUES (0, 3), (1, 4)")
            moving = await importing.MovingIn.begin(rig.postgres_url, writing=True)
            assert moving.standing.alone
            # Both were fenced, and neither can be taken.
            assert await connection.fetchval("SELECT sum(epoch) FROM partition") == 9
            assert not await connection.fetchval("SELECT pg_try_advisory_lock(7411, 1)")
            await moving.end()
            async with asyncio.timeout(10):
                while not await connection.fetchval("SELECT pg_try_advisory_lock(7411, 1)"):
                    await asyncio.sleep(0.01)
        finally:
            await connection.close()

    in_a_thread(meanwhile)


def test_a_file_that_is_interrupted_by_a_person_says_so(rig: MovingRig, tmp_path: Path) -> None:
    variables = installation(tmp_path, rig.postgres_url)
    process = import_command("members", many(rig)["members"], **variables)
    try:
        give_up = time.monotonic() + 60
        while process.poll() is None and not rig.value("SELECT count(*) FROM personal.member"):
            assert time.monotonic() < give_up
        os.kill(process.pid, signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode in (0, 1)
    assert "Traceback" not in errors
    assert process.returncode == 0 or "run the same again" in errors
