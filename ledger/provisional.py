"""Balances while PostgreSQL is away: read from where this worker left off, marked as provisional, nothing written.

A figure may rest on decisions that were under way when PostgreSQL went, and that may or may not be journaled later.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import structlog
from lupa.lua51 import LuaError

from ledger.decision import Decider
from ledger.hot_store import HotStore, HotStoreDown, PartitionHead
from ledger.limits import Limits
from ledger.operations import Decision, Operation, Outcome
from ledger.positional import positional
from ledger.services import Services
from ledger.submission import Refusal, Submission

log = structlog.get_logger(__name__)

#: What only PostgreSQL can say for certain, since a card that was never used may lead to another account by now.
_MAY_HAVE_MOVED = frozenset({Outcome.UNKNOWN_CARD, Outcome.CARD_INACTIVE})


@dataclass(frozen=True, slots=True)
class LastServed:
    """A partition as its last epoch here left it: where its accounts are, and the head that was seen last."""

    partition: int
    hot_store: HotStore
    head: PartitionHead

    def continues_in(self, found: PartitionHead | None) -> bool:
        """Return whether nobody has taken over since, and nothing was rolled back."""
        left = self.head
        return (
            found is not None
            and (found.epoch, found.generation) == (left.epoch, left.generation)
            and found.mark >= left.mark
        )


class ProvisionalBalances:
    """Answers BALANCE for all partitions of a worker, in batches that form by themselves."""

    def __init__(self, services: Services, limits: Limits) -> None:
        self._services = services
        self._limits = limits
        self._waiting: deque[tuple[Submission, LastServed]] = deque()
        self._asked: list[tuple[Submission, LastServed]] = []
        self._wanted = asyncio.Event()
        self._not_before_s = 0.0

    @property
    def idle(self) -> bool:
        """Return whether nobody waits."""
        return not self._waiting and not self._asked

    def ask(self, submission: Submission, last: LastServed | None) -> bool:
        """Take a submission; False when it is none that can be answered, or nobody knows how."""
        if (
            last is None
            or submission.op != Operation.BALANCE
            or len(self._waiting) >= self._limits.queue_requests_max
            or self._services.clock.monotonic_s() < self._not_before_s
        ):
            return False
        self._waiting.append((submission, last))
        self._wanted.set()
        return True

    async def run(self) -> None:
        """Answer until cancelled; then everybody is refused."""
        try:
            while True:
                await self._wanted.wait()
                self._wanted.clear()
                while self._waiting:
                    await self._answer_next()
        finally:
            rest = [*self._asked, *self._waiting]
            self._asked.clear()
            self._waiting.clear()
            for submission, _ in rest:
                self._refuse(submission, Refusal.UNAVAILABLE)

    async def _answer_next(self) -> None:
        """Take those at the front that ask the same partition."""
        last = self._waiting[0][1]
        while self._waiting and self._waiting[0][1] == last and len(self._asked) < self._limits.batch_requests_max:
            self._asked.append(self._waiting.popleft())
        accounts = list({submission.account for submission, _ in self._asked})
        states: dict[int, tuple[int, bytes]] = {}
        try:
            head, found = await last.hot_store.states(last.partition, accounts)
            if last.continues_in(head):
                states = found
        except HotStoreDown:
            # One that is frozen must not take its time-out from everybody who asks.
            self._not_before_s = self._services.clock.monotonic_s() + self._limits.redis_probe_interval_s
        except ValueError as error:
            log.warning("the head in Redis is none", partition=last.partition, reason=repr(error))
        asked, self._asked = self._asked, []
        for submission, _ in asked:
            self._answer(submission, states.get(submission.account))

    def _answer(self, submission: Submission, found: tuple[int, bytes] | None) -> None:
        services = self._services
        if submission.deadline < services.clock.monotonic_s() and not submission.attempts:
            self._refuse(submission, Refusal.EXPIRED)
            return
        result = self._decide(submission, found[1]) if found is not None else None
        if result is None or result[0] != Decision.DECIDED or result[1] in _MAY_HAVE_MOVED:
            self._refuse(submission, Refusal.UNAVAILABLE)
            return
        services.statistics.provisional_balances += 1
        body = services.renderer.provisional(result[1], result[4])
        submission.reply_to.answer(submission.request_id, body, replayed=False)

    def _decide(self, submission: Submission, state: bytes) -> list[Any] | None:
        now_ms = self._services.clock.now_ms()
        request = positional(submission, now_ms, self._services.days().day(now_ms))
        try:
            result, _ = self._decider.decide(state, request, submission.terms)
        except LuaError as error:
            log.warning("a state in Redis is none", account=submission.account, reason=repr(error))
            return None
        return result

    @cached_property
    def _decider(self) -> Decider:
        return Decider()

    def _refuse(self, submission: Submission, refusal: Refusal) -> None:
        submission.reply_to.refuse(submission.request_id, refusal, self._limits.busy_retry_after_ms)
