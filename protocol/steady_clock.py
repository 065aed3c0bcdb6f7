"""The clock of the clients: milliseconds since the epoch that neither jump nor run backwards."""

import time


class SteadyClock:
    """Wall-clock time of its making, carried on by the monotonic clock."""

    __slots__ = ("_offset_ns",)

    def __init__(self) -> None:
        self._offset_ns = time.time_ns() - time.monotonic_ns()

    def __call__(self) -> int:
        """Return now, in ms since the epoch."""
        return (time.monotonic_ns() + self._offset_ns) // 1_000_000
