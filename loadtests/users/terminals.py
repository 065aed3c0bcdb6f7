"""Which terminal each register of this process is, and which relay each store: no two users of a test share one."""

from __future__ import annotations

import heapq
from typing import Any

from locust import events
from locust.env import Environment
from locust.runners import WorkerRunner

from loadtests.users.options import Options


class NoTerminal(Exception):  # noqa: N818 (says what is missing)
    """There are more registers than terminals, or more stores than relays, in the population."""


class Terminals:
    """Numbers that are handed out and come back. Of so many workers, each takes every so-manieth."""

    def __init__(self, first: int, end: int, worker: int, workers: int, what: str = "terminals") -> None:
        self._what = what
        self._next = first + worker
        self._end = end
        self._step = workers
        self._back: list[int] = []

    def take(self) -> int:
        """Return the lowest free number. Raises NoTerminal."""
        if self._back:
            return heapq.heappop(self._back)
        if self._next >= self._end:
            raise NoTerminal(f"there are only {self._end} {self._what}: tillwire add population --{self._what} N")
        self._next += self._step
        return self._next - self._step

    def give_back(self, number: int) -> None:
        """Return a number for the next one who asks."""
        heapq.heappush(self._back, number)


class _Process:
    terminals = Terminals(0, 0, 0, 1)
    relays = Terminals(0, 0, 0, 1, "relays")


def terminals() -> Terminals:
    """Return this process's terminals in the running test."""
    return _Process.terminals


def relays() -> Terminals:
    """Return this process's relays in the running test."""
    return _Process.relays


def _begin(environment: Environment, **_told: Any) -> None:
    options = Options.of(environment)
    runner = environment.runner
    worker, workers = 0, 1
    if isinstance(runner, WorkerRunner) and environment.parsed_options is not None:
        worker, workers = runner.worker_index, int(environment.parsed_options.expect_workers)
    _Process.terminals = Terminals(options.first_terminal, options.population.terminals, worker, workers)
    _Process.relays = Terminals(0, len(options.population.relays), worker, workers, "relays")


events.test_start.add_listener(_begin)
