"""Requests of relays wait here for their turn: live ones before those of backlogs, a few in each turn of the loop."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, NamedTuple, Protocol

from ledger.clock import Clock
from protocol.codes import ErrorCode
from protocol.messages import glance
from protocol.relay_messages import RequestItem
from server.bridge.asked import Asked
from server.bridge.desk import Desk
from server.bridge.limits import BACKLOG_ITEMS_A_TURN, ITEMS_A_TURN, BridgeLimits
from server.bridge.outbox import Outbox
from server.bridge.session import Session
from server.bridge.tally import Tally
from server.observation.metrics import Metrics
from server.registers.dispatch import Moment

_BUSY_TEXT: Final = "too much under way, not executed"


class Overload(Protocol):
    """What the intake asks of the ledger itself."""

    @property
    def overloaded(self) -> bool:
        """Whether it would refuse every request as BUSY."""


class _Waiting(NamedTuple):
    """A request that waits for its turn; `sent_s` is when the relay sent it, by the monotonic clock of this process."""

    session: Session
    item: RequestItem
    sent_s: float
    arrived_s: float


class Intake:
    """Bounds what is under way and hands the rest to the desk."""

    def __init__(
        self,
        desk: Desk,
        ledger: Overload,
        metrics: Metrics,
        clock: Clock,
        limits: BridgeLimits,
        outbox: Outbox,
        backlog_outbox: Outbox,
        tally: Tally,
    ) -> None:
        self._desk = desk
        self._ledger = ledger
        self._metrics = metrics
        self._clock = clock
        self._limits = limits
        self._outbox = outbox
        self._backlog_outbox = backlog_outbox
        self._tally = tally
        self._live: deque[_Waiting] = deque()
        self._backlog: deque[_Waiting] = deque()
        self._backlog_in_flight = 0
        self._backlog_dispatched = 0
        self._scheduled = False
        self.in_flight = 0
        """Requests of all relays without an answer."""

    def take(self, session: Session, item: RequestItem, age_ms: int) -> None:
        """Take a request that was `age_ms` on its way; it is answered through its session, whatever becomes of it."""
        backlog = item.sale_ms is not None or item.hold_id is not None
        line = self._limits.line
        if len(session.backlog if backlog else session.live) >= 2 * line.in_flight_max:
            # Not even BUSY can be said any more. The relay asks again.
            self._tally.refused["too_much"] += 1
        elif (
            self.in_flight >= self._limits.in_flight_max
            or session.in_flight >= line.in_flight_max
            or (backlog and session.backlog_in_flight >= line.backlog_in_flight_max)
            # However many stores come back at once, live requests have the other half.
            or (backlog and self._backlog_in_flight >= self._limits.in_flight_max // 2)
        ):
            # What was not counted is not to be settled.
            self._busy(Asked(session, item.terminal, self._said, backlog=backlog), item)
        else:
            self.in_flight += 1
            session.in_flight += 1
            session.backlog_in_flight += backlog
            self._backlog_in_flight += backlog
            now_s = self._clock.monotonic_s()
            (self._backlog if backlog else self._live).append(_Waiting(session, item, now_s - age_ms / 1000, now_s))
            self._work_soon()

    def _work_soon(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._work)

    def _work(self) -> None:
        self._scheduled = False
        for _ in range(min(ITEMS_A_TURN, len(self._live))):
            self._dispatch(self._live.popleft(), backlog=False)
        for _ in range(min(BACKLOG_ITEMS_A_TURN, self._ready_backlog)):
            self._backlog_dispatched += 1
            self._dispatch(self._backlog.popleft(), backlog=True)
        if self._live or self._ready_backlog:
            self._work_soon()

    @property
    def _ready_backlog(self) -> int:
        """How many of the backlog may go on: what is with the ledger is what live requests wait behind."""
        return min(len(self._backlog), self._limits.backlog_at_once_max - self._backlog_dispatched)

    def _dispatch(self, waiting: _Waiting, *, backlog: bool) -> None:
        session, item, sent_s, arrived_s = waiting
        asked = Asked(session, item.terminal, self._done, backlog=backlog)
        if session.ended:
            # Nobody can be told; the relay asks again in its next session.
            self._done(asked)
        elif self._ledger.overloaded and self._busy(asked, item):
            return
        else:
            self._tally.requests += 1
            # What has been approved already is never too late.
            since_s = self._clock.monotonic_s() if backlog else sent_s
            self._desk.take(asked, item, Moment(self._clock.now_ms(), since_s), arrived_s)

    def _busy(self, asked: Asked, item: RequestItem) -> bool:
        """Send a request away unread; return False if that needs a closer look."""
        found = glance(item.message)
        if found is None:
            return False
        op, request_id = found
        self._metrics.refused(op, ErrorCode.BUSY)
        asked.send_error(request_id, int(ErrorCode.BUSY), _BUSY_TEXT, self._limits.busy_retry_after_ms)
        return True

    def _done(self, asked: Asked) -> None:
        self.in_flight -= 1
        asked.session.in_flight -= 1
        if asked.backlog:
            asked.session.backlog_in_flight -= 1
            self._backlog_in_flight -= 1
            self._backlog_dispatched -= 1
            if self._backlog:
                self._work_soon()
        self._said(asked)

    def _said(self, asked: Asked) -> None:
        if not asked.backlog:
            self._outbox.flush_soon(asked.session)
        elif asked.session.backlog_in_flight:
            # Nobody waits for it at a till, and the relay sends no more until it has them all.
            self._backlog_outbox.flush_later(asked.session)
        else:
            self._backlog_outbox.flush_soon(asked.session)
