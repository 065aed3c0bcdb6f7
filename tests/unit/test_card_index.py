"""Submissions of one card keep their order on the way through the card index."""

import asyncio
from collections.abc import Sequence
from typing import Any, cast

from ledger.card_index import CardIndex
from ledger.clock import SystemClock
from ledger.journal.pulse import Pulse
from ledger.journal.reader import CardRow, Reader
from ledger.submission import Submission

TOKEN, OTHER = b"token", b"other"


class SlowReader:
    """Answers a look-up when it is told to."""

    def __init__(self) -> None:
        self.asked: list[tuple[set[bytes], asyncio.Future[dict[bytes, CardRow]]]] = []

    async def cards(self, tokens: Sequence[bytes]) -> dict[bytes, CardRow]:
        answer: asyncio.Future[dict[bytes, CardRow]] = asyncio.get_running_loop().create_future()
        self.asked.append((set(tokens), answer))
        return await answer


def submission(number: int, token: bytes = TOKEN, *, afresh: bool = False) -> Submission:
    made = Submission(17, bytes([number]) * 16, token, 1, 1, 1, b"", (), 0.0, reply_to=cast("Any", None))
    made.resolved_afresh = afresh
    return made


async def test_what_comes_during_a_look_up_is_released_by_it_in_order() -> None:
    reader, resolved = SlowReader(), []
    index = CardIndex(
        cast("Reader", reader),
        Pulse(SystemClock(), silence_s=60.0),
        lambda each, account: resolved.append((each.request_id[0], account)),
        lambda each: resolved.append((each.request_id[0], -1)),
        entries_max=10,
        waiting_max=10,
    )
    running = asyncio.create_task(index.run())
    index.resolve(submission(1))
    await asyncio.sleep(0)
    for late in (submission(2), submission(3, OTHER), submission(4), submission(5, afresh=True)):
        index.resolve(late)
    await asyncio.sleep(0)
    reader.asked[0][1].set_result({TOKEN: CardRow(7, 1, False)})
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    # The next one would find the token remembered, so those before it are on their way.
    assert index.known(TOKEN) == 7
    assert resolved == [(1, 7), (2, 7), (4, 7)]
    assert [tokens for tokens, _ in reader.asked] == [{TOKEN}, {TOKEN, OTHER}]
    reader.asked[1][1].set_result({TOKEN: CardRow(8, 1, False)})
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert resolved[3:] == [(3, None), (5, 8)]
    running.cancel()
    await asyncio.wait([running])
