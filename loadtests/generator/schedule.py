"""When requests are due in an open loop: times that were drawn before the first request is sent."""

from __future__ import annotations

import random
from collections.abc import Iterator


def poisson(rate_per_s: float, begins_s: float, seed: int) -> Iterator[float]:
    """Yield moments in seconds from `begins_s` on, as customers come who know nothing of each other, without end."""
    gap_s = random.Random(seed).expovariate  # noqa: S311 - a schedule is no secret
    due_s = begins_s
    while True:
        due_s += gap_s(rate_per_s)
        yield due_s
