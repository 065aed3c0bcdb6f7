"""Serves until told to stop: the supervisor with its workers and its admin process."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence

from server.errors import OperatorError
from server.observation.logs import get_log
from server.registers.tls import server_context
from server.secrets import Secrets
from server.settings import Settings
from server.workers.supervisor import Supervisor

WORKER_MODULE = "server.workers.worker"


def run_server(
    settings: Settings,
    secrets: Secrets,
    *,
    unknown_variables: Sequence[str] = (),
    revive: Callable[[], Sequence[str]] | None = None,
    on_ready: Callable[[tuple[str, int], tuple[str, int]], None] | None = None,
) -> int:
    """Bind, start workers, serve, drain. Returns the exit code. On the main thread. Raises OperatorError.

    `on_ready` is told the addresses of registers' and of the admin port once all workers serve.
    """
    log = get_log("run")
    _check_admin_tls(settings)
    if unknown_variables:
        log.warning("no settings of these names, so they have no effect", variables=list(unknown_variables))
    supervisor = Supervisor(settings, secrets, revive=revive, worker_module=WORKER_MODULE)
    with contextlib.closing(supervisor):
        listening = supervisor.bind()
        admin = supervisor.bind_admin()
        if on_ready is not None:
            tell = on_ready
            supervisor.on_ready = lambda: tell(listening, admin)
        log.info(
            "listening",
            registers=f"{listening[0]}:{listening[1]}",
            admin=f"{admin[0]}:{admin[1]}",
            keys=secrets.fingerprint(),
        )
        return asyncio.run(supervisor.run())


def _check_admin_tls(settings: Settings) -> None:
    """Refuse files now that the admin process would fail with again and again, out of sight. Raises OperatorError."""
    cert_file, key_file = settings.admin_tls_cert_file, settings.admin_tls_key_file
    if cert_file is None or key_file is None:
        return
    try:
        server_context(cert_file, key_file)
    except OSError as error:
        raise OperatorError(
            f"the files of admin_tls_cert_file and admin_tls_key_file cannot be used: {error}"
        ) from None
