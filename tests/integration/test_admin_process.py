"""The admin process is killed, hangs, dies with its supervisor or is short of memory, and takes nobody along."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import asyncpg
import httpx
import pytest

from protocol.codes import Outcome
from server.engines.processes import command_of, descendants, is_running
from tests.rigs.server_rig import PARTITIONS, SECRETS, card, receipt, set_up
from tests.rigs.site_rig import Site, site, site_on, until

__all__ = ["site"]

DRIVER = """
import asyncio, sys
from server.observation.logs import configure_logging
from server.secrets import Secrets
from server.settings import Settings
from server.settings_load import to_handover
from server.workers.supervisor import Supervisor
import json
configure_logging("info")
given = json.loads(sys.stdin.readline())
supervisor = Supervisor(Settings.model_validate(given["settings"]), Secrets.from_handover(given["secrets"]))
supervisor.bind()
_, port = supervisor.bind_admin()
supervisor.on_ready = lambda: print(port, supervisor.health()["admin"]["pid"], flush=True)
sys.exit(asyncio.run(supervisor.run()))
"""


async def test_the_supervisor_holds_no_http(site: Site) -> None:
    code = "import server.workers.supervisor, server.commands.serving, sys; print(*sys.modules)"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    loaded = set((await process.communicate())[0].decode().split())
    assert not loaded & {"uvicorn", "fastapi", "starlette", "jinja2"}


async def killed_while_streaming(client: httpx.AsyncClient, victim: int) -> None:
    async with client.stream("GET", "/v1/operations/events") as stream:
        async for line in stream.aiter_lines():
            assert line == "event: live" or line.startswith("data: ") or not line
            if is_running(victim):
                os.kill(victim, signal.SIGKILL)


async def test_a_killed_admin_process_is_replaced_and_registers_notice_nothing(site: Site) -> None:
    async with site.client() as client, site.tills(4) as tills:
        victim = site.admin["pid"]
        connected = sum(w["detail"]["connections"] for w in site.supervisor.health()["workers"])
        selling = [asyncio.create_task(tills[n % 4].earn(card(n), receipt(1_000))) for n in range(40)]
        with pytest.raises(httpx.TransportError):
            await killed_while_streaming(client, victim)
        assert {reply.outcome for reply in await asyncio.gather(*selling)} == {Outcome.APPROVED}
        # Who connects while nobody accepts waits in the backlog.
        assert (await client.get("/health/ready")).json()["ready"]
        await until(lambda: site.admin["state"] == "ready")
        assert site.admin["pid"] != victim
        assert site.admin["restarts"] == 1
        assert site.supervisor.health()["restarts"] == 0
        assert connected <= sum(w["detail"]["connections"] for w in site.supervisor.health()["workers"])
        assert (await client.get("/v1/operations/live")).status_code == 200


async def test_an_admin_process_that_hangs_is_killed_and_replaced(
    postgres_url: str, valkey_url: str, tmp_path: Path
) -> None:
    await set_up(postgres_url)
    limits = {"worker_silent_after_ms": 500, "admin_kill_after_ms": 1_000}
    async with site_on(postgres_url, valkey_url, tmp_path, **limits) as site, site.client() as client:
        await site.until_ready()
        victim = site.admin["pid"]
        os.kill(victim, signal.SIGSTOP)
        await until(lambda: "admin" in site.supervisor.health()["down"])
        assert site.supervisor.health()["ready"]
        async with site.tills(1) as tills:
            assert (await tills[0].earn(card(1), receipt(1_000))).outcome == Outcome.APPROVED
        await until(lambda: site.admin["restarts"] and site.admin["state"] == "ready")
        assert not is_running(victim)
        assert (await client.get("/v1/operations/live")).status_code == 200


async def is_free(port: int) -> bool:
    try:
        (await asyncio.start_server(lambda *_: None, "127.0.0.1", port)).close()
    except OSError:
        return False
    return True


async def test_the_admin_process_dies_with_its_supervisor_and_frees_the_port(
    postgres_url: str, valkey_url: str, tmp_path: Path
) -> None:
    await set_up(postgres_url)
    settings = {
        "listen_port": 0, "admin_port": 0, "partitions": PARTITIONS, "postgres_url": postgres_url,
        "redis_url": valkey_url, "data_dir": str(tmp_path), "status_interval_ms": 50,
    }  # fmt: skip
    given = httpx.Response(200, json={"settings": settings, "secrets": SECRETS.to_handover()}).content + b"\n"
    pipe = asyncio.subprocess.PIPE
    driver = await asyncio.create_subprocess_exec(sys.executable, "-c", DRIVER, stdin=pipe, stdout=pipe)
    assert driver.stdin is not None
    assert driver.stdout is not None
    driver.stdin.write(given)
    port, pid = (int(word) for word in (await driver.stdout.readline()).split())
    driver.kill()
    await driver.wait()
    await until(lambda: not is_running(pid))
    # Its siblings go at the same time, and one that was just being started has the port as well.
    async with asyncio.timeout(30):
        while not await is_free(port):
            await asyncio.sleep(0.05)


async def test_a_proof_dies_with_the_admin_process(site: Site) -> None:
    # A lock that the proof waits for keeps it running for as long as the test needs it.
    connection = await asyncpg.connect(site.postgres_url)
    try:
        async with site.client() as client, connection.transaction():
            await connection.execute("LOCK TABLE entry IN ACCESS EXCLUSIVE MODE")
            await client.post("/v1/operations/verify", headers={"idempotency-key": "one"})
            admin = site.admin["pid"]

            def proofs() -> list[int]:
                return [pid for pid in descendants(admin) if "proof_process" in command_of(pid)]

            await until(proofs)
            (proof,) = proofs()
            again = await client.post("/v1/operations/verify", headers={"idempotency-key": "two"})
            assert again.json()["state"] == "running"
            assert proofs() == [proof]
            os.kill(admin, signal.SIGKILL)
            await until(lambda: not is_running(proof))
    finally:
        await connection.close()


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels do not count what is mapped")
async def test_memory_past_the_bound_fails_in_the_process_itself() -> None:
    code = "from server.workers.admin_process import _bound_memory as b; b(2**29); bytearray(2**28); bytearray(2**30)"
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stderr=pipe)
    assert b"MemoryError" in (await process.communicate())[1]
