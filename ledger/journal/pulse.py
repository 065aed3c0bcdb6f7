"""Whether PostgreSQL answers at all, judged by every call of a worker: so nobody waits for one that is away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ledger.clock import Clock
from ledger.journal.writer import DOWN, JournalDown


class Pulse:
    """Counts calls under way. PostgreSQL is silent when some are and none has come back for so many seconds."""

    def __init__(self, clock: Clock, *, silence_s: float) -> None:
        self._clock = clock
        self._silence_s = silence_s
        self._under_way = 0
        self._heard_at = 0.0
        self._failed = False

    @property
    def silent(self) -> bool:
        """Return whether PostgreSQL has been asked and has not answered anything for too long."""
        return self._under_way > 0 and self._clock.monotonic_s() - self._heard_at > self._silence_s

    @property
    def away(self) -> bool:
        """Return whether PostgreSQL is silent, or failed the last time that it was asked."""
        return self._failed or self.silent

    @contextmanager
    def call(self) -> Iterator[None]:
        """Wrap one call that raises one of DOWN, or JournalDown, when PostgreSQL does not answer."""
        if not self._under_way:
            self._heard_at = self._clock.monotonic_s()
        self._under_way += 1
        try:
            yield
        except (*DOWN, JournalDown):
            self._failed = True
            raise
        else:
            self._failed = False
            self._heard_at = self._clock.monotonic_s()
        finally:
            self._under_way -= 1
