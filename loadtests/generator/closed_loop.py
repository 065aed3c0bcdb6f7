"""The closed loop: each register sends its next request when it has the answer to the one before."""

from __future__ import annotations

import heapq
import select
import time
from typing import Final

from loadtests.generator.fleet import NOT_READABLE, NOT_WRITABLE, Fleet
from loadtests.generator.frames import ID_AT, ID_END
from loadtests.generator.hearing import HEAD_END, OUTCOME_AT, Hearing, whole_answers
from loadtests.generator.work import NextFrame, Plan

_EVENTS: Final = 256
_READABLE: Final = select.EPOLLIN
_RETRY_MS = 100


class ClosedLoop:
    """Registers with `at_once` requests each under way, so long as the plan has any."""

    def __init__(self, fleet: Fleet, plan: Plan, hearing: Hearing, at_once: int) -> None:
        self._fleet, self._plan, self._hearing = fleet, plan, hearing
        self._at_once = at_once
        self._next_frame: NextFrame = plan.next_frame
        self._heads = whole_answers(fleet.read_bytes)
        # Registers that were told BUSY and wait: (when they go on, file number).
        self._pausing: list[tuple[float, int]] = []

    def begin(self) -> None:
        """Send the first requests."""
        self._next_frame = self._plan.next_frame
        for _ in range(self._at_once):
            for fd in self._fleet.ready:
                self._send_next(fd)

    def end(self) -> None:
        """Send nothing new."""
        self._next_frame = _nothing
        self._pausing.clear()

    def until(self, moment_s: float) -> None:  # noqa: C901 - every call that it does not make is time it does not take
        """Go on until that moment of the monotonic clock, or until nothing is under way any more. Raises Trouble."""
        fleet, hearing = self._fleet, self._hearing
        poll, receive, send, size = fleet.epoll.poll, fleet.receive, fleet.send, fleet.read_bytes
        under_way, rests, outcomes = hearing.under_way, hearing.rests, hearing.outcomes
        settle, took = under_way.pop, hearing.latencies_s.append
        next_frame, approved, heads, clock = self._next_frame, self._plan.approved, self._heads, time.monotonic
        while (left_s := moment_s - clock()) > 0 and (under_way or self._pausing):
            if self._pausing:
                left_s = min(left_s, self._wake())
            for fd, mask in poll(left_s, _EVENTS):
                try:
                    data = receive[fd](size)
                except NOT_READABLE:
                    if mask & ~_READABLE:
                        fleet.flush(fd)
                    continue
                now_s = clock()
                if (
                    data[:HEAD_END] == heads[len(data)]
                    and not rests
                    and (due_s := settle(data[ID_AT:ID_END], None)) is not None
                ):
                    outcome = data[OUTCOME_AT]
                    outcomes[outcome] += 1
                    if outcome < 2:  # noqa: PLR2004 - 0 and 1 approve
                        took(now_s - due_s)
                        if approved is not None:
                            approved(fd, data[ID_AT:ID_END])
                else:
                    self._heard(fd, data, now_s)
                    continue
                frame = next_frame(fd)
                if frame is not None:
                    under_way[frame[ID_AT:ID_END]] = now_s
                    try:
                        sent = send[fd](frame)
                    except NOT_WRITABLE:
                        sent = 0
                    if sent != len(frame):
                        fleet.say(fd, frame[sent:])

    def _heard(self, fd: int, data: bytes, now_s: float) -> None:
        """Take what is not one whole answer: several at once, a part of one, an error, a ping."""
        errors = self._hearing.errors.total()
        settled = self._hearing.taken(fd, data, now_s)
        refused = self._hearing.errors.total() - errors
        for _ in range(settled - refused):
            self._send_next(fd)
        for _ in range(refused):
            wait_ms = self._hearing.retry_after_ms or _RETRY_MS
            heapq.heappush(self._pausing, (now_s + wait_ms / 1000, fd))

    def _send_next(self, fd: int) -> None:
        frame = self._next_frame(fd)
        if frame is not None:
            self._hearing.under_way[frame[ID_AT:ID_END]] = time.monotonic()
            self._fleet.say(fd, frame)

    def _wake(self) -> float:
        """Let those go on who have waited long enough; return how long the next one waits, in seconds."""
        now_s = time.monotonic()
        while self._pausing and self._pausing[0][0] <= now_s:
            self._send_next(heapq.heappop(self._pausing)[1])
        return self._pausing[0][0] - now_s if self._pausing else float("inf")


def _nothing(_register: int) -> None:
    return None
