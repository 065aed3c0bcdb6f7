"""What goes out to relays over one connection: all that one turn of the loop has for a session is one publication.

While the broker has as many as it may without acknowledging them, the rest gathers in the sessions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from server.bridge.limits import GATHERING_S, PUBLICATIONS_A_TURN
from server.bridge.session import Session, Unsaid
from server.bridge.tally import Tally
from server.mqtt import Broker, NotPublished


class Outbox:
    """Publishes for sessions, each in its turn."""

    def __init__(
        self,
        broker: Broker,
        unsaid: Callable[[Session], Unsaid],
        tally: Tally,
        steady_ms: Callable[[], int],
        *,
        qos: int,
        expiry_s: float,
    ) -> None:
        """Take the way out, what of a session takes it, and the clock that relays are told.

        Nobody waits for an answer longer than `expiry_s`.
        """
        self._broker = broker
        self._unsaid = unsaid
        self._tally = tally
        self._steady_ms = steady_ms
        self._qos = qos
        self._expiry_s = expiry_s
        self._waiting: dict[Session, None] = {}
        self._gathering: dict[Session, None] = {}
        self._scheduled = False
        self._acknowledged = asyncio.Event()

    def flush_soon(self, session: Session) -> None:
        """Publish what a session has to say, after everything that happens in this turn of the loop."""
        self._waiting[session] = None
        self.resume()

    def flush_later(self, session: Session) -> None:
        """Publish what a session has to say when more of it has gathered, soon all the same."""
        if session not in self._gathering:
            self._gathering[session] = None
            asyncio.get_running_loop().call_later(GATHERING_S, self._gathered, session)

    def _gathered(self, session: Session) -> None:
        del self._gathering[session]
        self.flush_soon(session)

    def resume(self) -> None:
        """Publish what waits, if there is room for it."""
        if not self._scheduled and self._waiting:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._flush)

    async def wait_for_room(self) -> None:
        """Wait until a publication would be taken, or the broker is away and none will for a while."""
        while self._broker.connected and not self._broker.has_room:
            self._acknowledged.clear()
            await self._acknowledged.wait()

    def send(self, topic: str, payload: bytes, correlation: bytes | None = None) -> bool:
        """Publish something at once; return False if that cannot be now."""
        try:
            published = self._broker.publish(
                topic, payload, qos=self._qos, correlation=correlation, expiry_s=self._expiry_s
            )
        except NotPublished:
            return False
        self._tally.publications_out += 1
        published.add_done_callback(self._settled)
        return True

    def _flush(self) -> None:
        self._scheduled = False
        for _ in range(PUBLICATIONS_A_TURN):
            if not (self._waiting and self._broker.has_room):
                return
            session = next(iter(self._waiting))
            del self._waiting[session]
            unsaid = self._unsaid(session)
            if session.ended or not unsaid:
                continue
            payload = session.ends.close(unsaid.next_items(), self._steady_ms(), session.version)
            if not self.send(session.response_topic, payload, session.correlation):
                # The relay asks again.
                self._tally.publications_lost += 1
            if unsaid:
                # Behind the others, which have waited longer.
                self._waiting[session] = None
        self.resume()

    def _settled(self, published: asyncio.Future[bool]) -> None:
        if published.cancelled() or published.exception() is not None:
            self._tally.publications_lost += 1
        self._acknowledged.set()
        self.resume()
