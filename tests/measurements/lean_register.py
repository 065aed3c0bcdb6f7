"""A register that costs next to nothing: signs on like any other, then sends frames that were encoded beforehand.

The Python client costs as much processor time as the server, so a measurement with it measures mostly the client.
"""

from __future__ import annotations

import asyncio
import base64
import os
import time
from array import array
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

from protocol.answers import outcome_of
from protocol.client_connection import ClientConnection
from protocol.codes import ErrorCode
from protocol.events import Closed, Welcomed
from protocol.framing import LENGTH_BYTES
from protocol.messages import ErrorMessage, decode, encode
from protocol.requests import Request
from protocol.scram import SaltedKey
from protocol.session import Ping, Pong

# An ANSWER up to its request id, and where id, flag and body stand in it (SPEC.md, ANSWER).
_ANSWER = b"\x94\x40\xc4\x10"
_ID_AT = len(_ANSWER)
_REPLAYED_AT = _ID_AT + 16
_BODY_AT = _REPLAYED_AT + 1
_TRUE = 0xC3
_AGAIN = frozenset({int(ErrorCode.BUSY), int(ErrorCode.EXPIRED), int(ErrorCode.UNAVAILABLE)})
_RETRY_MS = 100


@dataclass(slots=True)
class Tally:
    """What all registers heard: bodies by request id, latencies in microseconds, and when the last approval came."""

    bodies: dict[bytes, bytes] = field(default_factory=dict)
    outcomes: Counter[int] = field(default_factory=Counter)
    replayed: int = 0
    errors: Counter[int] = field(default_factory=Counter)
    latencies_us: array[int] = field(default_factory=lambda: array("Q"))
    approved_at_s: float = 0.0

    def percentile_ms(self, part: float) -> float:
        ordered = sorted(self.latencies_us)
        return ordered[min(len(ordered) - 1, int(part * len(ordered)))] / 1000 if ordered else 0.0


class Work:
    """Requests as (id, frame) that registers take until none is left; `done` when each has its answer."""

    def __init__(self, requests: list[Request]) -> None:
        self.left = deque((request.request_id, encode(request)) for request in requests)
        self.open = len(self.left)
        self.done = asyncio.get_running_loop().create_future()

    def finish_one(self) -> None:
        self.open -= 1
        if not self.open:
            self.done.set_result(None)

    def fail(self, reason: str) -> None:
        if not self.done.done():
            self.done.set_exception(RuntimeError(reason))


class LeanRegister(asyncio.Protocol):
    """One connection with some requests under way. Sends the same bytes again after BUSY, EXPIRED and UNAVAILABLE."""

    def __init__(self, terminal: str, secret: str, salted: SaltedKey | None, tally: Tally) -> None:
        nonce = base64.b64encode(os.urandom(18)).decode()
        self._connection = ClientConnection(terminal, secret, nonce, _now_ms(), salted=salted)
        self._signed_on = False
        self._rest = b""
        self.tally = tally
        self._work: Work | None = None
        self._under_way: dict[bytes, tuple[bytes, float]] = {}
        self._transport: Any = None
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def salted(self) -> SaltedKey | None:
        """What makes the handshake of the next register with the same secret cheap."""
        return self._connection.salted

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._transport.write(self._connection.data_to_send())

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ready.done():
            self.ready.set_exception(ConnectionError("the server closed the connection"))
        if self._work is not None and not self._work.done.done():
            self._work.fail("the connection was lost")

    def close(self) -> None:
        self._work = None
        self._transport.close()

    def begin(self, work: Work, at_once: int) -> None:
        """Take requests from `work` until there are none, so many at once."""
        self._work = work
        for _ in range(at_once):
            self._next()

    def data_received(self, data: bytes) -> None:
        if not self._signed_on:
            self._sign_on(data)
            return
        if self._rest:
            data = self._rest + data
        at, end = 0, len(data)
        while at + LENGTH_BYTES <= end:
            start = at + LENGTH_BYTES
            stop = start + int.from_bytes(data[at:start])
            if stop > end:
                break
            self._take(data[start:stop])
            at = stop
        self._rest = data[at:]

    def _sign_on(self, data: bytes) -> None:
        for event in self._connection.receive_data(data, _now_ms()):
            if isinstance(event, Welcomed):
                self._signed_on = True
                self.ready.set_result(None)
            elif isinstance(event, Closed) and not self.ready.done():
                self.ready.set_exception(ConnectionError(event.text))
        self._transport.write(self._connection.data_to_send())

    def _take(self, payload: bytes) -> None:
        if payload.startswith(_ANSWER):
            self._answered(payload[_ID_AT:_REPLAYED_AT], payload[_REPLAYED_AT] == _TRUE, payload[_BODY_AT:])
            return
        message = decode(payload)
        if isinstance(message, ErrorMessage):
            self._refused(message)
        elif isinstance(message, Ping):
            self._transport.write(encode(Pong(message.nonce, _now_ms())))
        elif self._work is not None:
            self._work.fail(f"the server said {message}")

    def _answered(self, request_id: bytes, replayed: bool, body: bytes) -> None:
        work, tally = self._work, self.tally
        if work is None:
            return
        asked = self._under_way.pop(request_id, None)
        if asked is None:
            work.fail("an answer that nobody waits for")
            return
        now = time.perf_counter()
        tally.latencies_us.append(int((now - asked[1]) * 1e6))
        tally.bodies[request_id] = body
        outcome = outcome_of(body)
        tally.outcomes[outcome] += 1
        if not outcome:
            tally.approved_at_s = now
        tally.replayed += replayed
        self._next()
        work.finish_one()

    def _refused(self, error: ErrorMessage) -> None:
        self.tally.errors[error.code] += 1
        if error.code in _AGAIN:
            wait_s = (error.retry_after_ms or _RETRY_MS) / 1000
            asyncio.get_running_loop().call_later(wait_s, self._send_again, error.request_id)
        elif self._work is not None:
            self._work.fail(f"error {error.code}: {error.text}")

    def _next(self) -> None:
        if self._work is not None and self._work.left:
            request_id, frame = self._work.left.popleft()
            self._under_way[request_id] = (frame, time.perf_counter())
            self._transport.write(frame)

    def _send_again(self, request_id: bytes) -> None:
        if request_id in self._under_way and not self._transport.is_closing():
            self._transport.write(self._under_way[request_id][0])


async def sign_on(
    host: str, port: int, terminals: list[str], secret: str, tally: Tally, salted: SaltedKey | None = None
) -> list[LeanRegister]:
    """Connect one register per terminal; the first computes what the others need of their common secret.

    Raises OSError when the server cannot be reached or sends a register away.
    """
    loop = asyncio.get_running_loop()
    registers: list[LeanRegister] = []
    for terminal in terminals:
        known = salted
        _, register = await loop.create_connection(lambda: LeanRegister(terminal, secret, known, tally), host, port)  # noqa: B023
        await register.ready
        salted = register.salted
        registers.append(register)
    return registers


async def answer_all(registers: list[LeanRegister], requests: list[Request], at_once: int = 1) -> float:
    """Let the registers share the requests, each with so many under way; return the seconds until the last answer.

    Raises RuntimeError when the server does what no register expects.
    """
    work = Work(requests)
    started = time.perf_counter()
    for register in registers:
        register.begin(work, at_once)
    await work.done
    return time.perf_counter() - started


def _now_ms() -> int:
    return int(time.monotonic() * 1000)
