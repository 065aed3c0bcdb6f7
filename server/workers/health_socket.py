"""How the supervisor tells the admin process how everything is: one JSON object for each connection to a UNIX socket.

The socket lies in the folder that they share, which only this user may enter. Nothing is read from it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson

_NAME = "health.sock"
_WRITE_TIMEOUT_S = 1.0
_ANSWER_BYTES_MAX = 16 * 2**20


class HealthSocket:
    """The supervisor's end: answers while the context lasts."""

    def __init__(self, folder: Path, health: Callable[[], dict[str, Any]]) -> None:
        self._path = folder / _NAME
        self._health = health
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        """Begin to answer."""
        server = await asyncio.start_unix_server(self._answer, self._path, start_serving=False)
        self._path.chmod(0o600)
        await server.start_serving()
        self._server = server
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Answer nobody any more."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _answer(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(orjson.dumps(self._health(), option=orjson.OPT_NON_STR_KEYS))
            async with asyncio.timeout(_WRITE_TIMEOUT_S):
                await writer.drain()
        except (OSError, TimeoutError):
            writer.transport.abort()
        finally:
            writer.close()


async def ask_health(folder: Path, timeout_s: float) -> dict[str, Any] | None:
    """Return what the supervisor says; None when it does not answer in time."""
    with contextlib.suppress(OSError, TimeoutError, ValueError):
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_unix_connection(str(folder / _NAME), limit=_ANSWER_BYTES_MAX)
            try:
                told = orjson.loads(await reader.read(-1))
                return dict(told)
            finally:
                writer.close()
    return None
