"""A way to PostgreSQL that falls silent, as a network does: nothing is refused or cut."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

_CHUNK_BYTES = 65_536


class SilentPostgres:
    """Forwards connections. What is said during the silence arrives behind it, also that somebody has hung up."""

    def __init__(self, url: str) -> None:
        self._target_port = urlsplit(url).port
        self._url = url
        self._word = b""
        self._messages = 0
        self._speaking = asyncio.Event()
        self._speaking.set()
        self._lines: set[asyncio.Task[None]] = set()
        self.url = ""
        self.silent = asyncio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[SilentPostgres]:
        """Listen on a port of its own; speak at the end, so that nobody waits for ever."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = self._url.replace(f":{self._target_port}/", f":{server.sockets[0].getsockname()[1]}/")
        try:
            yield self
        finally:
            self.speak()
            server.close()
            for line in tuple(self._lines):
                line.cancel()
            await asyncio.gather(*self._lines, return_exceptions=True)

    def fall_silent_at(self, word: bytes, *, behind: int = 0) -> None:
        """Fall silent instead of forwarding a client's message with this word, or so many messages behind that."""
        self._word, self._messages = word, behind

    def fall_silent(self) -> None:
        """Let nothing through from now on, on whatever line."""
        self._speaking.clear()
        self.silent.set()

    def speak(self) -> None:
        """Let through what waits, and all that comes."""
        self._word = b""
        self.silent.clear()
        self._speaking.set()

    async def _accept(self, near: asyncio.StreamReader, to_near: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._lines.add(task)
        task.add_done_callback(self._lines.discard)
        far, to_far = await asyncio.open_connection("127.0.0.1", self._target_port)
        try:
            await asyncio.gather(self._forward(near, to_far, up=True), self._forward(far, to_near, up=False))
        finally:
            to_near.close()
            to_far.close()

    async def _forward(self, source: asyncio.StreamReader, to: asyncio.StreamWriter, *, up: bool) -> None:
        messages: int | None = None
        try:
            while data := await source.read(_CHUNK_BYTES):
                if messages:
                    messages -= 1
                elif up and self._word and self._word in data:
                    self._word, messages = b"", self._messages
                if messages == 0:
                    self.fall_silent()
                    messages = None
                await self._speaking.wait()
                to.write(data)
        except OSError:
            pass
        await self._speaking.wait()
        to.close()
