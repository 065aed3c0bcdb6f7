"""How many points each terminal may still spend today: reserved when a request is dispatched, settled when answered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

FIGURE_AGE_MAX_S = 30.0

_log = structlog.get_logger(subject="terminal room")


@dataclass(slots=True)
class Reservation:
    """Points set aside for one request until its answer says what became of them."""

    terminal_id: int
    day: int
    points: int


@dataclass(slots=True)
class _Figure:
    """What one terminal has spent on one day, as far as this worker knows."""

    day: int
    read_at: float | None = None
    spent: int = 0
    reserved: int = 0
    spent_since_reading: int = 0
    reading: bool = False


class TerminalRoom:
    """The daily spending room of the terminals that are connected to this worker.

    The journal holds the figure; this is a copy of it that is read when a terminal signs on and again when it is
    older than `FIGURE_AGE_MAX_S` seconds, because the same terminal may be connected to another worker as well. What
    is settled while a reading is under way is counted on top of it: it may then count twice until the next reading,
    which errs on the side of the limit.
    """

    def __init__(self, spent_today: Callable[[int], Awaitable[int]], clock: Callable[[], float]) -> None:
        """Take the reader of the journal's figure (minor points) and a monotonic clock in seconds."""
        self._spent_today = spent_today
        self._clock = clock
        self._figures: dict[int, _Figure] = {}
        self._readings: dict[int, asyncio.Task[None]] = {}

    async def load(self, terminal_id: int, day: int) -> None:
        """Read the journal's figure now, so that the first request need not wait; a failure is logged."""
        await asyncio.shield(self._read_soon(terminal_id, day))

    def room(self, terminal_id: int, day: int, limit: int) -> int | None:
        """Return the points left of `limit` today, None while the figure is not known yet."""
        figure = self._figures.get(terminal_id)
        if figure is None or figure.read_at is None:
            self._read_soon(terminal_id, day)
            return None
        if figure.day < day:
            # A new business day begins with nothing spent; what yesterday still has under way settles on yesterday.
            self._figures[terminal_id] = _Figure(day, read_at=self._clock())
            return limit
        if self._clock() - figure.read_at > FIGURE_AGE_MAX_S:
            self._read_soon(terminal_id, day)
        return max(0, limit - figure.spent - figure.reserved)

    def reserve(self, terminal_id: int, points: int) -> Reservation:
        """Set points aside; `room` must have returned a number for this terminal just before."""
        figure = self._figures[terminal_id]
        figure.reserved += points
        return Reservation(terminal_id, figure.day, points)

    def settle(self, reservation: Reservation, spent: int) -> None:
        """Replace the reserved points by those that were spent (0 for a decline or a replay)."""
        figure = self._figures.get(reservation.terminal_id)
        if figure is None or figure.day != reservation.day:
            return
        figure.reserved -= reservation.points
        figure.spent += spent
        if figure.reading:
            figure.spent_since_reading += spent

    def outdate(self, terminal_id: int) -> None:
        """Have the figure read again before long: an effect is in doubt."""
        figure = self._figures.get(terminal_id)
        if figure is not None and figure.read_at is not None:
            figure.read_at = min(figure.read_at, self._clock() - FIGURE_AGE_MAX_S - 1)

    async def stop(self) -> None:
        """Cancel readings under way; may be called twice."""
        readings = list(self._readings.values())
        for reading in readings:
            reading.cancel()
        self._readings.clear()
        await asyncio.gather(*readings, return_exceptions=True)

    def _read_soon(self, terminal_id: int, day: int) -> asyncio.Task[None]:
        reading = self._readings.get(terminal_id)
        if reading is None:
            reading = asyncio.get_running_loop().create_task(
                self._read(terminal_id, day), name=f"terminal room {terminal_id}"
            )
            self._readings[terminal_id] = reading
        return reading

    async def _read(self, terminal_id: int, day: int) -> None:
        figure = self._figures.get(terminal_id)
        if figure is None or figure.day < day:
            figure = self._figures[terminal_id] = _Figure(day)
        figure.reading = True
        figure.spent_since_reading = 0
        started = self._clock()
        try:
            spent = await self._spent_today(terminal_id)
        except Exception as error:  # noqa: BLE001 - whatever the store raises, the next request asks again
            _log.warning("terminal room unknown", terminal=terminal_id, reason=repr(error))
        else:
            figure.spent = spent + figure.spent_since_reading
            figure.read_at = started
        finally:
            figure.reading = False
            self._readings.pop(terminal_id, None)
