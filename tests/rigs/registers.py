"""Registers under fault: what they asked and heard, and whether the journal bears it out."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field

from ledger.ledger import Ledger
from ledger.operations import Operation, Outcome
from ledger.submission import Refusal, Submission
from tests.rigs.ledger_rig import Reply, Rig

_APPROVALS = frozenset({Outcome.APPROVED, Outcome.APPROVED_PARTIAL})


@dataclass
class Heard:
    """One request and every reply that came for it."""

    card: int
    submission: Submission
    replies: list[Reply] = field(default_factory=list)

    @property
    def approved(self) -> list[Reply]:
        return [reply for reply in self.replies if reply.outcome in _APPROVALS]


class Registers:
    """Ask without pause on many cards, repeat the same id whenever there was no answer, and remember all of it."""

    def __init__(self, rig: Rig, cards: int, seed: int) -> None:
        self._rig = rig
        self._cards = cards
        self._random = random.Random(seed)  # noqa: S311 - it must be repeatable, not secret
        self.heard: list[Heard] = []

    async def work(self, ledger: Ledger, requests: int, registers: int = 8) -> None:
        """Let some registers make so many requests each; returns when each has its final answer."""
        await asyncio.gather(*(self._register(ledger, requests) for _ in range(registers)))

    async def _register(self, ledger: Ledger, requests: int) -> None:
        for _ in range(requests):
            heard = self._next()
            self.heard.append(heard)
            await self.insist(ledger, heard)
            if self._random.random() < 0.2:
                await self.insist(ledger, heard)

    async def insist(self, ledger: Ledger, heard: Heard) -> None:
        """Ask with the same id until an answer comes."""
        async with asyncio.timeout(90):
            while True:
                reply = await self._rig.ask(ledger, heard.submission)
                heard.replies.append(reply)
                if reply.refusal is None:
                    return
                assert reply.refusal is not Refusal.ID_REUSED
                await asyncio.sleep(0.01)

    def _next(self) -> Heard:
        dice, card = self._random.random(), self._random.randrange(self._cards)
        old = [h for h in self.heard if h.card == card and h.approved]
        make = self._rig.submission
        if dice < 0.2 or not old:
            return Heard(card, make(Operation.EARN, card, amount=self._random.randrange(20, 20_000)))
        target = self._random.choice(old).submission.request_id
        if dice < 0.5:
            return Heard(card, make(Operation.REDEEM, card, points=self._random.randrange(1, 300), partial=dice < 0.4))
        if dice < 0.6:
            return Heard(card, make(Operation.SALE, card, points=self._random.randrange(100), amount=5000))
        if dice < 0.7:
            return Heard(card, make(Operation.HOLD, card, points=self._random.randrange(1, 200)))
        if dice < 0.8:
            ends = (Operation.CAPTURE, Operation.RELEASE)
            return Heard(card, make(self._random.choice(ends), card, target=target))
        if dice < 0.9:
            return Heard(card, make(Operation.REFUND, card, target=target, amount=self._random.choice((0, 1, 50))))
        return Heard(card, make(Operation.REVERSE, card, target=target))

    async def check(self) -> None:
        """Compare what was heard with the journal alone."""
        async with self._rig.database() as connection:
            entries = await connection.fetch("SELECT * FROM entry ORDER BY account_id, seq")
        effects = Counter(entry["request_id"] for entry in entries if entry["request_id"] is not None)
        assert not [request_id for request_id, count in effects.items() if count > 1]
        journal = {entry["request_id"]: entry for entry in entries if entry["request_id"] is not None}
        for heard in self.heard:
            entry = journal.get(heard.submission.request_id)
            for reply in heard.approved:
                assert entry is not None, f"approved, but not journaled: {heard}"
                assert entry["answer"] == reply.body, f"heard other bytes than the journal has: {heard}"
            fresh = [reply for reply in heard.replies if reply.refusal is None and not reply.replayed]
            assert len([reply for reply in fresh if reply.outcome in _APPROVALS]) <= 1, f"decided twice: {heard}"
            if entry is not None and heard.replies[-1].refusal is None:
                assert heard.replies[-1].body == entry["answer"], f"an effect, but the last answer denies it: {heard}"
        self._check_sums(list(map(dict, entries)))

    def _check_sums(self, entries: list[dict[str, int]]) -> None:
        balance: Counter[int] = Counter()
        for entry in entries:
            balance[entry["account_id"]] += entry["points"]
            assert balance[entry["account_id"]] == entry["balance_after"] >= entry["held_after"] >= 0
