"""What the admin process serves beside real workers: health, figures and proofs, over TLS, and whatever is away."""

import asyncio
import ssl
import sys
from pathlib import Path

import asyncpg
import httpx
import pytest

from server.commands.serving import run_server
from server.engines.postgres import EmbeddedPostgres
from server.errors import OperatorError
from server.settings import Settings
from tests.rigs.certificates import certificate
from tests.rigs.server_rig import SECRETS, card, receipt, set_up
from tests.rigs.site_rig import Site, site, site_on, until

__all__ = ["site"]


async def test_health_and_metrics_are_where_they_were(site: Site) -> None:
    async with site.client() as client, site.tills(1) as tills:
        await tills[0].balance(card(1))
        live, ready = await client.get("/health/live"), await client.get("/health/ready")
        assert (live.status_code, live.json()) == (200, {"live": True})
        assert (ready.status_code, ready.json()["state"], ready.json()["down"]) == (200, "serving", [])
        assert ready.json()["admin"]["state"] == "ready"
        assert "server" not in ready.headers

        async def counted() -> bool:
            text = (await client.get("/metrics")).text
            return 'tillwire_answers_total{operation="BALANCE",outcome="APPROVED"} 1.0' in text

        await until(counted)


async def test_health_is_told_before_any_engine_is_there(tmp_path: Path) -> None:
    nowhere = {"postgres_timeout_ms": 500}
    async with site_on("postgresql://127.0.0.1:1/none", "redis://127.0.0.1:1/0", tmp_path, **nowhere) as site:
        async with httpx.AsyncClient(base_url=site.base, timeout=30, trust_env=False) as client:
            ready = await client.get("/health/ready")
            assert ready.status_code == 503
            assert (await client.get("/health/live")).status_code == 200
            refused = await client.get("/v1/operations/live", headers={"authorization": "Bearer x"})
            assert (refused.status_code, refused.headers["content-type"]) == (503, "application/problem+json")
        await until(lambda: site.admin["down"] == ["postgres"])


async def test_a_database_without_tables_does_not_keep_health_from_being_told(
    empty_postgres_url: str, valkey_url: str, tmp_path: Path
) -> None:
    async with site_on(empty_postgres_url, valkey_url, tmp_path) as site:
        async with httpx.AsyncClient(base_url=site.base, timeout=30, trust_env=False) as client:
            assert (await client.get("/health/live")).status_code == 200
            await until(lambda: site.admin["state"] == "ready")
            await set_up(empty_postgres_url)
            await site.until_ready()
            await until(lambda: site.admin["down"] == [])
        assert site.admin["restarts"] == 0


async def test_without_postgresql_health_tells_and_the_interface_refuses(
    own_postgres: EmbeddedPostgres, valkey_url: str, tmp_path: Path
) -> None:
    await set_up(own_postgres.url)
    limits = {"postgres_timeout_ms": 1_000, "postgres_silence_ms": 500}
    async with site_on(own_postgres.url, valkey_url, tmp_path, **limits) as site, site.client() as client:
        await site.until_ready()
        assert (await client.get("/v1/operations/live")).status_code == 200
        own_postgres.stop()
        await until(lambda: site.admin["down"] == ["postgres"])
        refused = await client.get("/v1/operations/live")
        assert (refused.status_code, refused.headers["content-type"]) == (503, "application/problem+json")
        assert (await client.get("/health/live")).status_code == 200
        assert (await client.get("/health/ready")).status_code in (200, 503)
        await asyncio.to_thread(own_postgres.start)

        async def back() -> bool:
            return (await client.get("/v1/operations/live")).status_code == 200

        await until(back)
        assert site.admin["restarts"] == 0


async def test_a_drain_is_told_to_the_end(site: Site) -> None:
    async with site.client() as client:
        async with site.tills(1) as tills:
            await tills[0].balance(card(1))
            drained = await client.post("/v1/operations/drain", headers={"idempotency-key": "one"})
            assert drained.status_code == 202
            states = set()
            while not site.running.done():
                try:
                    states.add((await client.get("/health/ready")).json()["state"])
                except httpx.TransportError:
                    break
            assert states <= {"serving", "draining"}
            assert "draining" in states
        assert await site.running == 0


async def test_the_books_are_proved_in_a_process_of_their_own(site: Site) -> None:
    async with site.client() as client, site.tills(1) as tills:
        await tills[0].earn(card(1), receipt(1_000))
        assert (await client.get("/v1/operations/verify")).json()["state"] == "none"
        begun = (await client.post("/v1/operations/verify", headers={"idempotency-key": "one"})).json()

        async def ended() -> bool:
            return bool((await client.get("/v1/operations/verify")).json()["state"] != "running")

        await until(ended)
        proof = (await client.get("/v1/operations/verify")).json()
        assert (proof["id"], proof["state"], proof["done"]) == (begun["id"], "clean", proof["total"])
        assert proof["findings"]["balance"] == 1_000
        connection = await asyncpg.connect(site.postgres_url)
        try:
            await connection.execute("UPDATE account SET balance = balance + 1 WHERE balance > 0")
        finally:
            await connection.close()
        await client.post("/v1/operations/verify", headers={"idempotency-key": "two"})
        await until(ended)
        proof = (await client.get("/v1/operations/verify")).json()
        assert proof["state"] == "not clean"
        assert proof["id"] != begun["id"]


async def test_the_admin_port_speaks_tls_with_a_certificate(postgres_url: str, valkey_url: str, tmp_path: Path) -> None:
    await set_up(postgres_url)
    cert, key = certificate(tmp_path, "admin")
    tls = {"admin_tls_cert_file": cert, "admin_tls_key_file": key}
    async with site_on(postgres_url, valkey_url, tmp_path, **tls) as site:
        await site.until_ready()
        site.base = site.base.replace("127.0.0.1", "localhost")
        async with site.client(verify=ssl.create_default_context(cafile=str(cert))) as client:
            assert (await client.get("/health/ready")).status_code == 200
        asked = [sys.executable, "-m", "server.cli", "--set", f"admin_port={site.base.rpartition(':')[2]}"]
        words = [*asked, "--set", f"admin_tls_cert_file={cert}", "--set", f"admin_tls_key_file={key}", "health"]
        process = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
        assert (await process.communicate())[0] == b"serving\n"


def test_tls_files_that_cannot_be_used_are_refused_at_once(tmp_path: Path) -> None:
    cert, _ = certificate(tmp_path, "admin")
    settings = Settings(admin_tls_cert_file=cert, admin_tls_key_file=tmp_path / "none.pem")
    with pytest.raises(OperatorError, match="admin_tls_key_file"):
        run_server(settings, SECRETS)
