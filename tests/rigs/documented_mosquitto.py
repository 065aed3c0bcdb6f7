"""A Mosquitto that runs on the very lines of docs/mqtt.md."""

import os
import re
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest

from server.engines import binaries
from server.engines.broker import _mosquitto_hash
from server.engines.child import Child
from server.engines.ports import LOOPBACK, free_port
from tests.rigs.relay_rig import Headquarters

DOCS = (Path(__file__).parents[2] / "docs" / "mqtt.md").read_text("utf-8")
HEADQUARTERS = "tillwire"
_START_S = 20.0


def file_of(name: str) -> str:
    """Return a file as the documentation has it."""
    found = re.search(rf"^```conf\n# {name}\n(.*?)^```$", DOCS, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


@contextmanager
def documented_mosquitto(folder: Path, users: Iterable[str]) -> Iterator[int]:
    """Run it without its certificates, in another folder and on another port, which is given.

    Everybody's password is his name.
    """
    program = binaries.find_mosquitto()
    if program is None:
        pytest.skip("Mosquitto is not installed on this system")
    configuration = file_of("/etc/mosquitto/conf.d/tillwire.conf")
    assert configuration.count("/etc/mosquitto/") == 5
    lines = [line for line in configuration.splitlines() if not line.startswith(("cafile", "certfile", "keyfile"))]
    if os.geteuid() == 0:
        # As root it would switch to a user that cannot read this folder.
        lines.append("user root")
    port = free_port()
    text = "\n".join([*lines, "log_dest stderr", ""]).replace("/etc/mosquitto", str(folder))
    passwords = "".join(f"{user}:{_mosquitto_hash(user)}\n" for user in users)
    files = {
        "tillwire.conf": text.replace("listener 8883", f"listener {port} {LOOPBACK}"),
        "tillwire.passwords": passwords,
        "tillwire.acl": file_of("/etc/mosquitto/tillwire.acl"),
    }
    for name, content in files.items():
        (folder / name).write_text(content)
        (folder / name).chmod(0o600)
    child = Child([str(program.path), "-c", str(folder / "tillwire.conf")], folder / "server.log", signal.SIGTERM)
    try:
        _wait_ready(child, port)
        yield port
    finally:
        child.end((signal.SIGTERM, 15.0))


@asynccontextmanager
async def behind_documented_mosquitto(hq: Headquarters, folder: Path) -> AsyncIterator[int]:
    """Prepare headquarters whose broker it is; each relay has its user there. Gives the port."""
    await hq.prepare()
    with documented_mosquitto(folder, [HEADQUARTERS, *[user_of(hq, code) for code in hq.credentials]]) as port:
        hq.mqtt_url = f"mqtt://{HEADQUARTERS}:{HEADQUARTERS}@{LOOPBACK}:{port}"
        yield port


def user_of(hq: Headquarters, code: str) -> str:
    """Return the name, and password, of a relay's user."""
    credential = hq.credentials[code]
    return f"{credential.network}/{credential.store}/{credential.code}"


def url_of(hq: Headquarters, code: str) -> str:
    """Return the broker's URL for a relay."""
    user = quote(user_of(hq, code), safe="")
    return f"mqtt://{user}:{user}@{hq.mqtt_url.rpartition('@')[2]}"


def _wait_ready(child: Child, port: int) -> None:
    deadline = time.monotonic() + _START_S
    while True:
        assert child.alive, child.last_words()
        try:
            socket.create_connection((LOOPBACK, port), timeout=1).close()
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        else:
            return
