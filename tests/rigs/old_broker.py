"""A way to a broker that knows MQTT 3.1.1 only: it turns version 5 away as old brokers do and passes the rest on."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Literal, Self

_CONNACK_UNACCEPTABLE_VERSION = b"\x20\x02\x00\x01"
_VERSION_5 = b"\x00\x04MQTT\x05"


class OldBroker:
    """Listens on a free port of loopback while it is entered. `refuse`: by CONNACK; `close`: without a word."""

    def __init__(self, port: int, how: Literal["refuse", "close"]) -> None:
        self.port = 0
        self._behind = port
        self._how = how
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with contextlib.suppress(OSError):
            try:
                await self._pass_on(reader, writer)
            finally:
                writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connect = await reader.read(4_096)
        if _VERSION_5 in connect[:16]:
            if self._how == "refuse":
                writer.write(_CONNACK_UNACCEPTABLE_VERSION)
                await writer.drain()
            return
        from_broker, to_broker = await asyncio.open_connection("127.0.0.1", self._behind)
        to_broker.write(connect)
        try:
            await asyncio.gather(_copy(reader, to_broker), _copy(from_broker, writer))
        finally:
            to_broker.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.close()
