"""The documentation's register, which knows nothing of Tillwire's code, asks a real server over a real Mosquitto."""

import ast
import asyncio
import os
import shutil
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.rigs.documented_mosquitto import DOCS, behind_documented_mosquitto, url_of, user_of
from tests.rigs.relay_rig import Headquarters, approved, card, earn

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


@pytest.fixture
async def hq(postgres_url: str, valkey_url: str, own_folder: Path, tmp_path: Path) -> AsyncIterator[Headquarters]:
    """Headquarters behind the Mosquitto of docs/mqtt.md; the first card has 50.00 points."""
    if shutil.which("mosquitto_pub") is None or shutil.which("mosquitto_sub") is None:
        pytest.skip("mosquitto_pub and mosquitto_sub are not installed on this system")
    made = Headquarters(postgres_url, valkey_url, "", tmp_path)
    async with behind_documented_mosquitto(made, own_folder), made.worker():
        async with made.relay(url=url_of(made, "R-1")) as relay:
            approved(await relay.ask(earn()))
        yield made
    await made.verify()


async def ask(hq: Headquarters, folder: Path, code: str, *arguments: str) -> tuple[int | None, str, str]:
    """Run the shell example as this relay; return its exit status and what it printed."""
    credential = hq.credentials[code]
    user = user_of(hq, code)
    options = f"-h 127.0.0.1\n-p {hq.mqtt_url.rpartition(':')[2]}\n-u {user}\n-P {user}\n"
    for program in ("mosquitto_pub", "mosquitto_sub"):
        (folder / program).write_text(options)
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHON": sys.executable,
        "XDG_CONFIG_HOME": str(folder),
        "TMPDIR": str(folder),
        "TILLWIRE_RELAY_CREDENTIAL": str(credential),
    }
    process = await asyncio.create_subprocess_exec(
        "sh", str(EXAMPLES / "mqtt_balance.sh"), *arguments, cwd=folder, env=environment, stdout=PIPE, stderr=PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert {path.name for path in folder.iterdir()} == {"mosquitto_pub", "mosquitto_sub"}
    return process.returncode, out.decode(), err.decode()


async def test_the_shell_example_asks_for_a_balance(hq: Headquarters, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("register")
    number = card(0).value
    assert await ask(hq, folder, "R-1", "T-1", number) == (0, "outcome 0, available 5000, pending 0\n", "")
    assert "outcome 0, available 1250, pending 100\n" in DOCS
    # A session is used once; the next one is a new one.
    assert await ask(hq, folder, "R-1", "T-2", number) == (0, "outcome 0, available 5000, pending 0\n", "")
    assert await ask(hq, folder, "R-1", "T-1", "2000000000017") == (0, "outcome 102\n", "")


async def test_a_register_of_another_store_is_refused(
    hq: Headquarters, tmp_path_factory: pytest.TempPathFactory
) -> None:
    status, told, _ = await ask(hq, tmp_path_factory.mktemp("register"), "R-2", "T-1", card(0).value)
    assert (status, told.partition(":")[0]) == (0, "error 1")


def test_the_example_stands_on_its_own() -> None:
    text = (EXAMPLES / "mqtt_register.py").read_text("utf-8")
    imported = {
        (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name).partition(".")[0]  # type: ignore[union-attr]
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert imported - sys.stdlib_module_names == {"cryptography", "msgpack"}
    assert len(text.splitlines()) < 150
    for option in ("mosquitto_pub -q 1 -s", "-F %p"):
        assert option in (EXAMPLES / "mqtt_balance.sh").read_text("utf-8")
