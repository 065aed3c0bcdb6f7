"""Everything leaves, from one moment, and members and balances come in again elsewhere as they were."""

import base64
import csv
import hashlib
import json
import stat
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from ledger.journal.onboarding import onboarding
from ledger.programme import Rules
from ledger.registry.personal import PersonalData
from protocol.relay_keys import relay_key
from server.errors import OperatorError
from server.moving.exporting import MANIFEST, export_all
from server.programme_setup import add_relay, add_terminal
from tests.integration.test_cli import tillwire
from tests.integration.test_population import installation
from tests.rigs.conflicts import add_conflict
from tests.rigs.moving_rig import SECRETS, MovingRig, ean13, in_a_thread

MASTER = b"r" * 32
SOON = date.today() + timedelta(days=100)  # noqa: DTZ011
PERSONAL = PersonalData(SECRETS.personal_key)


def read(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def exported(rig: MovingRig, name: str, **options: Any) -> Path:
    folder = rig.folder / name
    export_all(rig.postgres_url, SECRETS.personal_key, folder, lambda _rows: None, **{"personal": True, **options})
    return folder


def populated(url: str, folder: Path) -> MovingRig:
    rig = MovingRig(url, folder)

    async def coalition() -> None:
        async with onboarding(url) as to:
            network = await to.network(await to.partner("Harvest, Foods"), "Harvest", "EUR")
            await to.rules(network, Rules(valid_from_ms=0, earn_rate_bp=500))
            store = await to.store(network, "Mühlstraße")
            await add_terminal(to, store, "till-1", [16, 17])
            await add_relay(to, MASTER, store, "relay-1", allowance_points=700)
        conflict = await add_conflict(url, 2, 1_790_000_000_000)
        db = await asyncpg.connect(url)
        await db.execute(
            "UPDATE office.conflict SET settled_by = 'user:1', settled_ms = 1, note = 'Щукина was called'"
            " WHERE conflict_id = $1",
            conflict,
        )
        await db.close()

    in_a_thread(coalition)
    members = [
        ("id", "first name", "last name", "email", "consents", "consent:sms", "language", "birthday"),
        ("C1", "Алёна", "Щукина", "a@example.org", "marketing", "no", "ru", "31.12.1990"),
        ("C2", 'Zoë "Zo"', "O'Neil; Smith", "", "", "", "", ""),
    ]
    rig.take("members", rig.file("m.csv", *members))
    rig.take("cards", rig.file("c.csv", ("id", "number"), ("C1", ean13(1)), ("", ean13(2))))
    lots = [
        ("id", "number", "points", "expires", "valid from"),
        ("C1", "", "10.50", SOON, ""),
        ("C1", "", "2", "", SOON),
        ("C2", "", "3.07", SOON + timedelta(days=1), ""),
        ("", ean13(2), "4", "", ""),
    ]
    rig.take("balances", rig.file("b.csv", *lots))
    return rig


def by_external_id(rig: MovingRig) -> dict[str, Any]:
    """Return personal data and lots of each member by the id of the old system."""
    lots = rig.lots()
    found = {}
    for row in rig.rows("SELECT account_id, data FROM personal.member"):
        told = PERSONAL.decrypt(row["account_id"], row["data"])
        found[told.attributes["external_id"]] = (told, lots.get(row["account_id"]))
    return found


def test_what_leaves_comes_in_again_as_it_was(new_database: Callable[[], str], tmp_path: Path) -> None:
    rig = populated(new_database(), tmp_path)
    folder = exported(rig, "out")
    other = MovingRig(new_database(), tmp_path)
    for kind, rows in (("members", 2), ("balances", 4)):
        report = other.take(kind, folder / f"{kind}.csv")
        assert (report.imported, report.rejected) == (rows, 0), report.first_rejects
        assert other.take(kind, folder / f"{kind}.csv").already == rows
    before, after = by_external_id(rig), by_external_id(other)
    # The account of a card without a member has a name now, made of its number.
    (made,) = after.keys() - before.keys()
    assert made.startswith("account-")
    assert after.pop(made)[1] is not None
    assert after == before
    assert other.verify().balance == rig.verify().balance == 1_957
    assert sum(len(lots) for lots in other.lots().values()) == 4


def test_the_manifest_tells_what_lies_in_the_files(postgres_url: str, tmp_path: Path) -> None:
    rig = populated(postgres_url, tmp_path)
    folder = exported(rig, "out")
    manifest = json.loads((folder / MANIFEST).read_text())
    assert manifest["sums"] == {
        "accounts": 3, "balance": 1_957, "held": 0, "owed": 0, "lots": 1_957, "entries": 4, "entries_points": 1_957,
    }  # fmt: skip
    assert manifest["files"].keys() == {file.name for file in folder.iterdir()} - {MANIFEST}
    for name, told in manifest["files"].items():
        data = (folder / name).read_bytes()
        assert hashlib.sha256(data).hexdigest() == told["sha256"]
        assert len(read(folder / name)) == told["rows"]
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert any("card numbers are not known" in note for note in manifest["notes"])
    assert read(folder / "partners.csv")[0]["name"] == "Harvest, Foods"
    assert read(folder / "stores.csv")[0]["name"] == "Mühlstraße"
    terminal, relay = read(folder / "terminals.csv")
    assert (terminal["code"], terminal["permitted"]) == ("till-1", "16 17")
    assert (relay["code"], relay["permitted"]) == ("relay-1", "18 20")
    (relay,) = read(folder / "relays.csv")
    assert (relay["terminal_id"], relay["generation"], relay["allowance_points"]) == ("2", "1", "700")
    (conflict,) = read(folder / "conflicts.csv")
    assert (conflict["op"], conflict["outcome"], conflict["masked"]) == ("21", "105", "****0015")
    assert conflict["note"] == "Щукина was called"
    assert json.loads(read(folder / "rules.csv")[0]["rules"])["earn_rate_bp"] == 500
    assert {row["op"] for row in read(folder / "entries.csv")} == {"adjust"}
    everything = b"".join(file.read_bytes() for file in folder.iterdir())
    key = relay_key(MASTER, "relay-1", 1)
    assert not any(text.encode() in everything for text in (key.hex(), base64.urlsafe_b64encode(key).decode()[:40]))
    assert ean13(1).encode() not in everything
    assert not {"salt", "stored_key", "server_key"} & set(terminal)
    actions = [row["action"] for row in rig.rows("SELECT action FROM office.audit ORDER BY audit_id")]
    assert actions[-1] == "export.personal"


def test_without_being_asked_for_no_personal_data_leave(postgres_url: str, tmp_path: Path) -> None:
    rig = populated(postgres_url, tmp_path)
    folder = exported(rig, "out", personal=False)
    everything = "".join(file.read_text("utf-8") for file in folder.iterdir())
    for word in ("Алёна", "Щукина", "a@example.org", "1990-12-31", "Zo"):
        assert word not in everything
    assert {row["external_id"] for row in read(folder / "members.csv")} <= {f"account-{n}" for n in range(20)}
    assert "given_name" in read(folder / "members.csv")[0]["kept"]
    with pytest.raises(OperatorError, match="not empty"):
        exported(rig, "out")


def test_the_command_says_what_it_wrote(postgres_url: str, tmp_path: Path) -> None:
    variables = installation(tmp_path, postgres_url)
    done = tillwire("export", "--output", str(tmp_path / "out"), **variables)
    assert (done.returncode, done.stderr) == (0, "")
    assert "accounts.csv: 0 rows" in done.stdout
    assert json.loads((tmp_path / "out" / MANIFEST).read_text())["sums"]["accounts"] == 0
