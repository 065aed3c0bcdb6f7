import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from server.engines.processes import is_running
from server.errors import OperatorError
from server.observation.metrics import added_up
from server.secrets import NAMES, Secrets
from server.settings import Settings
from server.workers.supervisor import Supervisor

CHECKOUT = Path(__file__).parents[2]
SECRETS = Secrets(**{name: bytes([number + 1]) * 32 for number, name in enumerate(NAMES)})
SETTINGS = Settings(listen_port=0, workers=2, partitions=5, status_interval_ms=20)


@pytest.fixture(autouse=True)
def importable_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [str(CHECKOUT), str(Path(__file__).parent / "workers")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(folders))


@asynccontextmanager
async def running(settings: Settings = SETTINGS, **options: Any) -> AsyncIterator[tuple[Supervisor, int]]:
    supervisor = Supervisor(settings, SECRETS, worker_module="obedient_worker", **options)
    _, port = supervisor.bind()
    task = asyncio.create_task(supervisor.run())
    try:
        await until(lambda: supervisor.health()["down"] == [] or task.done() or hopeless(supervisor))
        assert not hopeless(supervisor)
        yield supervisor, port
    finally:
        supervisor.stop()
        await asyncio.wait_for(task, 60)


def hopeless(supervisor: Supervisor) -> bool:
    return bool(supervisor.health()["restarts"] > 2)


async def until(condition: Callable[[], Any], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        await asyncio.sleep(0.01)


async def say(port: int, text: str) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(text.encode() + b"\n")
    answer = await reader.readline()
    writer.close()
    return answer.decode().strip()


async def test_workers_share_one_port_and_get_settings_and_keys() -> None:
    async with running() as (supervisor, port):
        answers = {await say(port, "hello") for _ in range(40)}
        pids = {worker["pid"] for worker in supervisor.health()["workers"]}
        assert {int(answer.split()[1]) for answer in answers} <= pids
        assert {tuple(answer.split()[2:]) for answer in answers} == {("5", SECRETS.fingerprint())}
        health = supervisor.health()
        assert (health["live"], health["ready"], health["state"]) == (True, True, "serving")
        assert health["workers"][0]["detail"] == {"partitions": {"0": "writing"}}
        assert b"obedient_lines_total 40.0" in added_up(supervisor.metrics_folder)
    health = supervisor.health()
    assert (health["ready"], health["state"], health["workers"]) == (False, "draining", [])


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_secrets_stand_neither_in_arguments_nor_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILLWIRE_SECRET_TOKEN_KEY", SECRETS.token_key.hex())
    settings = Settings.model_validate({**SETTINGS.model_dump(), "postgres_url": "postgresql://u:sesame@h/d"})
    async with running(settings) as (supervisor, _):
        for worker in supervisor.health()["workers"]:
            for file in ("cmdline", "environ"):
                text = Path(f"/proc/{worker['pid']}/{file}").read_bytes()
                assert b"sesame" not in text
                assert SECRETS.token_key.hex().encode() not in text


async def test_a_killed_worker_is_replaced() -> None:
    async with running() as (supervisor, port):
        victim = supervisor.health()["workers"][0]["pid"]
        os.kill(victim, signal.SIGKILL)
        await until(lambda: supervisor.health()["restarts"] == 1)
        await until(lambda: supervisor.health()["down"] == [])
        assert victim not in {worker["pid"] for worker in supervisor.health()["workers"]}
        assert await say(port, "hello")
        # Counters of the dead worker are not forgotten.
        assert b"obedient_lines_total" in added_up(supervisor.metrics_folder)


async def test_health_tells_what_is_down() -> None:
    async with running(SETTINGS.model_copy(update={"workers": 1})) as (supervisor, port):
        await say(port, "down postgres redis")
        await until(lambda: supervisor.health()["down"] == ["postgres", "redis"])
        assert not supervisor.health()["ready"]
        await say(port, "down")
        await until(lambda: supervisor.health()["ready"])


@pytest.mark.parametrize("word", ["hang", "garbage", "exit 3"])
async def test_a_worker_that_misbehaves_is_replaced(word: str) -> None:
    limits = {"workers": 1, "worker_silent_after_ms": 200, "worker_kill_after_ms": 400}
    async with running(SETTINGS.model_copy(update=limits)) as (supervisor, port):
        victim = supervisor.health()["workers"][0]["pid"]
        await say(port, word)
        if word == "hang":
            await until(lambda: supervisor.health()["workers"][0]["state"] == "silent")
            assert not supervisor.health()["ready"]
        await until(lambda: supervisor.health()["restarts"] == 1)
        await until(lambda: supervisor.health()["ready"])
        assert not is_running(victim)
        assert await say(port, "hello")


async def test_a_drain_lets_what_is_in_flight_finish() -> None:
    async with running() as (supervisor, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"slow\n")
        assert await reader.readline() == b"wait\n"
        supervisor.stop()
        assert len((await reader.readline()).split()) == 4
        writer.close()
        assert not supervisor.health()["ready"]
    with pytest.raises(OSError):  # noqa: PT011 - refused or reset, by the moment
        await say(port, "hello")


async def test_a_worker_that_does_not_drain_is_killed() -> None:
    async with running(SETTINGS.model_copy(update={"drain_timeout_ms": 100})) as (supervisor, port):
        pids = [worker["pid"] for worker in supervisor.health()["workers"]]
        await say(port, "stubborn")
    assert not any(is_running(pid) for pid in pids)


async def test_a_second_request_to_stop_kills_at_once() -> None:
    # Without the second one this would last longer than the test may.
    async with running(SETTINGS.model_copy(update={"drain_timeout_ms": 3_600_000})) as (supervisor, port):
        await say(port, "stubborn")
        supervisor.stop()


async def test_settings_that_no_worker_can_run_with_end_the_process() -> None:
    settings = SETTINGS.model_copy(update={"connections_max": 1})
    supervisor = Supervisor(settings, SECRETS, worker_module="obedient_worker")
    assert await asyncio.wait_for(supervisor.run(), 60) == 78


async def test_engines_are_revived_and_their_trouble_shown() -> None:
    answers: list[Any] = [["Valkey"], OperatorError("PostgreSQL does not start")]

    def revive() -> list[str]:
        if not answers:
            return []
        answer = answers.pop(0)
        if isinstance(answer, OperatorError):
            raise answer
        return list(answer)

    async with running(revive=revive) as (supervisor, _):
        await until(lambda: not answers)
        await until(lambda: supervisor.health()["down"] == [])


async def test_being_ready_is_told_once() -> None:
    told: list[int] = []
    supervisor = Supervisor(SETTINGS, SECRETS, worker_module="obedient_worker")
    supervisor.on_ready = lambda: told.append(1)
    task = asyncio.create_task(supervisor.run())
    await until(lambda: told)
    supervisor.stop()
    assert await task == 0
    assert told == [1]


def test_a_taken_port_is_explained() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        supervisor = Supervisor(SETTINGS.model_copy(update={"listen_port": port}), SECRETS)
        with pytest.raises(OperatorError, match="TILLWIRE_LISTEN_PORT"):
            supervisor.bind()
        supervisor.close()


DRIVER = """
import asyncio, sys
from server.observation.logs import configure_logging
from server.observation.metrics import added_up
from server.secrets import Secrets
from server.settings import Settings
from server.workers.supervisor import Supervisor
configure_logging("info")
settings, secrets = Settings.model_validate_json(sys.argv[1]), sys.argv[2]
supervisor = Supervisor(settings, Secrets.from_handover(eval(secrets)), worker_module="obedient_worker")
_, port = supervisor.bind()
supervisor.on_ready = lambda: print(port, *[w["pid"] for w in supervisor.health()["workers"]], flush=True)
sys.exit(asyncio.run(supervisor.run()))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(number: signal.Signals) -> None:
    command = [sys.executable, "-c", DRIVER, SETTINGS.model_dump_json(), repr(SECRETS.to_handover())]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=CHECKOUT) as driver:
        assert driver.stdout is not None
        pids = [int(word) for word in driver.stdout.readline().split()][1:]
        assert len(pids) == 2
        driver.send_signal(number)
        assert driver.wait(60) == 0
        assert not any(is_running(pid) for pid in pids)


def test_workers_die_with_a_killed_supervisor_and_free_the_port() -> None:
    command = [sys.executable, "-c", DRIVER, SETTINGS.model_dump_json(), repr(SECRETS.to_handover())]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=CHECKOUT) as driver:
        assert driver.stdout is not None
        port, *pids = (int(word) for word in driver.stdout.readline().split())
        driver.kill()
    deadline = time.monotonic() + 30
    while any(is_running(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    socket.create_server(("127.0.0.1", port)).close()
