"""Random traffic at a relay, a line in random states, and the relay killed between any two steps of its store.

Headquarters is a model that is idempotent by request id. Whatever happens: what was approved takes effect exactly once,
or is in the list of conflicts; each card's advices arrive in their order; a copy gets the same bytes; no allowance is
overdrawn, and none is left behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import tempfile
from collections import defaultdict
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocol.codes import Message, Outcome
from protocol.relay_messages import Roster
from protocol.requests import Card, Request, SaleRequest
from server.relay import allowances, backlog, store_thread
from tests.rigs.relay_desk import (
    CARD,
    LENDING,
    OTHER,
    ROSTER,
    SECOND,
    TERMINAL,
    Heard,
    Premises,
    Register,
    balance,
    earn,
    redeem,
    reverse,
    status,
)

CASES = int(os.environ.get("TILLWIRE_PROPERTY_CASES", "3200")) // 40
CARDS = (CARD, SECOND, Card(4, "+4915112345678"))
FIRST_POINTS = 2_000


class Killed(SystemExit):
    """The process ends here. A thread that ends by SystemExit says nothing of it."""


class MortalConnection:
    """A connection to SQLite that dies before or after one of the next statements."""

    def __init__(self, connection: sqlite3.Connection, life: list[int | None]) -> None:
        self._connection = connection
        self._life = life

    def _step(self) -> None:
        if self._life[0] is not None:
            self._life[0] -= 1
            if self._life[0] < 0:
                raise Killed

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        self._step()
        done = self._connection.execute(*arguments)
        self._step()
        return done

    def executemany(self, *arguments: Any) -> sqlite3.Cursor:
        self._step()
        return self._connection.executemany(*arguments)

    def close(self) -> None:
        # A process that dies lets go of its locks; here a cursor in a traceback would keep the transaction alive.
        if self._connection.in_transaction:
            self._connection.rollback()
        self._connection.close()


class Story:
    """One relay's life, and what its registers were told."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.life: list[int | None] = [None]
        self.random = Random(seed)  # noqa: S311 - must be repeatable
        self.shop = Premises(folder, random=self.random, roster=LENDING)
        for card in CARDS:
            self.shop.headquarters.balances[card.token or ""] = FIRST_POINTS
        self.requests: list[tuple[Request, Any]] = []
        self.waiting: list[tuple[Request, Register, int]] = []
        #: By request: the life of the relay in which it was heard, the bytes, and whether the relay itself answered.
        self.approved: dict[bytes, list[tuple[int, bytes, bool]]] = defaultdict(list)
        self.asked_before: set[bytes] = set()
        self.reversed: set[bytes] = set()
        self.order: dict[str | None, list[tuple[int, int, bytes]]] = defaultdict(list)
        self.clock = 0
        self.lives = 0

    async def open(self) -> None:
        self.life[0] = None
        await self.shop.open(background=True)
        self.lives += 1

    # Steps.

    def hand_over(self, request: Request, terminal: Any = TERMINAL) -> None:
        self.clock += 1
        self.waiting.append((request, self.shop.hand_over(request, terminal), self.clock))

    def new(self, kind: str, card: Card) -> None:
        request: Request
        match kind:
            case "earn":
                request = earn(self.random.randrange(10, 5_000), card)
            case "sale":
                request = SaleRequest(os.urandom(16), 0, card, earn().receipt, self.random.choice([0, 0, 50]))
            case "redeem":
                request = redeem(self.random.randrange(1, 600), card)
            case _:
                request = balance(card)
        self.requests.append((request, TERMINAL))
        self.hand_over(request)

    def about(self, kind: str, index: int) -> None:
        if not self.requests:
            return
        request, terminal = self.requests[index % len(self.requests)]
        if kind == "copy":
            # SPEC.md, 9.9: what is reversed is not sent again.
            if request.request_id not in self.reversed:
                self.hand_over(request, terminal)
        elif kind == "foreign copy":
            self.hand_over(request, OTHER)
        elif kind == "status":
            self.hand_over(status(request))
        elif request.op in (Message.EARN, Message.SALE, Message.REDEEM) and request.request_id not in self.reversed:
            self.reversed.add(request.request_id)
            undo = reverse(request)
            self.requests.append((undo, TERMINAL))
            self.hand_over(undo)

    async def settle(self) -> None:
        """Let everything that waits be answered, unless the relay dies of it."""
        for request, register, handed in self.waiting:
            while not register.heard.done() and not self.dead:
                await asyncio.sleep(0)
            if register.heard.done():
                self.note(request, register.heard.result(), handed)
        self.waiting.clear()
        if self.dead:
            await self.rise()

    def note(self, request: Request, heard: Heard, handed: int) -> None:
        self.clock += 1
        reading = request.op in (Message.BALANCE, Message.STATUS)
        if heard.body is None or heard.outcome > Outcome.APPROVED_PARTIAL or reading:
            self.asked_before.add(request.request_id)
            return
        mine = request.request_id in self.shop.store.known
        self.approved[request.request_id].append((self.lives, heard.body, mine))
        if mine and request.request_id not in self.asked_before and request.op != Message.REVERSE:
            self.order[request.card.token].append((handed, self.clock, request.request_id))
        self.asked_before.add(request.request_id)

    @property
    def dead(self) -> bool:
        return self.life[0] is not None and self.life[0] < 0

    async def rise(self) -> None:
        """Begin again with what the file says; all that was in memory is gone."""
        tasks = self.shop.desk._tasks
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for request, register, handed in self.waiting:
            if register.heard.done():
                self.note(request, register.heard.result(), handed)
            self.asked_before.add(request.request_id)
        self.waiting.clear()
        await self.shop.close()
        await self.open()

    async def step(self, kind: str, number: int) -> None:
        line = self.shop.line
        if kind in ("earn", "sale", "redeem", "balance"):
            self.new(kind, CARDS[number % len(CARDS)])
        elif kind in ("copy", "foreign copy", "status", "reverse"):
            self.about(kind, number)
        elif kind == "settle":
            await self.settle()
        elif kind == "line":
            line.up, line.lossy, line.silent = [
                (True, False, False), (False, False, False), (True, True, False), (True, False, True),
            ][number % 4]  # fmt: skip
            self.shop.backlog.wake()
        elif kind == "late":
            line.deliver_late()
        elif kind == "turns":
            for _ in range(number):
                await asyncio.sleep(0.0002)
        elif kind == "time":
            self.shop.headquarters.now_ms += (number - 10) * 1_000_000
        elif kind == "lending":
            self.lend(LENDING if number % 2 else ROSTER)
        elif kind == "kill":
            self.life[0] = number
        if self.dead:
            await self.rise()

    def lend(self, roster: Roster) -> None:
        self.shop.roster = roster
        self.shop.headquarters.lends_max = roster.allowance_points

    # The end.

    async def finish(self) -> None:
        """Let the line be good, each register have its answer, and everything arrive."""
        shop = self.shop
        await self.settle()
        self.life[0] = None
        shop.line.up, shop.line.lossy, shop.line.silent = True, False, False
        shop.line.deliver_late()
        for request, terminal in list(self.requests):
            done = request.request_id in self.approved or request.request_id in self.reversed
            if not done and request.op in (Message.EARN, Message.SALE, Message.REVERSE):
                self.hand_over(request, terminal)
        await self.settle()
        await shop.drained()
        self.lend(ROSTER)
        async with asyncio.timeout(20):
            while shop.allowances.count:
                shop.allowances._look.set()
                await asyncio.sleep(0.001)
        assert not self.dead

    def check(self) -> None:
        headquarters, shop = self.shop.headquarters, self.shop
        arrived = [request_id for _, _, request_id in headquarters.journal]
        assert len(arrived) == len(set(arrived))
        for request_id, heard in self.approved.items():
            assert request_id in headquarters.answers or request_id in headquarters.conflicts, "lost"
            bodies = {body for _, body, mine in heard if mine}
            assert len(bodies) <= 1
            for life in {life for life, _, _ in heard}:
                assert len({body for each, body, _ in heard if each == life}) == 1
        assert set(headquarters.conflicts) <= shop.store.known | {r.request_id for r, _ in self.requests}
        spent = {r.request_id for r, _ in self.requests if r.op in (Message.REDEEM, Message.REVERSE)}
        assert not spent & set(headquarters.conflicts), "overdrawn"
        assert not headquarters.held, "left behind"
        for taken in self.order.values():
            place = {each: n for n, each in enumerate(arrived)}
            for _, heard_at, earlier in taken:
                for handed_at, _, later in taken:
                    if heard_at < handed_at and {earlier, later} <= place.keys():
                        assert place[earlier] < place[later]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["earn"] * 6 + ["sale"] * 2 + ["redeem"] * 5 + ["balance"] * 2 + ["copy"] * 4 + ["foreign copy", "status"]
            + ["reverse"] * 3 + ["settle"] * 8 + ["line"] * 5 + ["late", "turns", "turns", "time", "lending"]
            + ["kill"] * 3
        ),
        st.integers(0, 25),
    ),
    min_size=5,
    max_size=60,
)  # fmt: skip


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@given(steps=STEPS, seed=st.integers(0, 2**32))
@settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck))
def test_nothing_approved_is_lost_or_doubled_however_the_relay_dies(steps: list[tuple[str, int]], seed: int) -> None:
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(allowances, "_TTL_MS", 1)
        patch.setattr(allowances, "_LOOK_EVERY_S", 0.002)
        patch.setattr(allowances, "_PATIENCE_S", 0.01)
        patch.setattr(allowances, "_GATHER_S", 0.0)
        patch.setattr(backlog, "_LOOK_EVERY_S", 0.005)
        patch.setattr(backlog, "_STORE_AGAIN_S", 0.005)
        patch.setattr(backlog, "_FIRST_WAIT_S", 0.0005)
        asyncio.run(tell(Path(folder) / "relay", steps, seed, patch))


async def tell(folder: Path, steps: list[tuple[str, int]], seed: int, patch: pytest.MonkeyPatch) -> None:
    story = Story(folder, seed)
    opened = store_thread.open_store
    patch.setattr(store_thread, "open_store", lambda folder: MortalConnection(opened(folder), story.life))
    await story.open()
    try:
        for kind, number in steps:
            await story.step(kind, number)
        await story.finish()
        story.check()
    finally:
        with contextlib.suppress(Exception):
            await story.shop.close()
