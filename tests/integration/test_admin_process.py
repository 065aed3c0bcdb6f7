"""The admin process beside real workers: what it serves, and that it takes nobody along whatever happens to it."""

import asyncio
import os
import secrets as random
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from admin_api.security.permissions import Permission
from ledger.clock import SystemClock
from ledger.journal.postgres import Postgres
from ledger.ledger import OBSERVER, Ledger
from ledger.operator_desk import Decided, OperatorDesk, Undecided
from ledger.registry import tokens
from ledger.registry.registry import Registry
from ledger.submission import Refusal
from protocol import scram
from protocol.answers import Answer
from protocol.client import Client
from protocol.codes import Goodbye, Outcome
from server.commands.serving import run_server
from server.engines.postgres import EmbeddedPostgres
from server.engines.processes import command_of, descendants, is_running
from server.errors import OperatorError
from server.ledger_engines import ledger_engines
from server.ledger_limits import ledger_limits
from server.registers.answers import AnswerRenderer
from server.settings import Settings
from server.workers.peer_link import PeerLinks
from server.workers.supervisor import Supervisor
from tests.integration.test_listener import certificate
from tests.integration.test_worker import PARTITIONS, SECRET, SECRETS, Server, card, receipt, set_up
from tests.rigs.office_rig import EVERYTHING

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


class Site(Server):
    def __init__(self, supervisor: Supervisor, port: int, running: asyncio.Task[int], base: str, url: str) -> None:
        super().__init__(supervisor, port, running)
        self.base = base
        self.postgres_url = url

    @property
    def admin(self) -> dict[str, Any]:
        return dict(self.supervisor.health()["admin"])

    async def token(self, *permissions: Permission) -> str:
        registry = Registry(Postgres(self.postgres_url), connections_max=1, timeout_s=10.0)
        now_ms = SystemClock().now_ms()
        try:
            async with registry.writing() as transaction:
                return (
                    await tokens.add(
                        transaction, name="test", permissions=[str(p) for p in permissions], partner_id=None,
                        created_by="system", person="system", now_ms=now_ms, expires_ms=now_ms + 3_600_000,
                    )
                )[1]  # fmt: skip
        finally:
            await registry.close()

    @asynccontextmanager
    async def client(self, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
        token = await self.token(*EVERYTHING)
        headers = {"authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(base_url=self.base, headers=headers, timeout=30, trust_env=False, **options) as c:
            yield c

    @asynccontextmanager
    async def observer(self) -> AsyncIterator[Ledger]:
        """Run what the admin process runs, where a test can hold it."""
        settings = Settings.model_validate({**self.settings, "data_dir": self.settings["data_dir"]})
        clock = SystemClock()
        peers = self.peers = PeerLinks("", lambda _: None, clock)
        engines = ledger_engines(settings, SECRETS)
        renderer = AnswerRenderer(lambda: ledger.programme, clock.now_ms)
        limits = replace(ledger_limits(settings), refresh_interval_s=0.05)
        ledger = Ledger(engines, OBSERVER, limits, renderer, peers.forward, clock)
        await peers.start()
        await ledger.start()
        try:
            yield ledger
        finally:
            await ledger.stop(1.0)
            await peers.stop()

    settings: dict[str, Any]
    peers: PeerLinks


async def until(condition: Callable[[], Any] | Callable[[], Awaitable[Any]]) -> None:
    async with asyncio.timeout(60):
        while True:
            held = condition()
            if await held if asyncio.iscoroutine(held) else held:
                return
            await asyncio.sleep(0.02)


async def patient(desk: OperatorDesk, account: int, points: int = 700, request_id: bytes | None = None) -> Decided:
    """Adjust an account, again while its partition has no owner that is known yet."""
    while True:
        try:
            return await desk.adjust(request_id or os.urandom(16), account, points, 0, "goodwill")
        except Undecided as error:
            if error.refusal is not Refusal.BUSY:
                raise
        await asyncio.sleep(0.02)


@asynccontextmanager
async def site_on(postgres_url: str, redis_url: str, folder: Path, **more: Any) -> AsyncIterator[Site]:
    settings = {
        "listen_port": 0,
        "admin_port": 0,
        "workers": 2,
        "partitions": PARTITIONS,
        "postgres_url": postgres_url,
        "redis_url": redis_url,
        "data_dir": folder,
        "status_interval_ms": 50,
        "drain_timeout_ms": 5_000,
        **more,
    }
    supervisor = Supervisor(Settings.model_validate(settings), SECRETS)
    _, port = supervisor.bind()
    host, admin_port = supervisor.bind_admin()
    running = asyncio.create_task(supervisor.run())
    scheme = "https" if "admin_tls_cert_file" in more else "http"
    site = Site(supervisor, port, running, f"{scheme}://{host}:{admin_port}", postgres_url)
    site.settings = settings
    try:
        yield site
    finally:
        supervisor.stop()
        await running


@pytest.fixture
async def site(postgres_url: str, valkey_url: str, tmp_path: Path) -> AsyncIterator[Site]:
    await set_up(postgres_url)
    async with site_on(postgres_url, valkey_url, tmp_path) as site:
        await site.until_ready()
        yield site


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


async def test_the_supervisor_holds_no_http(site: Site) -> None:
    code = "import server.workers.supervisor, server.commands.serving, sys; print(*sys.modules)"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    loaded = set((await process.communicate())[0].decode().split())
    assert not loaded & {"uvicorn", "fastapi", "starlette", "jinja2"}


async def test_an_observer_asks_the_owner_and_owns_nothing(site: Site) -> None:
    async with site.observer() as ledger, site.tills(1) as tills:
        desk = OperatorDesk(ledger, SystemClock(), patience_s=20.0)
        await tills[0].earn(card(1), receipt(1_000))
        connection = await asyncpg.connect(site.postgres_url)
        try:
            accounts = [row["account_id"] for row in await connection.fetch("SELECT account_id FROM account")]
            owners = "SELECT partition_id, owner, epoch FROM partition ORDER BY partition_id"
            before = await connection.fetch(owners)
            # More than one for each partition, so that both workers are asked.
            for account in accounts[: 2 * PARTITIONS]:
                adjusted = await patient(desk, account)
                assert Answer.from_body(adjusted.body).outcome == Outcome.APPROVED
            assert await connection.fetch(owners) == before
        finally:
            await connection.close()
        assert ledger.health() == {"ready": True, "partitions": {}}


async def test_what_nobody_owns_is_refused_as_busy(site: Site) -> None:
    async with site.observer() as ledger:
        ledger._owners = {}
        ledger._limits = replace(ledger._limits, refresh_interval_s=3_600)
        with pytest.raises(Undecided) as refused:
            await OperatorDesk(ledger, SystemClock(), patience_s=1.0).adjust(os.urandom(16), 1, 100, 0, "x")
        assert refused.value.refusal is Refusal.BUSY


async def test_what_was_asked_when_the_admin_process_died_is_done_once(site: Site) -> None:
    ids = [os.urandom(16) for _ in range(50)]
    async with site.observer() as ledger:
        desk = OperatorDesk(ledger, SystemClock(), patience_s=20.0)
        await patient(desk, 1)
        asking = [asyncio.create_task(desk.adjust(one, 1, 10, 0, "goodwill")) for one in ids]
        await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
        for link in list(site.peers._outgoing.values()):
            link.close()
        answered = await asyncio.gather(*asking, return_exceptions=True)
    doubts = {answer.refusal for answer in answered if isinstance(answer, Undecided)}
    assert doubts <= {Refusal.UNAVAILABLE}
    async with site.observer() as ledger:
        desk = OperatorDesk(ledger, SystemClock(), patience_s=20.0)
        again = [await patient(desk, 1, 10, one) for one in ids]
        last = await patient(desk, 1, 1)
    told = {one.body for one in answered if isinstance(one, Decided)}
    assert told <= {one.body for one in again}
    balance = Answer.from_body(last.body).balance
    assert balance is not None
    assert balance.available == 700 + 50 * 10 + 1


async def test_adjustments_under_way_when_the_admin_process_is_killed_are_made_once(site: Site) -> None:
    async with site.client() as client, site.tills(1) as tills:

        async def adjust(number: int) -> httpx.Response:
            asked = {"points": 10, "reason": "goodwill"}
            return await client.post(
                "/v1/accounts/1/adjustments", json=asked, headers={"idempotency-key": f"adjustment-{number}"}
            )

        async def made(number: int) -> bool:
            with suppress(httpx.TransportError):
                answer = await adjust(number)
                assert answer.status_code in (201, 409, 503), answer.text
                return answer.status_code == 201
            return False

        await until(lambda: made(0))
        asking = [asyncio.create_task(adjust(number)) for number in range(1, 30)]
        await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
        os.kill(site.admin["pid"], signal.SIGKILL)
        assert (await tills[0].balance(card(1))).outcome == Outcome.APPROVED
        await asyncio.gather(*asking, return_exceptions=True)
        # As if it were so late that what the dead process had begun is given up.
        await execute(site, "UPDATE office.idempotency SET claimed_ms = 0 WHERE status IS NULL")
        for number in range(1, 30):
            await until(lambda number=number: made(number))
        account = await client.get("/v1/accounts/1")
        assert account.status_code == 200, account.text
        assert (account.json()["balance"]["available"], account.json()["entries"]) == (300, 30)


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


async def execute(site: Site, statement: str, *arguments: Any) -> None:
    connection = await asyncpg.connect(site.postgres_url)
    try:
        await connection.execute(statement, *arguments)
    finally:
        await connection.close()


async def unwanted(client: Client) -> int | None:
    """Return the reason for which the server does not want this register."""
    found = client._register.unwanted
    return None if found is None else int(found[0])


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE terminal SET active = false WHERE code = 'T-0'",
        "UPDATE terminal SET revoked_ms = 1, stored_key = '\\x00', server_key = '\\x00' WHERE code = 'T-0'",
        "UPDATE store SET active = false",
        "UPDATE network SET active = false",
        "UPDATE partner SET active = false",
    ],
)
async def test_what_is_switched_off_loses_its_live_connections(site: Site, statement: str) -> None:
    async with site.tills(1) as tills:
        await tills[0].balance(card(1))
        await execute(site, statement)

        async def gone() -> bool:
            return await unwanted(tills[0]) == Goodbye.SUSPENDED

        await until(gone)


async def test_a_terminal_suspended_or_given_a_new_secret_over_http_loses_its_live_connection(site: Site) -> None:
    async with site.client() as client, site.tills(2) as tills:
        for till in tills:
            await till.balance(card(1))
        listed = {t["code"]: t["terminal_id"] for t in (await client.get("/v1/terminals")).json()["items"]}
        suspended = await client.post(f"/v1/terminals/{listed['T-0']}/suspend", headers={"idempotency-key": "1"})
        rotated = await client.post(f"/v1/terminals/{listed['T-1']}/rotate", headers={"idempotency-key": "2"})
        assert (suspended.status_code, rotated.status_code) == (200, 200)

        async def gone() -> bool:
            return [await unwanted(till) for till in tills] == [Goodbye.SUSPENDED, Goodbye.AUTH_FAILED]

        await until(gone)
        async with Client("127.0.0.1", site.port, "T-1", rotated.json()["secret"]) as again:
            assert (await again.balance(card(1))).outcome == Outcome.APPROVED


async def test_a_replaced_secret_ends_the_live_connection_and_the_new_one_signs_on(site: Site) -> None:
    async with site.tills(2) as tills:
        for till in tills:
            await till.balance(card(1))
        fresh = scram.credentials("another-secret-altogether", random.token_bytes(16), scram.ITERATIONS_MIN)
        await execute(
            site,
            "UPDATE terminal SET salt = $1, iterations = $2, stored_key = $3, server_key = $4 WHERE code = 'T-0'",
            fresh.salt, fresh.iterations, fresh.stored_key, fresh.server_key,
        )  # fmt: skip

        async def gone() -> bool:
            return await unwanted(tills[0]) == Goodbye.AUTH_FAILED

        await until(gone)
        assert await unwanted(tills[1]) is None
        async with Client("127.0.0.1", site.port, "T-0", "another-secret-altogether") as again:
            assert (await again.balance(card(1))).outcome == Outcome.APPROVED
        assert SECRET != "another-secret-altogether"


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels do not count what is mapped")
async def test_memory_past_the_bound_fails_in_the_process_itself() -> None:
    code = "from server.workers.admin_process import _bound_memory as b; b(2**29); bytearray(2**28); bytearray(2**30)"
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stderr=pipe)
    assert b"MemoryError" in (await process.communicate())[1]
