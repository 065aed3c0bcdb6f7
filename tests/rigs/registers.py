"""Registers under fault: they ask, they note what they asked and heard, and the judge reads their notes."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass

from ledger.clock import SystemClock
from ledger.ledger import Ledger
from ledger.operations import Operation
from ledger.submission import Refusal, Submission
from protocol.steady_clock import SteadyClock
from tests.judge.events import ANSWERED, REFUSED, SENT, Event
from tests.judge.judge import judge
from tests.rigs.ledger_rig import Reply, Rig


@dataclass
class Asked:
    """One request, and whether it was ever approved."""

    card: int
    submission: Submission
    approved: bool = False


class Registers:
    """Ask without pause on many cards, repeat the same id whenever there was no answer, and remember all of it.

    `refusals` counts how often they had to.
    """

    def __init__(self, rig: Rig, cards: int, seed: int) -> None:
        self._rig = rig
        self._cards = cards
        self._random = random.Random(seed)  # noqa: S311 - it must be repeatable, not secret
        self._now_ms = SteadyClock()
        self._asked: list[Asked] = []
        self._events: list[Event] = []
        self.refusals = 0

    async def work(self, ledger: Ledger, requests: int, registers: int = 8) -> None:
        """Let some registers make so many requests each; returns when each has its final answer."""
        await asyncio.gather(*(self._register(ledger, f"till-{i}", requests) for i in range(registers)))

    async def _register(self, ledger: Ledger, name: str, requests: int) -> None:
        for _ in range(requests):
            asked = self._next()
            self._asked.append(asked)
            await self._insist(ledger, name, asked)
            if self._random.random() < 0.2:
                await self._insist(ledger, name, asked)

    async def _insist(self, ledger: Ledger, name: str, asked: Asked) -> None:
        """Ask with the same id until an answer comes."""
        async with asyncio.timeout(90):
            while True:
                self._note(SENT, name, asked)
                reply = await self._rig.ask(ledger, asked.submission)
                self._note(ANSWERED if reply.refusal is None else REFUSED, name, asked, reply)
                if reply.refusal is None:
                    return
                assert reply.refusal is not Refusal.ID_REUSED
                self.refusals += 1
                await asyncio.sleep(0.01)

    def _note(self, event: str, name: str, asked: Asked, reply: Reply | None = None) -> None:
        submission = asked.submission
        noted = Event(
            self._now_ms(), name, event, submission.request_id, Operation(submission.op).name, asked.card,
            submission.points, submission.amount, submission.target,
        )  # fmt: skip
        if reply is not None:
            noted = Event(
                noted.at_ms, name, event, noted.request_id, noted.op, asked.card, reply.points, None, noted.target,
                reply.outcome if reply.refusal is None else reply.refusal, reply.replayed, reply.body,
                None if reply.balance is None else tuple(reply.balance),
            )  # fmt: skip
            asked.approved = asked.approved or noted.approved
        self._events.append(noted)

    def _next(self) -> Asked:
        dice, card = self._random.random(), self._random.randrange(self._cards)
        old = [asked for asked in self._asked if asked.card == card and asked.approved]
        make = self._rig.submission
        if dice < 0.2 or not old:
            return Asked(card, make(Operation.EARN, card, amount=self._random.randrange(20, 20_000)))
        target = self._random.choice(old).submission.request_id
        if dice < 0.5:
            return Asked(card, make(Operation.REDEEM, card, points=self._random.randrange(1, 300), partial=dice < 0.4))
        if dice < 0.6:
            return Asked(card, make(Operation.SALE, card, points=self._random.randrange(100), amount=5000))
        if dice < 0.7:
            return Asked(card, make(Operation.HOLD, card, points=self._random.randrange(1, 200)))
        if dice < 0.8:
            ends = (Operation.CAPTURE, Operation.RELEASE)
            return Asked(card, make(self._random.choice(ends), card, target=target))
        if dice < 0.9:
            return Asked(card, make(Operation.REFUND, card, target=target, amount=self._random.choice((0, 1, 50))))
        return Asked(card, make(Operation.REVERSE, card, target=target))

    async def check(self) -> None:
        """Let the judge compare what was heard with the journal alone."""
        async with self._rig.database() as connection:
            entries = await connection.fetch("SELECT * FROM entry ORDER BY account_id, seq")
            accounts = await connection.fetch("SELECT * FROM account ORDER BY account_id")
        verdict = judge(self._events, entries, accounts, now_ms=SystemClock().now_ms())
        assert verdict.clean, str(verdict)
