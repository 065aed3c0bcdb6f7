"""Requests on one card keep their order, whether the card had to be looked up or not."""

import asyncio
from collections.abc import Sequence
from typing import Any

from ledger.card_index import CardIndex
from ledger.clock import SystemClock
from ledger.journal.pulse import Pulse
from ledger.journal.reader import CardRow
from ledger.journal.writer import JournalDown
from ledger.operations import Operation
from ledger.submission import Submission

CARD, OTHER = b"A" * 16, b"B" * 16


class SlowReader:
    """Answers a look-up when it is told to."""

    def __init__(self) -> None:
        self.asked: list[Sequence[bytes]] = []
        self.answers: asyncio.Queue[Exception | None] = asyncio.Queue()

    async def cards(self, tokens: Sequence[bytes]) -> dict[bytes, CardRow]:
        self.asked.append(tokens)
        error = await self.answers.get()
        if error is not None:
            raise error
        return {token: CardRow(7, 1, False) for token in tokens}


class Index:
    """An index, and in which order it let submissions through: `submit` does what the ledger does."""

    def __init__(self) -> None:
        self.reader = SlowReader()
        self.through: list[int] = []
        self.failed: list[int] = []
        self.index = CardIndex(
            self.reader,  # type: ignore[arg-type]
            Pulse(SystemClock(), silence_s=60),
            lambda submission, _account: self.through.append(submission.points),
            lambda submission, _stored: self.through.append(submission.points),
            lambda submission: self.failed.append(submission.points),
            entries_max=10,
            waiting_max=10,
        )

    def submit(self, number: int, token: bytes = CARD) -> None:
        if self.index.known(token) is not None:
            self.through.append(number)
        else:
            assert self.index.resolve(_submission(number, token))

    async def answer(self, error: Exception | None = None) -> None:
        self.reader.answers.put_nowait(error)
        for _ in range(10):
            await asyncio.sleep(0)


def _submission(number: int, token: bytes) -> Submission:
    nobody: Any = None
    return Submission(Operation.SALE, bytes(16), token, 1, 1, 1, bytes(8), (), 0.0, nobody, points=number)


async def test_what_comes_during_a_look_up_is_released_by_it_in_order() -> None:
    index = Index()
    running = asyncio.create_task(index.index.run())
    index.submit(1)
    await asyncio.sleep(0)
    # The card is being looked up for the first one already, and what it tells holds for these as well.
    index.submit(2)
    index.submit(3, OTHER)
    index.submit(4)
    await index.answer()
    index.submit(5)
    assert index.through == [1, 2, 4, 5]
    await index.answer()
    assert index.through == [1, 2, 4, 5, 3]
    assert index.index.idle
    running.cancel()


async def test_one_that_is_resolved_afresh_is_told_what_was_so_after_it_came() -> None:
    index = Index()
    running = asyncio.create_task(index.index.run())
    index.submit(1)
    await asyncio.sleep(0)
    afresh = _submission(2, CARD)
    afresh.resolved_afresh = True
    assert index.index.resolve(afresh)
    await index.answer()
    assert index.through == [1]
    await index.answer()
    assert index.through == [1, 2]
    running.cancel()


async def test_a_card_whose_look_up_failed_holds_nobody_back() -> None:
    index = Index()
    running = asyncio.create_task(index.index.run())
    index.submit(1)
    await index.answer()
    index.submit(2, OTHER)
    await asyncio.sleep(0)
    index.submit(3, OTHER)
    await index.answer(JournalDown())
    assert index.failed == [2, 3]
    index.submit(4)
    assert index.through == [1, 4]
    index.submit(5, OTHER)
    await index.answer()
    assert index.through == [1, 4, 5]
    running.cancel()
