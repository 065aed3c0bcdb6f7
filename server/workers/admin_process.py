"""The admin process: the operators' HTTP interface and console, health and metrics, apart from the registers' service.

The supervisor keeps it beside the workers and starts it as `python -m server.workers.admin_process ...`; see
`server.workers.process_link`. It owns no partition: what an operator asks of an account goes over the links between
workers to the one that decides it. Whatever happens to it, a worker notices no more than a lost link.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog
import uvloop

from admin_api.accounts.finishing import Finishing
from admin_api.app import create_app
from admin_api.figures.gathering import Gathering
from admin_api.office import Keys, Office
from ledger.clock import Clock, SystemClock
from ledger.ledger import OBSERVER, Ledger
from ledger.operator_desk import OperatorDesk
from ledger.registry.registry import Registry
from server.console_url import console_url, registers_at
from server.ledger_engines import ledger_engines
from server.ledger_limits import ledger_limits
from server.observation.logs import configure_logging
from server.office_limits import office_limits
from server.registers.answers import AnswerRenderer
from server.workers.admin_http import AdminHttp
from server.workers.installation import RunningInstallation
from server.workers.open_files import allow_connections
from server.workers.peer_link import PeerLinks
from server.workers.process_link import ProcessLink, ProcessState
from server.workers.proving import OwnProofs

_RETRY_S = 0.5
_DRAIN_S = 1.0
# Tokens that are remembered with their account: people search for few, and a worker knows them all.
_CARD_INDEX_ENTRIES_MAX = 10_000
# Of all processes of the host that the kernel could end when memory is short, this one is missed least.
_OOM_SCORE = "500"

_log = structlog.get_logger(subject="admin")


class AdminProcess:
    """Everything that the admin process is made of. Built inside a running event loop."""

    def __init__(self, link: ProcessLink, clock: Clock) -> None:
        """Build the parts; nothing is connected yet. Raises OperatorError."""
        settings, secrets = link.settings, link.secrets
        engines = ledger_engines(settings, secrets)
        self.peers = PeerLinks("", _nobody_sends, clock, outstanding_max=settings.admin_connections_max)
        limits = ledger_limits(settings)
        self.ledger = Ledger(
            engines,
            OBSERVER,
            replace(limits, card_index_entries_max=min(limits.card_index_entries_max, _CARD_INDEX_ENTRIES_MAX)),
            AnswerRenderer(lambda: self.ledger.programme, clock.now_ms),
            self.peers.forward,
            clock,
        )
        self.registry = Registry(
            engines.postgres,
            connections_max=settings.admin_postgres_connections_max,
            timeout_s=settings.postgres_timeout_ms / 1000,
        )
        self.installation = RunningInstallation(link)
        self.proofs = OwnProofs(settings, secrets)
        office = Office(
            registry=self.registry,
            desk=OperatorDesk(self.ledger, clock, patience_s=settings.admin_patience_ms / 1000),
            keys=Keys(secrets.token_key, secrets.personal_key, secrets.relay_master),
            limits=office_limits(settings),
            clock=clock,
            installation=self.installation,
            proofs=self.proofs,
            console_url=console_url(settings, link.listen_socket.getsockname()[1]),
            registers_at=registers_at(settings),
        )
        self._gathering = Gathering(office)
        self._finishing = Finishing(office)
        self.http = AdminHttp(settings, create_app(office), link.listen_socket)

    async def follow(self) -> None:
        """Connect to PostgreSQL, however long it takes to come up; then do everything that goes on by itself.

        Raises what ends that, which is a bug.
        """
        await self.peers.start()
        while True:
            try:
                await self.ledger.start()
                break
            except Exception as error:  # noqa: BLE001 - not there, not migrated, …: health is told all the same
                _log.warning("cannot follow the programme yet", reason=str(error))
                await asyncio.sleep(_RETRY_S)
        async with asyncio.TaskGroup() as group:
            group.create_task(self.ledger.failed(), name="ledger failed")
            group.create_task(self._gathering.run(), name="figures")
            group.create_task(self._finishing.run(), name="finishing")

    async def stop(self) -> None:
        """Let go of everything; requests under way are answered before."""
        await self.proofs.stop()
        await self.ledger.stop(_DRAIN_S)
        await self.peers.stop()
        await self.registry.close()

    def down(self) -> list[str]:
        """Return what it needs and cannot reach, by name."""
        return ["postgres"] if self.ledger.journal_away else []

    def detail(self) -> Mapping[str, Any]:
        """Return what health shows beside that."""
        return {"connections": self.http.connections, "proof": self.proofs.state()["state"]}


def _nobody_sends(_submission: object) -> None:
    raise AssertionError("an observer has no address")


async def _report_forever(admin: AdminProcess, link: ProcessLink) -> None:
    """Tell the supervisor how things are, from the very loop that serves: one that hangs falls silent."""
    while True:
        state = ProcessState.READY if admin.http.serving else None
        link.report(state, admin.down(), admin.detail())
        # The first report of being ready should not wait.
        await asyncio.sleep(link.settings.status_interval_ms / 1000 if state else 0.02)


async def serve(link: ProcessLink, clock: Clock) -> None:
    """Run until SIGTERM, or until one of the tasks fails by a bug, which is raised."""
    loop = asyncio.get_running_loop()
    link.die_with_supervisor(loop)
    admin = AdminProcess(link, clock)
    asked_to_stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked_to_stop.set)
    serving = loop.create_task(admin.http.run(), name="http")
    stopping = loop.create_task(_wait(asked_to_stop), name="stop asked")
    reporting = loop.create_task(_report_forever(admin, link), name="reports")
    following = loop.create_task(admin.follow(), name="programme and figures")
    tasks = (serving, stopping, reporting, following)
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        link.report(ProcessState.DRAINING)
        admin.installation.close()
        admin.http.stop()
        await asyncio.wait({serving})
        following.cancel()
        await asyncio.wait({following})
        await admin.stop()
    finally:
        for task in tasks:
            task.cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
    for result in done:
        if isinstance(result, Exception):
            raise result


async def _wait(event: asyncio.Event) -> None:
    await event.wait()


def _bound_memory(bytes_max: int) -> None:
    """Let allocations fail past a limit, instead of the host's memory; and be the first whom the kernel ends."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    with contextlib.suppress(OSError, ValueError):
        fitting = bytes_max if hard == resource.RLIM_INFINITY else min(bytes_max, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (fitting, hard))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE, "ascii")


def main() -> None:
    """Run until asked to stop; ended by anything else, the supervisor starts it again."""
    link = ProcessLink(sys.argv[1:])
    configure_logging(link.settings.log_level, link.settings.log_format, process="admin")
    _bound_memory(link.settings.admin_memory_bytes_max)
    allow_connections(link.settings.admin_connections_max)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(link, SystemClock()))
    except Exception:  # noqa: BLE001 - whatever it is, the supervisor starts it again
        _log.exception("admin process failed")
        sys.exit(1)


if __name__ == "__main__":
    main()
