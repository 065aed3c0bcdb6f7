"""Asks the workers of a running server for changes of accounts, which are theirs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

from ledger.clock import SystemClock
from ledger.journal.moving import MovingWriter
from ledger.submission import Refusal, Submission
from protocol.answers import Answer
from server.moving.openings import Asked
from server.workers.peer_link import PeerLinks

_PATIENCE_S = 10.0
_TRIES = 20
_PAUSE_S = 0.25
_AT_ONCE = 1_000
#: After these nothing happened, or the same id may be asked again.
_AGAIN = frozenset({Refusal.BUSY, Refusal.UNAVAILABLE, Refusal.EXPIRED})


class RunningServer:
    """The workers of this host, as far as this user may talk to them."""

    def __init__(self, writer: MovingWriter, partitions: int) -> None:
        self._writer = writer
        self._partitions = partitions
        self._clock = SystemClock()
        # It listens nowhere: it only asks.
        self._links = PeerLinks(f"import-{os.getpid()}", _nothing_arrives, self._clock)
        self._owners: list[str] = []

    async def close(self) -> None:
        """Disconnect."""
        await self._links.stop()

    async def ask(self, asked: Sequence[Asked]) -> None:
        """Let the owners decide, in the order given for each account; note the outcomes, None where none came."""
        by_turn: list[list[Asked]] = []
        turns: dict[int, int] = {}
        for one in asked:
            turn = turns.get(one.account, 0)
            turns[one.account] = turn + 1
            if turn == len(by_turn):
                by_turn.append([])
            by_turn[turn].append(one)
        for turn_of_all in by_turn:
            for start in range(0, len(turn_of_all), _AT_ONCE):
                await self._ask_at_once(turn_of_all[start : start + _AT_ONCE])

    async def _ask_at_once(self, asked: Sequence[Asked]) -> None:
        left = list(asked)
        for attempt in range(_TRIES):
            if attempt:
                await asyncio.sleep(_PAUSE_S)
            self._owners = await self._writer.owners()
            waiters = [self._send(one) for one in left]
            await asyncio.wait([asyncio.ensure_future(w.done.wait()) for w in waiters], timeout=2 * _PATIENCE_S)
            for waiter in waiters:
                waiter.give_up()
            left = [one for one, waiter in zip(left, waiters, strict=True) if waiter.again]
            if not left or not any(self._owners):
                return

    def _send(self, one: Asked) -> _Waiter:
        waiter = _Waiter(one)
        submission = one.submission(waiter, self._clock.monotonic_s() + _PATIENCE_S)
        owner = self._owners[one.account % self._partitions] if self._owners else ""
        if not owner or not Path(owner).exists() or not self._links.forward(owner, submission):
            waiter.refuse(one.request_id, Refusal.UNAVAILABLE, 0)
        return waiter


class _Waiter:
    """Takes the one answer."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self.again = False
        self.done = asyncio.Event()

    def answer(self, request_id: bytes, body: bytes, *, replayed: bool) -> None:  # noqa: ARG002
        self._asked.outcome = Answer.from_body(body).outcome
        self.done.set()

    def give_up(self) -> None:
        """Take silence for no answer, which can be asked for again."""
        if not self.done.is_set():
            self.again = True
            self.done.set()

    def refuse(self, request_id: bytes, refusal: Refusal, retry_after_ms: int) -> None:  # noqa: ARG002
        self.again = refusal in _AGAIN
        self.done.set()


def _nothing_arrives(_submission: Submission) -> None:
    raise AssertionError("nobody knows this address")
