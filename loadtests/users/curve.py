"""The shape of a test: how many registers there are at each moment, drawn as a line through points."""

from __future__ import annotations

import time
from typing import ClassVar

from locust import LoadTestShape

from loadtests.users.options import Options


class Curve(LoadTestShape):
    """Registers over time. `points` are (share of the seconds, share of the registers), from 0.0 on, in order of time.

    Users with a `fixed_count` come on top of them.
    """

    abstract = True
    points: ClassVar[tuple[tuple[float, float], ...]] = ((0.0, 1.0),)

    def tick(self) -> tuple[int, float] | None:
        """Return how many users there shall be now and how many may come or go in a second; None at the end."""
        if self.runner is None:
            return None
        options = Options.of(self.runner.environment)
        now_s = time.perf_counter() - self.start_time
        if now_s >= options.seconds:
            return None
        count = round(options.registers * self.share(now_s / options.seconds))
        count += sum(user.fixed_count for user in self.runner.environment.user_classes)
        return count, float(max(1, abs(count - self.runner.user_count)))

    def share(self, at: float) -> float:
        """Return the share of the registers at a share of the time."""
        earlier = self.points[0]
        for later in self.points[1:]:
            if at < later[0]:
                return earlier[1] + (later[1] - earlier[1]) * (at - earlier[0]) / (later[0] - earlier[0])
            earlier = later
        return earlier[1]
