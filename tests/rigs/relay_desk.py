"""A relay without its sockets: store, desk, backlog and allowances around a model of headquarters."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from protocol.answers import Answer
from protocol.codes import CardKind, Message
from protocol.relay_messages import Roster, RosterTerminal
from protocol.requests import (
    BalanceRequest,
    Card,
    EarnRequest,
    Receipt,
    RedeemRequest,
    Request,
    ReverseRequest,
    StatusRequest,
)
from server.registers.dispatch import Moment
from server.relay.allowances import Allowances
from server.relay.backlog import Backlog
from server.relay.balances import Balances
from server.relay.desk import Desk, DeskLimits
from server.relay.store import Store
from server.relay.store_rows import StoreLimits
from tests.rigs.relay_headquarters import NOW_MS, Headquarters, ModelLine

ALL_OPS = tuple(int(op) for op in Message if 16 <= op <= 34)
TERMINAL = RosterTerminal("till-1", True, ALL_OPS, b"s", 1, b"k", b"k")
OTHER = TERMINAL._replace(code="till-2")
ROSTER = Roster(1, "Shop", "EUR", 0, 86_400_000, (TERMINAL, OTHER))
LENDING = ROSTER._replace(allowance_points=500)
CARD = Card(CardKind.EAN13, "2000000000015")
SECOND = Card(CardKind.PAN, "9643100000000010")


@dataclass(frozen=True)
class Heard:
    """What a register was told: an answer's body, or an ERROR's code."""

    body: bytes | None = None
    replayed: bool = False
    error: int | None = None
    retry_after_ms: int = 0

    @property
    def answer(self) -> Answer:
        assert self.body is not None, f"ERROR {self.error}"
        return Answer.from_body(self.body)

    @property
    def outcome(self) -> int:
        return self.answer.outcome


class Register:
    """One copy of a request, and what it was told."""

    def __init__(self) -> None:
        self.heard: asyncio.Future[Heard] = asyncio.get_running_loop().create_future()

    def send_answer(self, request_id: bytes, replayed: bool, body: bytes) -> None:
        self.heard.set_result(Heard(body, replayed))

    def send_error(self, request_id: bytes, code: int, text: str, retry_after_ms: int) -> None:
        self.heard.set_result(Heard(error=code, retry_after_ms=retry_after_ms))


@dataclass
class Premises:
    folder: Path
    headquarters: Headquarters = field(default_factory=Headquarters)
    random: Random = field(default_factory=lambda: Random(1))  # noqa: S311 - must be repeatable
    roster: Roster = ROSTER
    limits: StoreLimits = field(default_factory=StoreLimits)
    desk_limits: DeskLimits = field(default_factory=DeskLimits)
    now_ms: int = NOW_MS + 5

    def __post_init__(self) -> None:
        self.line = ModelLine(self.headquarters, self.random)

    async def open(self, *, background: bool = False) -> None:
        self.store = await Store.open(self.folder, self.limits)
        roster: Callable[[], Roster] = lambda: self.roster  # noqa: E731
        self.balances = Balances(self.store)
        self.allowances = Allowances(self.store, self.line, roster, "relay-1", self.random.randbytes, 100)
        self.desk = Desk(self.store, self.line, roster, self.balances, self.allowances, self.desk_limits)
        loop = asyncio.get_running_loop()
        self.backlog = Backlog(self.store, self.line, self.allowances, self.random, loop.time)
        self._tasks: list[asyncio.Task[None]] = []
        if background:
            self.start(self.backlog.run(), self.allowances.run())

    def start(self, *works: Any) -> None:
        self._tasks += [asyncio.get_running_loop().create_task(work) for work in works]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.store.close()

    async def reopen(self) -> None:
        await self.close()
        await self.open()

    def hand_over(self, request: Request, terminal: RosterTerminal = TERMINAL) -> Register:
        register = Register()
        self.desk.take(request, terminal, register, Moment(self.now_ms, 0.0))
        return register

    async def ask(self, request: Request, terminal: RosterTerminal = TERMINAL) -> Heard:
        return await asyncio.wait_for(self.hand_over(request, terminal).heard, 20)

    async def drained(self) -> None:
        """Let the line be up until headquarters has answered everything."""
        self.line.up, self.line.lossy, self.line.silent = True, False, False
        self.backlog.wake()
        self.start(self.backlog.run())
        async with asyncio.timeout(20):
            while self.store.queued:
                await asyncio.sleep(0.002)
            await self.desk.drain()
        self.desk._draining = False

    def card(self, card: Card = CARD) -> bytes:
        assert card.token is not None
        return self.store.hash(card.token)


@asynccontextmanager
async def premises(folder: Path, **given: Any) -> AsyncIterator[Premises]:
    made = Premises(folder, **given)
    await made.open()
    try:
        yield made
    finally:
        await made.close()


def earn(amount: int = 1_000, card: Card = CARD, request_id: bytes | None = None, **given: Any) -> EarnRequest:
    request_id = request_id or os.urandom(16)
    return EarnRequest(request_id, 0, card, Receipt(amount, "EUR", "r-1"), None, given.pop("sale_time_ms", 0), **given)


def redeem(points: int, card: Card = CARD, request_id: bytes | None = None, amount: int = 10_000) -> RedeemRequest:
    return RedeemRequest(request_id or os.urandom(16), 0, card, points, Receipt(amount, "EUR", "r-2"))


def reverse(original: Request, card: Card | None = None) -> ReverseRequest:
    return ReverseRequest(os.urandom(16), 0, card or original.card, original.request_id)


def status(original: Request, card: Card | None = None) -> StatusRequest:
    return StatusRequest(os.urandom(16), 0, card or original.card, original.request_id)


def balance(card: Card = CARD) -> BalanceRequest:
    return BalanceRequest(os.urandom(16), 0, card)
