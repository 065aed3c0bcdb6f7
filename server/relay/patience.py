"""How long an answer is waited for before the same request is sent again (after RFC 6298, which does so for TCP)."""

from __future__ import annotations

from typing import Final

SHORTEST_S: Final = 2.0
LONGEST_S: Final = 10.0
"""Also as long as no answer has come yet."""

# RFC 6298, section 2: the gains of the two averages, and how many deviations are waited for beyond the mean.
_MEAN_GAIN: Final = 1 / 8
_DEVIATION_GAIN: Final = 1 / 4
_DEVIATIONS: Final = 4


class Patience:
    """Learns from answers how long they take. `limit_s` is how long the next one is waited for, in seconds."""

    __slots__ = ("_deviation_s", "_mean_s", "limit_s")

    def __init__(self) -> None:
        self._mean_s: float | None = None
        self._deviation_s = 0.0
        self.limit_s = LONGEST_S

    def took(self, seconds: float) -> None:
        """Take what the answer to a request took that was sent once; of others nobody knows which copy it answers."""
        if self._mean_s is None:
            self._mean_s, self._deviation_s = seconds, seconds / 2
        else:
            self._deviation_s += _DEVIATION_GAIN * (abs(seconds - self._mean_s) - self._deviation_s)
            self._mean_s += _MEAN_GAIN * (seconds - self._mean_s)
        self.limit_s = min(LONGEST_S, max(SHORTEST_S, self._mean_s + _DEVIATIONS * self._deviation_s))

    def ran_out(self) -> None:
        """Take note that none came in time: the next one is waited for twice as long, until one comes that can count.

        Otherwise headquarters that becomes slow would be asked everything twice, and never be seen to be slow.
        """
        self.limit_s = min(LONGEST_S, 2 * self.limit_s)
