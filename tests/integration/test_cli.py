import json
import os
import signal
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from server.engines.embedded import attached
from server.engines.ports import free_port
from server.engines.processes import is_running
from server.settings import Settings

CHECKOUT = Path(__file__).parents[2]
BARE = {name: value for name, value in os.environ.items() if not name.startswith("TILLWIRE_")}


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
    assert "Traceback" not in done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("tillwire: ")
    return line


def test_help_says_which_setting_wins() -> None:
    done = tillwire("--help")
    assert done.returncode == 0
    assert "TILLWIRE_CONFIG" in done.stdout
    for command in ("up", "serve", "migrate", "verify", "health", "settings", "secrets"):
        assert f"  {command} " in done.stdout


def test_settings_shows_values_and_where_they_came_from(tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text("in_flight_max = 7")
    done = tillwire(
        "--config",
        str(config),
        "--set",
        "workers=2",
        "settings",
        "--json",
        TILLWIRE_POSTGRES_URL="postgresql://u:sesame@h/d",
    )
    shown = json.loads(done.stdout)
    assert shown["workers"] == {"value": 2, "origin": "command line"}
    assert shown["in_flight_max"] == {"value": 7, "origin": f"file {config}"}
    assert shown["postgres_url"]["origin"] == "environment TILLWIRE_POSTGRES_URL"
    assert "sesame" not in done.stdout
    assert tillwire("settings", "--markdown").stdout == (CHECKOUT / "docs" / "settings.md").read_text()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--set", "wrokers=2", "settings"), "did you mean workers"),
        (("--set", "workers", "settings"), "name=value"),
        (("--config", "/nowhere.toml", "settings"), "cannot be read"),
        (("serve",), "TILLWIRE_POSTGRES_URL"),
        (("verify",), "TILLWIRE_POSTGRES_URL"),
        (("--set", "admin_port=1", "health"), "no server answers"),
        (("--set", "postgres_url=postgresql://127.0.0.1:1/x", "migrate"), "PostgreSQL cannot be used"),
        (("--set", "postgres_url=nonsense", "migrate"), "PostgreSQL cannot be used"),
    ],
)
def test_mistakes_get_one_sentence(tmp_path: Path, words: tuple[str, ...], expected: str) -> None:
    assert expected in sentence(tillwire("--data-dir", str(tmp_path), *words))


def test_keys_are_made_once(tmp_path: Path) -> None:
    made = tillwire("--data-dir", str(tmp_path), "secrets", "create")
    assert made.returncode == 0
    assert not any(key in made.stdout for key in tomllib.loads((tmp_path / "secrets.toml").read_text()).values())
    assert "not replaced" in sentence(tillwire("--data-dir", str(tmp_path), "secrets", "create"))
    shown = tillwire("--data-dir", str(tmp_path), "secrets", "fingerprint", "--json")
    assert len(json.loads(shown.stdout)["fingerprint"]) == 16


def test_migrate_twice(empty_postgres_url: str) -> None:
    first = tillwire("migrate", "--json", TILLWIRE_POSTGRES_URL=empty_postgres_url)
    assert json.loads(first.stdout)["applied"]
    assert json.loads(tillwire("migrate", "--json", TILLWIRE_POSTGRES_URL=empty_postgres_url).stdout) == {"applied": []}
    assert tillwire("migrate", TILLWIRE_POSTGRES_URL=empty_postgres_url).stdout == "nothing to do\n"


def test_nobody_serves_on_a_database_of_an_earlier_release(empty_postgres_url: str, valkey_url: str) -> None:
    urls = {"TILLWIRE_POSTGRES_URL": empty_postgres_url, "TILLWIRE_REDIS_URL": valkey_url}
    refused = tillwire("serve", **urls)
    assert (refused.returncode != 0, len(refused.stderr.splitlines())) == (True, 1)
    assert "tillwire migrate" in refused.stderr


def test_a_stranger_on_the_admin_port_is_not_taken_for_tillwire() -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        with subprocess.Popen(
            [sys.executable, "-m", "server.cli", "--set", f"admin_port={port}", "health"],
            stderr=subprocess.PIPE,
            text=True,
            cwd=CHECKOUT,
            env=BARE,
        ) as asking:
            connection, _ = stranger.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
            assert asking.stderr is not None
            assert "is not Tillwire" in asking.stderr.read()
        assert asking.returncode == 1


def up_variables(folder: Path) -> dict[str, str]:
    ports = ("EMBEDDED_POSTGRES_PORT", "EMBEDDED_VALKEY_PORT", "EMBEDDED_BROKER_PORT", "ADMIN_PORT")
    return {
        **BARE,
        **{f"TILLWIRE_{name}": str(free_port()) for name in ports},
        "TILLWIRE_LISTEN_PORT": "0",
        "TILLWIRE_DATA_DIR": str(folder),
        "TILLWIRE_STATUS_INTERVAL_MS": "50",
        "PYTHONPATH": str(CHECKOUT),
    }


def start_up(variables: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "server.cli", "up", "--workers", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=CHECKOUT,
        env=variables,
        start_new_session=True,
    )


def banner_of(up: subprocess.Popen[str]) -> str:
    assert up.stdout is not None
    assert up.stderr is not None
    lines: list[str] = []
    for line in up.stdout:
        lines.append(line)
        if line.strip().endswith("verify"):
            return "".join(lines)
    raise AssertionError(f"it ended early: {up.stderr.read()}")


def test_up_serves_stops_and_comes_up_again_after_kill_9(own_folder: Path) -> None:
    variables = up_variables(own_folder / "data")
    settings = Settings(data_dir=own_folder / "data")
    with start_up(variables) as up:
        try:
            text = banner_of(up)
            for word in (
                "registers",
                "console",
                "/invitation/twi_",
                "PostgreSQL",
                "Valkey",
                "MQTT",
                "2000000000015",
                str(own_folder / "data"),
            ):
                assert word in text
            assert attached(settings).postgres_url is not None
            beside = {name: value for name, value in variables.items() if name.startswith("TILLWIRE_")}
            # Workers may still be sharing out the partitions among themselves.
            while (shown := tillwire("health", **beside).stdout) != "serving\n":
                assert "partition" in shown
            health = json.loads(tillwire("health", "--json", **beside).stdout)
            assert (health["ready"], len(health["workers"]), health["down"]) == (True, 2, [])
            verified = json.loads(tillwire("verify", "--json", **beside).stdout)
            assert verified["clean"] is True
            keys = tillwire("secrets", "fingerprint", **beside).stdout
            second = tillwire("up", "--listen-port", "0", **beside)
            assert second.returncode == 1
            assert "another tillwire" in second.stderr.splitlines()[-1]
        finally:
            up.kill()
    assert attached(settings).postgres_url is None, "a dead one is not attached to"
    with start_up(variables) as up:
        try:
            banner_of(up)
            assert tillwire("secrets", "fingerprint", **beside).stdout == keys
        finally:
            os.killpg(up.pid, signal.SIGINT)
        assert up.wait(60) == 0
        assert up.stderr is not None
        assert "Traceback" not in up.stderr.read()
    assert not (own_folder / "data" / "urls.json").exists()
    log = (own_folder / "data" / "postgresql" / "server.log").read_text()
    assert log.rstrip().endswith("database system is shut down")


def test_up_interrupted_while_starting_leaves_nothing_behind(own_folder: Path) -> None:
    with start_up(up_variables(own_folder / "data")) as up:
        assert up.stderr is not None
        assert "starting" in up.stderr.readline()
        up.send_signal(signal.SIGINT)
        assert up.wait(60) == 130
        assert "Traceback" not in up.stderr.read()


def test_engines_run_alone_until_told_to_stop(own_folder: Path) -> None:
    folder = own_folder / "data"
    variables = up_variables(folder)
    command = [sys.executable, "-m", "server.cli", "engines", "--data-dir", str(folder), "--json"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=CHECKOUT, env=variables
    ) as running:
        try:
            assert running.stdout is not None
            ready = json.loads(running.stdout.readline())
            assert ready["postgres_url"].endswith(f"@127.0.0.1:{variables['TILLWIRE_EMBEDDED_POSTGRES_PORT']}/tillwire")
            assert is_running(ready["postgres_pid"])
            assert is_running(ready["valkey_pid"])
            assert ready["mqtt_url"].startswith("mqtt://")
            assert ready["postgres_bin"] is None or (Path(ready["postgres_bin"]) / "pgbench").is_file()
            # Other commands find them, and they are migrated.
            beside = {"TILLWIRE_DATA_DIR": str(folder)}
            assert json.loads(tillwire("migrate", "--json", **beside).stdout) == {"applied": []}
            os.kill(ready["valkey_pid"], signal.SIGKILL)
        finally:
            running.send_signal(signal.SIGTERM)
        assert running.wait(60) == 0
        assert running.stderr is not None
        assert running.stderr.read().splitlines() == ["starting the engines ...", "stopping the engines ..."]
    assert not is_running(ready["postgres_pid"])
    assert not (folder / "urls.json").exists()
    assert (folder / "postgresql" / "server.log").read_text().rstrip().endswith("database system is shut down")
