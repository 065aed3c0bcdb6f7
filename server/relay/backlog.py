"""Sends what the relay answered itself to headquarters: in order for each card, at a bounded rate."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import count
from random import Random
from typing import Any, Final

from protocol.answers import Answer
from protocol.codes import ErrorCode
from protocol.fields import DecodeError
from protocol.messages import AnswerMessage, ErrorMessage, decode
from protocol.relay_messages import LineLimits, ReplyItem, RequestItem
from server.observation.logs import get_log
from server.relay.allowances import Allowances
from server.relay.asking import Line, LineDown, NoReply
from server.relay.patience import Patience
from server.relay.store import Store
from server.relay.store_errors import StoreFailed, StoreFull
from server.relay.store_rows import Finish, Queued

WINDOW_MAX: Final = 1_024
"""Queued requests in memory at one time."""

_FIRST_WAIT_S: Final = 0.2
_LONGEST_WAIT_S: Final = 30.0
_LOOK_EVERY_S: Final = 5.0
_STORE_AGAIN_S: Final = 1.0
_FORGET_EVERY_S: Final = 3_600.0
_BURST_S: Final = 0.5
"""What is sent at once, as a part of what may be sent in a second."""
_STALL_S: Final = 2.0
"""How long the next are held back until all that is under way is answered."""

_FINAL_ERRORS: Final = frozenset({int(ErrorCode.MALFORMED), int(ErrorCode.UNSUPPORTED), int(ErrorCode.ID_REUSED)})

_log = get_log("backlog")


class _NotNow(Exception):  # noqa: N818 - it says what is the matter
    """Headquarters has too much to do and did not execute the request."""


class _Lane:
    """Requests that must go one after the other; `attempts` of the first of them have failed."""

    __slots__ = ("attempts", "items")

    def __init__(self) -> None:
        self.items: deque[Queued] = deque()
        self.attempts = 0


class Backlog:
    """Drains a store's queue over the line; a request leaves the queue when headquarters has spoken its last word."""

    def __init__(
        self, store: Store, line: Line, allowances: Allowances, random: Random, monotonic_s: Callable[[], float]
    ) -> None:
        self._store = store
        self._line = line
        self._allowances = allowances
        self._random = random
        self._monotonic_s = monotonic_s
        self._changed = asyncio.Event()
        self._seq = 0
        self._held = 0
        self._lanes: dict[bytes, _Lane] = {}
        # Lanes whose first request may go now, and those that wait until a moment.
        self._ready: deque[_Lane] = deque()
        self._waiting: list[tuple[float, int, _Lane]] = []
        self._turn_of = count()
        self._under_way: set[asyncio.Future[ReplyItem]] = set()
        # Headquarters' last words that are not on the disk yet.
        self._spoken: list[tuple[_Lane, Finish]] = []
        self._heard = asyncio.Event()
        self._patience = Patience()
        self._paused_until = 0.0
        self._refusals = 0
        self._tokens = 0.0
        self._counted_at = monotonic_s()
        self._sent_at = float("-inf")
        self._ran_out_at = float("-inf")
        self._forgot_at = float("-inf")
        self.sent = 0
        """Copies sent so far."""

    def wake(self) -> None:
        """Look again at once: the line came up, or something was queued."""
        self._changed.set()

    async def run(self) -> None:
        """Drain until cancelled; what is under way then is asked again another time."""
        self._store.on_queued = self.wake
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._drain(), name="backlog sending")
                tasks.create_task(self._note_forever(), name="backlog noting")
        finally:
            for future in list(self._under_way):
                future.cancel()

    async def _drain(self) -> None:
        while True:
            self._changed.clear()
            wait_s = await self._turn()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()

    async def _turn(self) -> float:
        """Send what may be sent now; return for how many seconds nothing more can be done."""
        limits = self._line.limits
        if not self._line.up or limits is None:
            return _LOOK_EVERY_S
        try:
            await self._forget()
            await self._load()
        except (StoreFailed, StoreFull):
            return _STORE_AGAIN_S
        return self._send_some(limits)

    async def _forget(self) -> None:
        now, server_now_ms = self._monotonic_s(), self._line.server_now_ms()
        if server_now_ms is not None and now - self._forgot_at >= _FORGET_EVERY_S:
            await self._store.forget(server_now_ms)
            self._forgot_at = now

    async def _load(self) -> None:
        """Fill the window from the disk."""
        if self._held > WINDOW_MAX // 2 or self._held >= len(self._store.queued):
            return
        for item in await self._store.queued_after(self._seq, WINDOW_MAX - self._held):
            self._seq = item.seq
            self._held += 1
            lane = self._lanes.get(item.lane)
            if lane is None:
                lane = self._lanes[item.lane] = _Lane()
                self._ready.append(lane)
            lane.items.append(item)

    def _send_some(self, limits: LineLimits) -> float:
        now = self._monotonic_s()
        rate = max(1, limits.backlog_per_s_max)
        burst = max(1.0, rate * _BURST_S)
        self._tokens = min(burst, self._tokens + (now - self._counted_at) * rate)
        self._counted_at = now
        if now < self._paused_until:
            return self._paused_until - now
        while self._waiting and self._waiting[0][0] <= now:
            self._ready.append(heapq.heappop(self._waiting)[2])
        most = max(1, limits.backlog_in_flight_max)
        together = min(len(self._ready), int(burst), most)
        if together:
            # What gathers while others are under way goes together, as one publication for headquarters to commit and
            # to answer. But one that gets no answer must not hold up the others until it is given up.
            waited = now - self._sent_at
            if self._under_way and waited < _STALL_S:
                return _STALL_S - waited
            if self._tokens < together:
                return (together - self._tokens) / rate
            # There may be fewer in this session than are under way from the one before.
            room = most - len(self._under_way)
            if room > 0:
                self._send_next(min(together, room), now)
        wait_s = _STALL_S if self._ready else _LOOK_EVERY_S
        return min(wait_s, self._waiting[0][0] - now) if self._waiting else wait_s

    def _send_next(self, number: int, now: float) -> None:
        self._sent_at = now
        self._tokens -= number
        self.sent += number
        for _ in range(number):
            lane = self._ready.popleft()
            item = lane.items[0]
            asked = RequestItem(item.terminal, item.message, item.sale_ms, item.hold_id)
            future = self._line.post(asked, self._patience.limit_s)
            self._under_way.add(future)
            future.add_done_callback(partial(self._answered, lane, now))

    def _answered(self, lane: _Lane, sent_at: float, future: asyncio.Future[ReplyItem]) -> None:
        self._under_way.discard(future)
        if future.cancelled():
            return
        self._changed.set()
        item = lane.items[0]
        finish = None
        try:
            finish = self._last_word(item, future.result())
            if finish is not None and not lane.attempts:
                # What is sent away is sent away at once; that says nothing of how long an answer takes.
                self._patience.took(self._monotonic_s() - sent_at)
        except _NotNow:
            # Nothing came of it, so this was no attempt; the pause is for all.
            self._ready.append(lane)
            return
        except LineDown:
            self._again(lane, self._wait_s(1))
            return
        except NoReply:
            if sent_at > self._ran_out_at:
                # Once of all that went out together.
                self._ran_out_at = sent_at
                self._patience.ran_out()
        except Exception as error:  # noqa: BLE001 - a bug in one request must not stop the others
            _log.error("request of the backlog failed", request_id=item.request_id.hex(), reason=repr(error))
        if finish is None:
            lane.attempts += 1
            self._again(lane, self._wait_s(lane.attempts))
        else:
            self._spoken.append((lane, finish))
            self._heard.set()

    def _last_word(self, item: Queued, reply: ReplyItem) -> Finish | None:
        """Return headquarters' last word, None if the same must be asked again. Raises _NotNow."""
        try:
            message = decode(reply.message)
        except DecodeError:
            return None
        answered_ms = self._line.server_now_ms() or item.sale_ms
        if isinstance(message, AnswerMessage):
            self._refusals = 0
            return _judge(item, message.answer, message.replayed, answered_ms)
        if isinstance(message, ErrorMessage):
            if message.code in _FINAL_ERRORS:
                return Finish(item.request_id, answered_ms, error=message.code, release=item.hold_id is not None)
            if message.code == ErrorCode.BUSY:
                self._pause(message.retry_after_ms)
                raise _NotNow
        return None

    def _pause(self, retry_after_ms: int) -> None:
        """Send nothing for a while: headquarters has too much to do, whichever request it says so of."""
        now = self._monotonic_s()
        if now < self._paused_until:
            # Said of others that went out together with the one which began the pause.
            return
        self._refusals += 1
        self._paused_until = now + retry_after_ms / 1_000 + self._wait_s(self._refusals)

    def _wait_s(self, attempt: int) -> float:
        """Return how long to wait before repetition `attempt` (SPEC.md, section 13.2)."""
        return self._random.uniform(0, min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2 ** min(attempt - 1, 16)))

    def _again(self, lane: _Lane, wait_s: float) -> None:
        heapq.heappush(self._waiting, (self._monotonic_s() + wait_s, next(self._turn_of), lane))

    async def _note_forever(self) -> None:
        """Write down what headquarters said, and only then go on with the lanes that it was said of."""
        while True:
            await self._heard.wait()
            self._heard.clear()
            spoken, self._spoken = self._spoken, []
            await self._note([finish for _, finish in spoken])
            for lane, finish in spoken:
                hold_id = lane.items[0].hold_id
                if hold_id is not None:
                    self._allowances.settled(hold_id, finish.release)
                self._next(lane)
            self._changed.set()

    async def _note(self, finishes: list[Finish]) -> None:
        while True:
            try:
                await self._store.finish(finishes)
            except (StoreFailed, StoreFull):
                await asyncio.sleep(_STORE_AGAIN_S)
            else:
                return

    def _next(self, lane: _Lane) -> None:
        done = lane.items.popleft()
        self._held -= 1
        lane.attempts = 0
        if lane.items:
            self._ready.append(lane)
        else:
            del self._lanes[done.lane]


def _judge(item: Queued, answer: Answer, replayed: bool, answered_ms: int) -> Finish:
    # Any answer but the capture's own leaves open whether the allowance is still held; letting go of one that was
    # captured does no harm.
    release = item.hold_id is not None and (replayed or not answer.approved)
    if answer.approved:
        told = _points(item) if item.hold_id is not None else answer.points
        other = None if told == answer.points else answer.outcome
        return Finish(item.request_id, answered_ms, outcome=other, release=release)
    return Finish(item.request_id, answered_ms, outcome=answer.outcome, release=release)


def _points(item: Queued) -> int:
    """Return the points that the register was told are spent."""
    request: Any = decode(item.message)
    points: int = request.points
    return points
