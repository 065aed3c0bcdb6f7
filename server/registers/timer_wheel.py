"""Time-outs of thousands of connections with one timer: due times are rounded up to ticks, each keeps their order."""

from __future__ import annotations

from typing import Protocol


class Timed(Protocol):
    """Something that wants to be called at a time of its own."""

    due_tick: int

    def on_due(self, now_ms: int) -> None:
        """Take note that the time has come; may schedule itself anew."""


class TimerWheel:
    """Holds each `Timed` at most once. A time-out that only ever moves later costs nothing until it would fire."""

    __slots__ = ("_next", "_ticks", "tick_ms")

    def __init__(self, now_ms: int, tick_ms: int) -> None:
        """Begin at a time; `tick_ms` is how late a time-out may fire."""
        self.tick_ms = tick_ms
        self._ticks: dict[int, dict[Timed, None]] = {}
        self._next = now_ms // tick_ms

    def schedule(self, timed: Timed, due_ms: int) -> None:
        """Call `on_due` at or soon after `due_ms`, or at the time scheduled before if that is earlier."""
        tick = max(-(-due_ms // self.tick_ms), self._next)
        if timed.due_tick:
            if timed.due_tick <= tick:
                return
            self.cancel(timed)
        timed.due_tick = tick
        self._ticks.setdefault(tick, {})[timed] = None

    def cancel(self, timed: Timed) -> None:
        """Forget a `Timed`; does nothing for one that is not scheduled."""
        waiting = self._ticks.get(timed.due_tick)
        timed.due_tick = 0
        if waiting is not None:
            waiting.pop(timed, None)

    def advance(self, now_ms: int) -> None:
        """Call everything that is due."""
        last = now_ms // self.tick_ms
        while self._next <= last:
            due = self._ticks.pop(self._next, None)
            self._next += 1
            for timed in due or ():
                timed.due_tick = 0
            for timed in due or ():
                timed.on_due(now_ms)

    def __len__(self) -> int:
        return sum(len(waiting) for waiting in self._ticks.values())
