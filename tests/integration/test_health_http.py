import asyncio
import json
import socket
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from fastapi import FastAPI

from admin_api.health import router
from server.settings import Settings
from server.workers.admin_http import AdminHttp


def _get(port: int, path: str) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
            text, status = answer.read(), answer.status
    except urllib.error.HTTPError as error:
        with error:
            text, status = error.read(), error.code
    try:
        return status, json.loads(text)
    except ValueError:
        return status, text


async def get(port: int, path: str) -> tuple[int, Any]:
    return await asyncio.to_thread(_get, port, path)


class Process:
    def __init__(self, live: bool, ready: bool) -> None:
        self.told = {"live": live, "ready": ready, "down": [] if ready else ["postgres"], "state": "serving"}

    async def health(self) -> dict[str, Any]:
        return self.told

    def metrics(self) -> bytes:
        return b"tillwire_up 1\n"


@asynccontextmanager
async def serving(process: Process, **settings: Any) -> AsyncIterator[int]:
    app = FastAPI()
    app.include_router(router(process))
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    http = AdminHttp(Settings(**settings), app, listening)
    running = asyncio.create_task(http.run())
    try:
        yield port
    finally:
        http.stop()
        await running


@pytest.mark.parametrize(
    ("live", "ready", "codes"),
    [(True, True, (200, 200)), (True, False, (200, 503)), (False, True, (503, 503))],
)
async def test_health_answers_what_is_true(live: bool, ready: bool, codes: tuple[int, int]) -> None:
    process = Process(live, ready)
    async with serving(process) as port:
        assert await get(port, "/health/live") == (codes[0], {"live": live})
        assert await get(port, "/health/ready") == (codes[1], process.told)
        assert await get(port, "/metrics") == (200, b"tillwire_up 1\n")
    socket.create_server(("127.0.0.1", port)).close()


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"GET /health/live HT",
        b"POST /health/live HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n",
        b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\nGET /health/li",
    ],
)
async def test_who_falls_silent_in_the_middle_is_cut_off(said: bytes) -> None:
    async with serving(Process(True, True), admin_silence_ms=50) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(said)
        with suppress(ConnectionResetError):
            await reader.read()
        writer.close()
        assert (await get(port, "/health/live"))[0] == 200


@pytest.mark.parametrize(
    "head",
    [
        b"POST /health/live HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n",
        b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\nGET /health/live HTTP/1.1\r\nX-Long: ",
    ],
    ids=["body", "headers of the second request"],
)
async def test_who_sends_byte_by_byte_is_cut_off(head: bytes) -> None:
    async with serving(Process(True, True), admin_silence_ms=50) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head)

        async def trickle() -> None:
            while not writer.is_closing():
                writer.write(b"x")
                await asyncio.sleep(0.01)

        trickling = asyncio.create_task(trickle())
        with suppress(ConnectionError):
            await reader.read()
        trickling.cancel()
        writer.close()


async def test_who_takes_no_answer_is_cut_off() -> None:
    async with serving(Process(True, True), admin_silence_ms=50) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        with suppress(ConnectionError):
            while True:
                # Answers pile up until nothing more fits in between, and then requests do.
                writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 100)
                await writer.drain()
        writer.close()


async def test_who_asks_little_and_often_is_not_cut_off() -> None:
    async with serving(Process(True, True), admin_silence_ms=50) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(60):
            writer.write(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(len(b'{"live":true}'))
            await asyncio.sleep(0.01)
        writer.close()


async def test_too_many_connections_are_answered_503() -> None:
    async with serving(Process(True, True), admin_connections_max=2) as port:
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        while (await get(port, "/health/live"))[0] != 503:
            await asyncio.sleep(0.01)
        for _, writer in idle:
            writer.close()
        while (await get(port, "/health/live"))[0] != 200:
            await asyncio.sleep(0.01)
