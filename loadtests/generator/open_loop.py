"""The open loop: requests are due at times that no answer can delay, and their latency counts from those times."""

from __future__ import annotations

import select
import time
from collections import deque
from collections.abc import Iterator
from itertools import repeat
from typing import Final

from loadtests.generator.fleet import NOT_READABLE, Fleet
from loadtests.generator.frames import ID_AT, ID_END
from loadtests.generator.hearing import HEAD_END, OUTCOME_AT, Hearing, whole_answers
from loadtests.generator.work import Plan

_EVENTS: Final = 256
_READABLE: Final = select.EPOLLIN
_NEVER_S: Final = float("inf")
# The shortest sleep. Requests that come due meanwhile are sent together, and their latency counts from when they were
# due: a wake-up for each would cost more processor time than sending it does.
_TICK_S: Final = 0.000_25


class OpenLoop:
    """A schedule of requests for whichever register is free; one has at most `at_once` under way."""

    def __init__(
        self, fleet: Fleet, plan: Plan, hearing: Hearing, schedule: Iterator[float], at_once: int, patience_s: float
    ) -> None:
        self._fleet, self._plan, self._hearing = fleet, plan, hearing
        self._schedule = schedule
        self._patience_s = patience_s
        self._heads = whole_answers(fleet.read_bytes)
        # One element for every request that may yet be sent, by register; who was answered comes last.
        self._free = deque(fd for _ in range(at_once) for fd in fleet.ready)
        self._due_s = _NEVER_S
        self.due = self.given_up = 0

    def begin(self) -> None:
        """Let the schedule begin; its first moment should not have passed."""
        self._due_s = next(self._schedule)

    def end(self) -> None:
        """Send nothing new; what waits for a register is given up."""
        now_s = time.monotonic()
        while self._due_s <= now_s:
            self.due += 1
            self.given_up += 1
            self._due_s = next(self._schedule)
        self._due_s, self._schedule = _NEVER_S, repeat(_NEVER_S)

    def until(self, moment_s: float) -> None:  # noqa: C901 - every call that it does not make is time it does not take
        """Go on until that moment of the monotonic clock; after `end` no longer than something is under way.

        Raises Trouble.
        """
        fleet, hearing = self._fleet, self._hearing
        poll, receive, size = fleet.epoll.poll, fleet.receive, fleet.read_bytes
        rests, outcomes, heads = hearing.rests, hearing.outcomes, self._heads
        settle, took = hearing.under_way.pop, hearing.latencies_s.append
        free, approved, clock = self._free.append, self._plan.approved, time.monotonic
        polled = fleet.epoll.fileno()
        now_s = clock()
        while now_s < moment_s and (hearing.under_way or self._due_s < _NEVER_S):
            if self._due_s <= now_s and self._free:
                self._send_due(now_s)
            # What waits for a register need not be waited for, but for an answer that frees one.
            wake_s = min(moment_s, self._due_s) if self._free else moment_s
            if (wait_s := wake_s - clock()) > 0:
                # epoll counts in milliseconds; requests at a few thousand a second are due in between.
                select.select((polled,), (), (), max(wait_s, _TICK_S))
            for fd, mask in poll(0, _EVENTS):
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
                    free(fd)
                else:
                    for _ in range(hearing.taken(fd, data, now_s)):
                        free(fd)
            now_s = clock()

    def _send_due(self, now_s: float) -> None:
        """Send what is due and finds a register, the longest waiting first; give up what has waited too long."""
        fleet, free, schedule, under_way = self._fleet, self._free, self._schedule, self._hearing.under_way
        next_frame, say = self._plan.next_frame, fleet.say
        due_s, due, oldest_s = self._due_s, 0, now_s - self._patience_s
        while due_s <= now_s and free:
            due += 1
            if due_s < oldest_s:
                self.given_up += 1
                due_s = next(schedule)
                continue
            fd = free.popleft()
            frame = next_frame(fd)
            if frame is None:
                due_s = _NEVER_S
                break
            under_way[frame[ID_AT:ID_END]] = due_s
            say(fd, frame)
            due_s = next(schedule)
        self._due_s = due_s
        self.due += due
