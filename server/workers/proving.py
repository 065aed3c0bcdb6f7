"""Proofs of the books on demand: one at a time, each in a process of its own, the last result kept."""

from __future__ import annotations

import asyncio
import contextlib
import secrets as random
import signal
import sys
from typing import Any

import orjson
import structlog

from server.engines.child import launch
from server.secrets import Secrets
from server.settings import Settings

PROOF_MODULE = "server.workers.proof_process"
_ID_BYTES = 8

_log = structlog.get_logger(subject="proof")


class OwnProofs:
    """Starts proof processes (`admin_api.office.Proofs`). Built inside a running event loop, on the main thread."""

    def __init__(self, settings: Settings, secrets: Secrets) -> None:
        postgres_url, redis_url = settings.postgres_url, settings.redis_url
        self._handover = orjson.dumps(
            {
                "postgres_url": postgres_url.get_secret_value() if postgres_url else None,
                "redis_url": redis_url.get_secret_value() if redis_url else None,
                "redis_timeout_s": settings.redis_timeout_ms / 1000,
                "seal_key": secrets.seal_key.hex(),
            }
        )
        self._running: asyncio.Task[None] | None = None
        self._state: dict[str, Any] = {"id": "", "state": "none", "done": 0, "total": 0, "findings": {}}

    def start(self) -> str:
        """Begin, unless one is running; return its id."""
        if self._running is None or self._running.done():
            proof_id = random.token_hex(_ID_BYTES)
            self._state = {"id": proof_id, "state": "running", "done": 0, "total": 0, "findings": {}}
            self._running = asyncio.get_running_loop().create_task(self._run(), name="proof")
        return str(self._state["id"])

    def state(self) -> dict[str, Any]:
        """Return the proof that is running, or the last one."""
        return dict(self._state)

    async def stop(self) -> None:
        """End a proof that is running; may be called twice."""
        running, self._running = self._running, None
        if running is not None:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running

    async def _run(self) -> None:
        try:
            ending = await self._prove()
        except OSError as error:
            ending = {"state": "failed", "findings": {"what": f"the proof could not be started: {error.strerror}"}}
        self._state.update(ending)
        _log.info("books proved", state=self._state["state"], done=self._state["done"], total=self._state["total"])

    async def _prove(self) -> dict[str, Any]:
        """Return how the proof ended; that is told once its process is gone, so that the next one may begin."""
        # The kernel kills it when this process is gone, however that came.
        launched = launch([sys.executable, "-m", PROOF_MODULE], signal.SIGKILL)
        try:
            process = await asyncio.create_subprocess_exec(
                *launched.argv,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                pass_fds=launched.pass_fds,
                start_new_session=True,
            )
        finally:
            launched.close_read_end()
        try:
            assert process.stdin is not None  # noqa: S101 - it is a pipe
            assert process.stdout is not None  # noqa: S101
            with contextlib.suppress(ConnectionError):
                process.stdin.write(self._handover + b"\n")
                await process.stdin.drain()
                process.stdin.close()
            ending: dict[str, Any] | None = None
            while line := await process.stdout.readline():
                told = orjson.loads(line)
                if "state" in told:
                    ending = told
                else:
                    self._state.update(told)
            code = await process.wait()
            reason = f"the proof ended before its end, with exit code {code}"
            return ending or {"state": "failed", "findings": {"what": reason}}
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
            launched.close_write_end()
