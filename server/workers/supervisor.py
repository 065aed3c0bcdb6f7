"""Keeps the worker processes alive on one listening socket, drains them on a signal, and knows how they are.

The supervisor does no work of its own, so it has little to die of. If it dies all the same, its workers die with it.
"""

import asyncio
import signal
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from server.engines.processes import listener_of
from server.errors import OperatorError
from server.observation.logs import get_log
from server.secrets import Secrets
from server.settings import Settings
from server.settings_load import to_handover
from server.workers.shared_folder import SharedFolder
from server.workers.worker_link import EXIT_CONFIGURATION, WorkerState, control_line
from server.workers.worker_process import WorkerProcess

_BACKOFF_FIRST_S = 0.1
# A worker that was ready for so long has not failed to start; its next restart is immediate again.
_STABLE_S = 30.0
# A worker drains for drain_timeout_ms by itself; this much longer it may take to say goodbye.
_KILL_MARGIN_S = 1.0
_TICK_S = 1.0
_HUNG_AFTER_S = 10.0
_METRICS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"

log = get_log("supervisor")


class Supervisor:
    """Runs `settings.workers` processes of `worker_module`.

    `revive` is called about once a second in a thread and returns the names of engines that it had to start again; it
    may raise OperatorError when one does not come up.
    """

    def __init__(
        self,
        settings: Settings,
        secrets: Secrets,
        *,
        revive: Callable[[], Sequence[str]] | None = None,
        worker_module: str = "server.workers.worker",
    ) -> None:
        self._settings = settings
        self._folder = SharedFolder()
        self._metrics_folder = self._folder.path / "metrics"
        self._metrics_folder.mkdir()
        self._handover = control_line(to_handover(settings), secrets.to_handover(), self._folder.path)
        self._revive = revive
        self._module = worker_module
        self._socket: socket.socket | None = None
        self._workers: dict[int, WorkerProcess] = {}
        self._restarts = [0] * settings.workers
        self._stop_asked = asyncio.Event()
        self._kill_asked = asyncio.Event()
        self._exit_code = 0
        self._engine_trouble: str | None = None
        self._ticked_at_s = time.monotonic()
        self.on_ready: Callable[[], None] | None = None
        """Called once, as soon as every worker is ready and misses nothing."""

    def bind(self) -> tuple[str, int]:
        """Bind the registers' socket and return its address. Raises OperatorError."""
        host, port = self._settings.listen_host, self._settings.listen_port
        self._socket = bind_socket(host, port, "listen_port", self._settings.listen_backlog_connections_max)
        address = self._socket.getsockname()
        return str(address[0]), int(address[1])

    async def run(self) -> int:
        """Serve until a signal asks to stop and the workers have drained. Returns the exit code."""
        if self._socket is None:
            self.bind()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.stop)
        try:
            async with asyncio.TaskGroup() as group:
                tick = group.create_task(self._tick(), name="supervisor tick")
                keepers = [
                    group.create_task(self._keep(index), name=f"keeper of worker {index}")
                    for index in range(self._settings.workers)
                ]
                await self._stop_asked.wait()
                await self._drain(keepers)
                tick.cancel()
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)
            self.close()
        return self._exit_code

    def stop(self) -> None:
        """Drain and end. Called again, kill at once."""
        if self._stop_asked.is_set():
            self._kill_asked.set()
        self._stop_asked.set()

    def close(self) -> None:
        """Give back what `bind` and the constructor took. `run` does it by itself."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._folder.close()

    def health(self) -> dict[str, Any]:
        """Tell how the process is; may be called from any thread.

        `live`: the supervisor works; if not, restart the process. `ready`: at least one worker accepts connections and
        reaches everything it needs. `down`: whatever does not work, by name.
        """
        workers = [worker.describe() for _, worker in sorted(self._workers.items())]
        down: list[str] = []
        ready = False
        for index in range(self._settings.workers):
            shown = next((worker for worker in workers if worker["index"] == index), None)
            if shown is None or shown["state"] != WorkerState.READY:
                down.append(f"worker {index}")
                continue
            down.extend(name for name in shown["down"] if name not in down)
            ready = ready or not shown["down"]
        if self._engine_trouble:
            down.append(self._engine_trouble)
        draining = self._stop_asked.is_set()
        return {
            "live": time.monotonic() - self._ticked_at_s < _HUNG_AFTER_S,
            "ready": ready and not draining,
            "state": "draining" if draining else "serving" if ready else "starting",
            "down": down,
            "restarts": sum(self._restarts),
            "workers": workers,
        }

    def metrics(self) -> bytes:
        """Return the metrics of all workers, past and present, in the Prometheus text format; from any thread."""
        registry = CollectorRegistry()
        MultiProcessCollector(registry, path=str(self._metrics_folder))  # type: ignore[no-untyped-call]
        return generate_latest(registry)

    async def _keep(self, index: int) -> None:
        pause_s = _BACKOFF_FIRST_S
        while not self._stop_asked.is_set():
            if self._socket is None:
                return
            code, stable = await self._run_one(index, self._socket)
            if self._stop_asked.is_set():
                return
            if code == EXIT_CONFIGURATION:
                log.error("worker cannot run with these settings", worker=index)
                self._exit_code = EXIT_CONFIGURATION
                self.stop()
                return
            self._restarts[index] += 1
            if stable:
                pause_s = _BACKOFF_FIRST_S
            log.error("worker ended and is started again", worker=index, exit_code=code, pause_ms=int(pause_s * 1000))
            await _wait(self._stop_asked, pause_s)
            pause_s = min(2 * pause_s, self._settings.worker_backoff_ms_max / 1000)

    async def _run_one(self, index: int, listening: socket.socket) -> tuple[int | None, bool]:
        """Start a worker and see it through. Returns its exit code, and whether it was ready for a good while."""
        variables = {_METRICS_VARIABLE: str(self._metrics_folder)}
        try:
            worker = await WorkerProcess.start(
                index, self._settings, self._module, self._handover, listening, variables
            )
        except OSError as error:
            log.warning("worker cannot be started", worker=index, reason=error.strerror)
            return None, False
        self._workers[index] = worker
        if self._stop_asked.is_set():
            # It was being started while the others were told.
            worker.signal(signal.SIGTERM)
        try:
            code = await worker.run()
        finally:
            del self._workers[index]
            mark_process_dead(worker.pid, str(self._metrics_folder))  # type: ignore[no-untyped-call]
        return code, worker.ready_at_s is not None and time.monotonic() - worker.ready_at_s > _STABLE_S

    async def _drain(self, keepers: list[asyncio.Task[None]]) -> None:
        log.info("draining", workers=len(self._workers))
        if self._socket is not None:
            # The workers hold the same socket and close theirs, after which nobody accepts any more.
            self._socket.close()
            self._socket = None
        for worker in list(self._workers.values()):
            worker.signal(signal.SIGTERM)
        timeout_s = self._settings.drain_timeout_ms / 1000 + _KILL_MARGIN_S
        limit = asyncio.create_task(_wait(self._kill_asked, timeout_s), name="limit of the drain")
        gone = asyncio.create_task(_join(keepers), name="workers gone")
        await asyncio.wait([gone, limit], return_when=asyncio.FIRST_COMPLETED)
        limit.cancel()
        for worker in list(self._workers.values()):
            log.error("worker did not drain in time and is killed", worker=worker.index)
            worker.signal(signal.SIGKILL)
        await gone
        log.info("stopped")

    async def _tick(self) -> None:
        """Once a second: prove that this loop turns, look after the engines, notice when all workers are ready."""
        told = False
        reviving: asyncio.Task[None] | None = None
        while True:
            self._ticked_at_s = time.monotonic()
            if not told and self._all_ready():
                told = True
                if self.on_ready is not None:
                    self.on_ready()
            if self._revive is not None and (reviving is None or reviving.done()):
                reviving = asyncio.create_task(self._revive_engines(self._revive), name="revive engines")
            await asyncio.sleep(_TICK_S if told else _TICK_S / 20)

    async def _revive_engines(self, revive: Callable[[], Sequence[str]]) -> None:
        try:
            for name in await asyncio.to_thread(revive):
                log.error("engine had died and was started again", engine=name)
            self._engine_trouble = None
        except OperatorError as error:
            log.warning("engine does not come up", reason=str(error))
            self._engine_trouble = str(error)

    def _all_ready(self) -> bool:
        statuses = [worker.status for worker in self._workers.values()]
        ready = [one for one in statuses if one is not None and one.state is WorkerState.READY and not one.down]
        return len(ready) == self._settings.workers


def bind_socket(host: str, port: int, setting: str, backlog: int) -> socket.socket:
    """Return a listening TCP socket. Raises OperatorError that names the setting and who has the port."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        return socket.create_server((host, port), family=family, backlog=backlog)
    except OSError as error:
        owner = listener_of(port)
        reason = f"is taken{' by ' + owner if owner else ''}" if "in use" in str(error) else f"failed: {error.strerror}"
        raise OperatorError(
            f"listening on {host} port {port} {reason}; choose another with TILLWIRE_{setting.upper()}"
        ) from None


async def _join(tasks: Sequence[asyncio.Task[None]]) -> None:
    await asyncio.gather(*tasks)


async def _wait(event: asyncio.Event, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return
