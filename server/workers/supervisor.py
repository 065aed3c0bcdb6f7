"""Keeps the worker processes alive on one listening socket, and the admin process on another; drains them on a signal.

The supervisor does no work of its own, so it has little to die of. If it dies all the same, its processes die with it.
It tells how everything is on a UNIX socket (`server.workers.health_socket`); the admin process makes HTTP of that.
"""

import asyncio
import signal
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

from prometheus_client.multiprocess import mark_process_dead

from server.engines.processes import listener_of
from server.errors import OperatorError
from server.observation.logs import get_log
from server.observation.metrics import FOLDER_VARIABLE
from server.secrets import Secrets
from server.settings import Settings
from server.settings_load import to_handover
from server.workers.health_socket import HealthSocket
from server.workers.keeper import Keeper
from server.workers.kept_process import Plan
from server.workers.process_link import EXIT_CONFIGURATION, control_line
from server.workers.shared_folder import SharedFolder, metrics_folder

# A worker drains for drain_timeout_ms by itself; this much longer it may take to say goodbye.
_KILL_MARGIN_S = 1.0
# The admin process ends after the workers, so that it can tell of them to the end. What it does then is short.
_ADMIN_DRAIN_S = 5.0
_ADMIN_BACKLOG = 512
_TICK_S = 1.0
_HUNG_AFTER_S = 10.0

log = get_log("supervisor")


class Supervisor:
    """Runs `settings.workers` processes of `worker_module`, and one of `admin_module` if `bind_admin` was called.

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
        admin_module: str = "server.workers.admin_process",
    ) -> None:
        self._settings = settings
        self._folder = SharedFolder()
        self.metrics_folder = metrics_folder(self._folder.path)
        self.metrics_folder.mkdir()
        self._handover = control_line(to_handover(settings), secrets.to_handover(), self._folder.path)
        self._revive = revive
        self._worker_module = worker_module
        self._admin_module = admin_module
        self._socket: socket.socket | None = None
        self._admin_socket: socket.socket | None = None
        self._workers: list[Keeper] = []
        self._admin: Keeper | None = None
        self._stop_asked = asyncio.Event()
        self._kill_asked = asyncio.Event()
        self._exit_code = 0
        self._engine_trouble: str | None = None
        self._ticked_at_s = time.monotonic()
        self.on_ready: Callable[[], None] | None = None
        """Called once, as soon as every worker is ready and misses nothing."""

    def bind(self) -> tuple[str, int]:
        """Bind the registers' socket and return its address. Raises OperatorError."""
        settings = self._settings
        backlog = settings.listen_backlog_connections_max
        shared = bind_socket(settings.listen_host, settings.listen_port, "listen_port", backlog)
        self._socket = shared
        self._workers = [
            self._keeper(Plan(f"worker {index}", self._worker_module, index, shared, settings.worker_kill_after_ms))
            for index in range(settings.workers)
        ]
        return _address(shared)

    def bind_admin(self) -> tuple[str, int]:
        """Bind the admin socket, so that an admin process is kept on it; return its address. Raises OperatorError.

        It stays open while the process is started again: who connects meanwhile waits.
        """
        host, port = self._settings.admin_host, self._settings.admin_port
        self._admin_socket = bind_socket(host, port, "admin_port", _ADMIN_BACKLOG)
        kill_after_ms = self._settings.admin_kill_after_ms
        self._admin = self._keeper(Plan("admin", self._admin_module, 0, self._admin_socket, kill_after_ms))
        return _address(self._admin_socket)

    async def run(self) -> int:
        """Serve until a signal asks to stop and the workers have drained. Returns the exit code."""
        if self._socket is None:
            self.bind()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.stop)
        try:
            async with HealthSocket(self._folder.path, self.health), asyncio.TaskGroup() as group:
                tick = group.create_task(self._tick(), name="supervisor tick")
                workers = [group.create_task(self._keep(one), name=one.plan.title) for one in self._workers]
                admin = [group.create_task(self._admin.run(), name="admin")] if self._admin is not None else []
                await self._stop_asked.wait()
                await self._drain(workers)
                if self._admin is not None:
                    await self._end([self._admin], admin, _ADMIN_DRAIN_S)
                tick.cancel()
                log.info("stopped")
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
        """Give back what was bound and what the constructor took. `run` does it by itself."""
        self._close_registers()
        if self._admin_socket is not None:
            self._admin_socket.close()
            self._admin_socket = None
        self._folder.close()

    def health(self) -> dict[str, Any]:
        """Tell how the processes are.

        `live`: the supervisor works; if not, restart it. `ready`: at least one worker accepts connections and
        reaches everything it needs. `down`: whatever does not work, by name.
        """
        down: list[str] = []
        for worker in self._workers:
            missing = worker.describe()["down"] if worker.ready else [worker.plan.title]
            down.extend(name for name in missing if name not in down)
        if self._admin is not None and not self._admin.ready:
            down.append(self._admin.plan.title)
        if self._engine_trouble:
            down.append(self._engine_trouble)
        ready = any(worker.flawless for worker in self._workers)
        draining = self._stop_asked.is_set()
        return {
            "live": time.monotonic() - self._ticked_at_s < _HUNG_AFTER_S,
            "ready": ready and not draining,
            "state": "draining" if draining else "serving" if ready else "starting",
            "down": down,
            "restarts": sum(worker.restarts for worker in self._workers),
            "workers": [worker.describe() for worker in self._workers if worker.process is not None],
            **({"admin": {**self._admin.describe(), "restarts": self._admin.restarts}} if self._admin else {}),
        }

    def _keeper(self, plan: Plan) -> Keeper:
        variables = {FOLDER_VARIABLE: str(self.metrics_folder)}
        return Keeper(plan, self._settings, self._handover, variables, self._forget)

    def _forget(self, pid: int) -> None:
        mark_process_dead(pid, str(self.metrics_folder))  # type: ignore[no-untyped-call]

    async def _keep(self, worker: Keeper) -> None:
        if not await worker.run():
            self._exit_code = EXIT_CONFIGURATION
            self.stop()

    async def _drain(self, tasks: Sequence[asyncio.Task[Any]]) -> None:
        log.info("draining", workers=sum(worker.process is not None for worker in self._workers))
        # The workers hold the same socket and close theirs, after which nobody accepts any more.
        self._close_registers()
        await self._end(self._workers, tasks, self._settings.drain_timeout_ms / 1000 + _KILL_MARGIN_S)

    async def _end(self, keepers: Sequence[Keeper], tasks: Sequence[asyncio.Task[Any]], timeout_s: float) -> None:
        """Ask processes to end and wait for them; past the time-out, or when asked to stop again, kill them."""
        for keeper in keepers:
            keeper.stop()
        killing = asyncio.create_task(self._kill_asked.wait(), name="asked again")
        gone = asyncio.gather(*tasks)
        awaited: set[asyncio.Future[Any]] = {gone, killing}
        await asyncio.wait(awaited, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        killing.cancel()
        for keeper in keepers:
            keeper.kill()
        await gone

    def _close_registers(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    async def _tick(self) -> None:
        """Once a second: prove that this loop turns, look after the engines, notice when all workers are ready."""
        told = False
        reviving: asyncio.Task[None] | None = None
        while True:
            self._ticked_at_s = time.monotonic()
            if not told and self._all_ready:
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

    @property
    def _all_ready(self) -> bool:
        # An admin process that cannot be started keeps nobody waiting for what registers need.
        admin = self._admin is None or self._admin.ready or self._admin.restarts > 0
        return admin and all(worker.flawless for worker in self._workers)


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


def _address(listening: socket.socket) -> tuple[str, int]:
    host, port = listening.getsockname()[:2]
    return str(host), int(port)
