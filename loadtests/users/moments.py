"""When the test began, the same for every user of a process: what all registers do at once is timed by it."""

from __future__ import annotations

import time
from typing import Any

from locust import events


class _Beginning:
    at_s = 0.0


def _begin(**_told: Any) -> None:
    _Beginning.at_s = time.monotonic()


def elapsed_s() -> float:
    """Return how long the test has been running, in seconds."""
    return time.monotonic() - _Beginning.at_s


events.test_start.add_listener(_begin)
