"""A lean HTTP client: connections that stay open, one request under way on each, bodies filled into a template."""

from __future__ import annotations

import asyncio
import os
import random
import time
from array import array
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import uvloop

#: Minor units that one request spends.
POINTS = 100
_BODY = '{{"request_id":"{}","account_id":{},"terminal_id":1,"points":{}}}'
_HEAD = "POST /redeem HTTP/1.1\r\nHost: peer\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{}"
_END_OF_HEAD = b"\r\n\r\n"
_LENGTH = b"content-length:"
_APPROVED = b"HTTP/1.1 200"
_END_S = 30.0


@dataclass
class HttpOutcome:
    """What was heard in `seconds`, without what came in the warm-up; `latencies_us` are sorted.

    `approved` counts all approvals, those of the warm-up too: so many entries must there be.
    """

    seconds: float
    approved: int = 0
    others: dict[str, int] = field(default_factory=dict)
    latencies_us: array[int] = field(default_factory=lambda: array("Q"))

    @property
    def per_s(self) -> float:
        """Return the approvals a second."""
        return len(self.latencies_us) / self.seconds

    def percentile_ms(self, part: float) -> float:
        """Return the latency that so large a part did not exceed. Raises IndexError when nothing was heard."""
        return self.latencies_us[min(len(self.latencies_us) - 1, int(part * len(self.latencies_us)))] / 1000


class _Load:
    """What all connections share."""

    def __init__(self, accounts: int, outcome: HttpOutcome) -> None:
        self.outcome = outcome
        self.counting = False
        self.ending = False
        self._accounts = accounts
        self._dice = random.Random(accounts)  # noqa: S311 - which account is asked for is no secret
        # Ids of one run lie beside each other, as those of the load generator do.
        self._run = os.urandom(8)
        self._number = 0

    def request(self) -> bytes:
        self._number += 1
        request_id = UUID(bytes=self._run + self._number.to_bytes(8, "big"))
        body = _BODY.format(request_id, self._dice.randint(1, self._accounts), POINTS)
        return _HEAD.format(len(body), body).encode()


class _Connection(asyncio.Protocol):
    def __init__(self, load: _Load) -> None:
        self._load = load
        self._transport: Any = None
        self._received = b""
        self._sent_at = 0.0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(ConnectionError(f"the service closed a connection: {exc}"))

    def send(self) -> None:
        self._sent_at = time.perf_counter()
        self._transport.write(self._load.request())

    def data_received(self, data: bytes) -> None:
        received = self._received + data if self._received else data
        head, found, body = received.partition(_END_OF_HEAD)
        if not found or len(body) < _content_length(head):
            self._received = received
            return
        self._received = b""
        load, outcome = self._load, self._load.outcome
        if head.startswith(_APPROVED):
            outcome.approved += 1
            if load.counting:
                outcome.latencies_us.append(int((time.perf_counter() - self._sent_at) * 1e6))
        else:
            status = head.split(b"\r\n", 1)[0].decode(errors="replace")
            outcome.others[status] = outcome.others.get(status, 0) + 1
        if load.ending:
            self.done.set_result(None)
            self._transport.close()
        else:
            self.send()


def _content_length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(_LENGTH):
            return int(line[len(_LENGTH) :])
    return 0


def load_for(host: str, port: int, connections: int, accounts: int, *, warm_up_s: float, seconds: float) -> HttpOutcome:
    """Keep so many connections busy for a while. Raises ConnectionError and TimeoutError."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_load_for(host, port, connections, accounts, warm_up_s, seconds))


async def _load_for(
    host: str, port: int, connections: int, accounts: int, warm_up_s: float, seconds: float
) -> HttpOutcome:
    loop = asyncio.get_running_loop()
    outcome = HttpOutcome(seconds)
    load = _Load(accounts, outcome)
    opened: list[_Connection] = []
    for _ in range(connections):
        _, connection = await loop.create_connection(lambda: _Connection(load), host, port)
        opened.append(connection)
    for connection in opened:
        connection.send()
    await asyncio.sleep(warm_up_s)
    load.counting, began = True, time.perf_counter()
    await asyncio.sleep(seconds)
    load.counting, outcome.seconds = False, time.perf_counter() - began
    load.ending = True
    async with asyncio.timeout(_END_S):
        await asyncio.gather(*(connection.done for connection in opened))
    outcome.latencies_us = array("Q", sorted(outcome.latencies_us))
    return outcome
