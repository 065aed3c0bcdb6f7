"""docs/admin-api.md: what it prints works, in the order in which it is printed."""

import asyncio
import json
import os
import re
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvicorn

from tests.rigs.office_rig import OfficeRig
from tests.rigs.people import PASSWORD, accepted, invited

PAGE = Path(__file__).parents[2] / "docs" / "admin-api.md"


def commands() -> str:
    """Return all commands of the page but the first block, which says who somebody is."""
    _who, *blocks = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    return "set -euo pipefail\n" + "\n".join(blocks)


@asynccontextmanager
async def listening(rig: OfficeRig, server_socket: socket.socket) -> AsyncIterator[None]:
    server = uvicorn.Server(uvicorn.Config(rig.app, log_config=None, lifespan="off", ws="none"))
    serving = asyncio.create_task(server.serve([server_socket]))
    try:
        yield
    finally:
        server.should_exit = True
        await serving


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_every_command_of_the_page_works(postgres_url: str, valkey_url: str, own_folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server_socket:
        rig = OfficeRig(postgres_url, valkey_url)
        rig.console_url = f"http://127.0.0.1:{server_socket.getsockname()[1]}"
        async with rig.running(), listening(rig, server_socket):
            owner = await invited(rig.office)
            async with rig.anonymous() as client:
                await accepted(rig, owner, client)
            who = {
                "ADMIN": rig.console_url,
                "EMAIL": owner.email,
                "PASSWORD": PASSWORD,
                "CODE": owner.code(rig.office),
            }
            shell = await asyncio.create_subprocess_exec(
                "bash", "-c", commands(), cwd=own_folder, env={"PATH": os.environ["PATH"], **who},
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
            told, complaints = await shell.communicate()
            assert (shell.returncode, complaints) == (0, b""), told.decode()[-2_000:]
            answers = [json.loads(line) for line in told.decode().replace("}{", "}\n{").splitlines() if line]
            assert len(answers) > 10
            found = next(answer for answer in answers if answer.get("note") == "")
            assert found["entry"]["points"] == 1500
            await rig.verify()
