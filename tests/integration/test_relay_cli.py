"""The command `tillwire relay` as an operator types it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from ledger.clock import SystemClock
from protocol.codes import CardKind, Message, Outcome
from protocol.messages import LENGTH_BYTES, encode
from protocol.relay_keys import RelayCredential
from protocol.requests import Card, EarnRequest, Receipt
from server.relay.relay import HEARTBEAT
from server.relay.store import Store
from server.relay.store_rows import Advice, Finish, StoreLimits

CHECKOUT = Path(__file__).parents[2]
BARE = {name: value for name, value in os.environ.items() if not name.startswith("TILLWIRE_")}
CREDENTIAL = str(RelayCredential("net", "store", "R-1", 1, b"k" * 32))
CARD = Card(CardKind.EAN13, "2000000000015")


def tillwire(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "server.cli", *words],
        capture_output=True,
        text=True,
        cwd=CHECKOUT,
        env={**BARE, "PYTHONPATH": str(CHECKOUT), **variables},
        timeout=60,
        check=False,
    )


def sentence(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode not in (0, 70)
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("tillwire: ")
    return line


@pytest.mark.parametrize(
    ("words", "variables", "expected"),
    [
        (("relay", "run"), {}, "no credential"),
        (("relay", "run"), {"TILLWIRE_RELAY_CREDENTIAL": "nonsense"}, "tillwire-relay-1/"),
        (("relay", "run"), {"TILLWIRE_RELAY_CREDENTIAL_FILE": "/nowhere"}, "cannot be read"),
        (("relay", "run"), {"TILLWIRE_RELAY_CREDENTIAL": CREDENTIAL}, "TILLWIRE_RELAY_MQTT_URL"),
        (("--set", f"credential={CREDENTIAL}", "relay", "run"), {}, "must not stand on a command line"),
        (("--set", "listen_port=70000", "relay", "run"), {"TILLWIRE_RELAY_CREDENTIAL": CREDENTIAL}, "listen_port"),
        (("--set", "queu_max=1", "relay", "run"), {}, "did you mean queue_max"),
        (("relay", "run"), {"TILLWIRE_RELAY_TLS_KEY_FILE": "k.pem"}, "set together"),
        (
            ("relay", "run"),
            {"TILLWIRE_RELAY_CREDENTIAL": CREDENTIAL, "TILLWIRE_RELAY_MQTT_URL": "http://broker"},
            "mqtt://user:password@host:port",
        ),
        (("relay", "status"), {}, "no relay's store"),
        (("relay", "conflicts"), {}, "no relay's store"),
    ],
)
def test_mistakes_get_one_sentence(
    tmp_path: Path, words: tuple[str, ...], variables: dict[str, str], expected: str
) -> None:
    said = sentence(tillwire("--data-dir", str(tmp_path / "relay"), *words, **variables))
    assert expected in said
    assert CREDENTIAL.rsplit("/", 1)[1] not in said


def test_the_table_of_the_file_is_the_relay_s_and_the_rest_the_server_s(tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text(f'workers = 2\n[relay]\ndata_dir = "{tmp_path / "elsewhere"}"\n')
    assert "elsewhere" in sentence(tillwire("--config", str(config), "relay", "status"))
    assert tillwire("--config", str(config), "settings").returncode == 0
    config.write_text("[relay]\nworkers = 2\n")
    assert "there is no setting 'workers'" in sentence(tillwire("--config", str(config), "relay", "status"))


def test_variables_of_a_relay_are_no_unknown_ones_of_the_server() -> None:
    shown = tillwire("settings", "--json", TILLWIRE_RELAY_QUEUE_MAX="5")
    assert shown.returncode == 0
    assert "queue_max" not in json.loads(shown.stdout)


def earn(number: int, taken_ms: int) -> Advice:
    request = EarnRequest(number.to_bytes(16), 0, CARD, Receipt(2_500, "EUR", "42"), None, taken_ms)
    message = encode(request)[LENGTH_BYTES:]
    return Advice(
        request.request_id, b"f" * 8, Message.EARN, b"c" * 16, "till-1", message, b"", taken_ms, taken_ms
    )  # fmt: skip


async def test_status_and_conflicts_are_told_of_a_relay_that_does_not_run(tmp_path: Path) -> None:
    now_ms = SystemClock().now_ms()
    store = await Store.open(tmp_path, StoreLimits())
    await store.take_many([earn(1, now_ms - 7_200_000), earn(2, now_ms - 60_000), earn(3, now_ms)])
    await store.finish([Finish((3).to_bytes(16), now_ms, outcome=int(Outcome.CARD_BLOCKED))])
    line = {"up": False, "since_ms": now_ms - 600_000, "reason": "the broker is away"}
    note = {"at_ms": now_ms - 60_000, "running": True, "relay": "R-1", "line": line, "roster_version": 3}
    await store.keep(HEARTBEAT, orjson.dumps(note))
    await store.close()
    shown = tillwire("--data-dir", str(tmp_path), "relay", "status", "--json")
    found = json.loads(shown.stdout)
    assert shown.returncode == 1
    assert (found["queued"], found["conflicts"], found["running"], found["good"]) == (2, 1, False, False)
    assert found["oldest_age_ms"] >= 7_200_000
    assert found["disk_free_bytes"] > 0
    assert any("oldest" in alarm for alarm in found["alarms"])
    told = tillwire("--data-dir", str(tmp_path), "relay", "status")
    assert "2 waiting, the oldest for 2 h" in told.stdout
    assert "not running" in told.stdout
    listed = tillwire("--data-dir", str(tmp_path), "relay", "conflicts")
    assert listed.returncode == 0
    assert "EARN" in listed.stdout
    assert "  amount 25.00 EUR  receipt 42: CARD_BLOCKED" in listed.stdout
    assert "points" not in listed.stdout
    assert CARD.value not in listed.stdout
    (conflict,) = json.loads(tillwire("--data-dir", str(tmp_path), "relay", "conflicts", "--json").stdout)["conflicts"]
    assert (conflict["operation"], conflict["amount"], conflict["terminal"]) == ("EARN", 2_500, "till-1")


@pytest.mark.parametrize(
    ("ahead_ms", "clock"),
    [
        (None, "headquarters' time is not known"),
        (-20, "as at headquarters"),
        (3_000, "3.0 s behind headquarters"),
        (-1_500, "1.5 s ahead of headquarters"),
    ],
)
async def test_status_compares_the_clocks(tmp_path: Path, ahead_ms: int | None, clock: str) -> None:
    store = await Store.open(tmp_path, StoreLimits())
    await store.keep(HEARTBEAT, orjson.dumps({"at_ms": 0, "running": True, "clock_ahead_ms": ahead_ms}))
    await store.close()
    assert f"clock       {clock}\n" in tillwire("--data-dir", str(tmp_path), "relay", "status").stdout


@pytest.mark.parametrize(
    ("changes", "alarm"),
    [
        ({}, None),
        ({"line": {"up": False, "since_ms": -60_000, "reason": "r"}}, None),
        ({"line": {"up": False, "since_ms": -600_000, "reason": "r"}}, "the line has been down"),
        ({"store_failing": "disk full"}, "cannot be written"),
        ({"running": False}, "does not run"),
        ({"at_ms": -60_000}, "does not run"),
        ({"roster_version": 0}, "who the registers are"),
    ],
)
async def test_status_exits_with_1_when_something_is_wrong_for_too_long(
    tmp_path: Path, changes: dict[str, object], alarm: str | None
) -> None:
    now_ms = SystemClock().now_ms()
    note: dict[str, object] = {
        "at_ms": 0, "running": True, "relay": "R-1", "roster_version": 3, "clock_ahead_ms": 0,
        "line": {"up": True, "since_ms": -1_000, "reason": ""},
    }  # fmt: skip
    note.update(changes)
    note["at_ms"] = now_ms + int(str(note["at_ms"]))
    line = note["line"]
    assert isinstance(line, dict)
    line["since_ms"] += now_ms
    store = await Store.open(tmp_path, StoreLimits())
    await store.keep(HEARTBEAT, orjson.dumps(note))
    await store.close()
    shown = tillwire("--data-dir", str(tmp_path), "relay", "status", "--json")
    assert shown.returncode == (0 if alarm is None else 1)
    alarms = json.loads(shown.stdout)["alarms"]
    assert len(alarms) == (alarm is not None)
    assert alarm is None or alarm in alarms[0]
