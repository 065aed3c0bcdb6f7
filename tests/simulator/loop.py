"""An asyncio event loop on virtual time: nothing waits, nothing is left to chance but what the seed says.

When nothing is ready, the clock jumps to the next timer. Every callback belongs to a *process* of the simulated
installation, inherited through the context like a task's name: those of a killed process are dropped for ever, those of
a frozen one wait until it is resumed. What belongs to no process is the world: networks, engines, the scenario.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context
from itertools import count
from random import Random
from typing import Any, TypeVar

T = TypeVar("T")

#: Callbacks of one scenario; more means that something spins.
_STEPS_MAX = 1_500_000

_process: ContextVar[Process | None] = ContextVar("process", default=None)


class RanAway(Exception):  # noqa: N818 - it says what is the matter
    """The scenario did not end within its virtual time or its number of steps, or nothing will ever happen again."""


class Process:
    """A simulated operating-system process. `endings` are called once, when it is killed."""

    def __init__(self, loop: Loop, name: str, slack_s: float = 0.0) -> None:
        """Take the slack: how much later than asked for a timer may go off."""
        self.name = name
        self.slack_s = slack_s
        self.alive = True
        self.frozen = False
        self.endings: list[Callable[[], None]] = []
        self.context = copy_context()
        self.context.run(_process.set, self)
        self._loop = loop
        self._deferred: list[Handle] = []

    def start(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Run a coroutine as part of this process."""
        return self._loop.create_task(work, name=name, context=self.context.copy())

    def kill(self) -> None:
        """End the process as SIGKILL does: not one more callback of it runs."""
        if self.alive:
            self.alive = False
            self.frozen = False
            self._deferred.clear()
            endings, self.endings = self.endings, []
            for ending in endings:
                ending()

    def freeze(self) -> None:
        """Stop the process as SIGSTOP does."""
        self.frozen = self.alive

    def resume(self) -> None:
        """Let a frozen process go on, as SIGCONT does, with all that has come for it meanwhile."""
        if self.frozen:
            self.frozen = False
            deferred, self._deferred = self._deferred, []
            self._loop.again(deferred)

    def defer(self, handle: Handle) -> None:
        """Keep a callback until the process is resumed."""
        self._deferred.append(handle)


def current_process() -> Process | None:
    """Return the process that the running callback belongs to; None for the world."""
    return _process.get()


class Handle:
    """A callback to be run (asyncio.TimerHandle in all that is used of it)."""

    __slots__ = ("args", "callback", "context", "process", "stopped", "when_s")

    def __init__(
        self, callback: Callable[..., object], args: tuple[Any, ...], context: Context, process: Process | None
    ) -> None:
        self.callback = callback
        self.args = args
        self.context = context
        self.process = process
        self.stopped = False
        self.when_s = 0.0

    def cancel(self) -> None:
        """Do not run it."""
        self.stopped = True

    def cancelled(self) -> bool:
        """Return whether it was cancelled."""
        return self.stopped

    def when(self) -> float:
        """Return when it is due, in seconds of the loop's time."""
        return self.when_s


def _number(self: Any) -> int:
    """Hash by a number of the loop, so that sets of tasks and futures have the same order in every run."""
    try:
        return self.number  # type: ignore[no-any-return]
    except AttributeError:
        self.number = next(self.get_loop().numbers)
        return self.number  # type: ignore[no-any-return]


class _Task(asyncio.Task):  # type: ignore[type-arg]
    process: Process | None
    __hash__ = _number


class _Future(asyncio.Future):  # type: ignore[type-arg]
    __hash__ = _number


class Loop(asyncio.AbstractEventLoop):
    """See the module. `failures` are exceptions that nobody caught: (process, where, exception)."""

    def __init__(self, dice: Random, *, seconds_max: float) -> None:
        """Take what draws how late timers go off, and how much virtual time there is."""
        self.numbers: Iterator[int] = count()
        self.steps = 0
        self.failures: list[tuple[Process | None, str, BaseException]] = []
        self._dice = dice
        self._seconds_max = seconds_max
        self._now = 0.0
        self._ready: deque[Handle] = deque()
        self._timers: list[tuple[float, int, Handle]] = []
        self._timer_numbers = count()
        self._tasks: list[_Task] = []
        self._world = Context()
        self._over = False

    # ---- what asyncio asks for

    def time(self) -> float:
        return self._now

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> Handle:  # type: ignore[override]
        if context is None:
            context = copy_context()
        handle = Handle(callback, args, context, context.get(_process))
        self._ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Handle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Handle:
        if context is None:
            context = copy_context()
        process = context.get(_process)
        handle = Handle(callback, args, context, process)
        if process is not None and process.slack_s:
            when += self._dice.random() * process.slack_s
        handle.when_s = when
        heapq.heappush(self._timers, (when, next(self._timer_numbers), handle))
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        return _Future(loop=self)

    def create_task(  # type: ignore[override]
        self, coro: Coroutine[Any, Any, T], *, name: str | None = None, context: Context | None = None
    ) -> asyncio.Task[T]:
        task = _Task(coro, loop=self, name=name or "a task", context=context)
        task.process = _process.get() if context is None else context.get(_process)
        self._tasks.append(task)
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if self._over:
            return
        error = context.get("exception") or RuntimeError(context.get("message"))
        self.failures.append((current_process(), str(context.get("message")), error))

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return not self._over

    def is_closed(self) -> bool:
        return self._over

    # ---- for the world

    def soon(self, process: Process | None, callback: Callable[..., object], *args: Any) -> Handle:
        """Call back inside a process, or outside all of them."""
        handle = Handle(callback, args, self._world if process is None else process.context, process)
        self._ready.append(handle)
        return handle

    def at(self, when_s: float, process: Process | None, callback: Callable[..., object], *args: Any) -> Handle:
        """Call back at exactly a time inside a process, or outside all of them."""
        handle = Handle(callback, args, self._world if process is None else process.context, process)
        handle.when_s = when_s
        heapq.heappush(self._timers, (when_s, next(self._timer_numbers), handle))
        return handle

    def after(self, delay_s: float, callback: Callable[..., object], *args: Any) -> Handle:
        """Call back outside all processes."""
        return self.at(self._now + delay_s, None, callback, *args)

    def again(self, handles: list[Handle]) -> None:
        """Run callbacks that were deferred."""
        self._ready.extend(handles)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run the world until a coroutine of it has returned. Raises RanAway, and what the coroutine raises."""
        task = self.create_task(work, name="the world", context=self._world.copy())
        with self._running():
            self._spin(task)
        return task.result()

    def end(self) -> None:
        """Throw all away that is still under way; the exceptions of finished tasks that nobody took are failures."""
        self._over = True
        with self._running():
            for task in self._tasks:
                if not task.done():
                    task._log_destroy_pending = False  # type: ignore[attr-defined]
                    _close(task.get_coro())
                elif not task.cancelled() and task._log_traceback:  # type: ignore[attr-defined]
                    error = task.exception()
                    if error is not None:
                        self.failures.append((task.process, f"task {task.get_name()}", error))
        self._ready.clear()
        self._timers.clear()
        self._tasks.clear()

    def _spin(self, until: asyncio.Task[Any]) -> None:
        ready, timers = self._ready, self._timers
        while not until.done():
            if not ready:
                if not timers:
                    raise RanAway("nothing will ever happen again")
                when, _, handle = heapq.heappop(timers)
                if handle.stopped:
                    continue
                if when > self._now:
                    self._now = when
                    if when > self._seconds_max:
                        raise RanAway(f"not at rest after {self._seconds_max:.0f} virtual seconds")
                ready.append(handle)
            handle = ready.popleft()
            if handle.stopped:
                continue
            process = handle.process
            if process is not None and (process.frozen or not process.alive):
                if process.alive:
                    process.defer(handle)
                continue
            self.steps += 1
            if self.steps > _STEPS_MAX:
                raise RanAway(f"{_STEPS_MAX} callbacks, and no end")
            try:
                handle.context.run(handle.callback, *handle.args)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is reported as a breach
                self.failures.append((process, repr(handle.callback), error))

    @contextmanager
    def _running(self) -> Iterator[None]:
        asyncio._set_running_loop(self)
        # Until Python 3.12 the usual function asks the system for the process id, each of thousands of times.
        usual = asyncio.get_running_loop
        asyncio.get_running_loop = asyncio.events.get_running_loop = lambda: self
        try:
            yield
        finally:
            asyncio.get_running_loop = asyncio.events.get_running_loop = usual
            asyncio._set_running_loop(None)


def _close(coroutine: Any) -> None:
    """End a coroutine that nobody will run any more, however often it waits on its way out."""
    for _ in range(8):
        try:
            coroutine.close()
        except BaseException:  # noqa: BLE001, S112 - it ends outside of time, so nothing it says counts
            continue
        return
