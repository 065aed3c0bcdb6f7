"""All sessions of one bridge: of each relay one that is confirmed, and one that is not yet."""

from __future__ import annotations

from collections.abc import Iterator

from server.bridge.session import Session


class Sessions:
    """Finds sessions and ends them.

    Whoever carries publications can repeat an old HELLO, so a session counts only when a DATA under its keys has come:
    until then it takes nothing away from the one before.
    """

    def __init__(self) -> None:
        self._by_id: dict[bytes, Session] = {}
        self._confirmed: dict[int, Session] = {}
        self._unconfirmed: dict[int, Session] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._by_id.values()))

    @property
    def confirmed(self) -> int:
        """How many relays are there."""
        return len(self._confirmed)

    def knows(self, relay_id: int) -> bool:
        """Whether a relay has a session, confirmed or not."""
        return relay_id in self._confirmed or relay_id in self._unconfirmed

    def get(self, session_id: bytes) -> Session | None:
        """Return a session that has not ended."""
        return self._by_id.get(session_id)

    def begin(self, session: Session) -> None:
        """Add a session in the place of the relay's last one that was not confirmed."""
        before = self._unconfirmed.get(session.relay_id)
        if before is not None:
            self.end(before)
        self._by_id[session.ends.session_id] = self._unconfirmed[session.relay_id] = session

    def confirm(self, session: Session) -> None:
        """Note that the relay has the session's keys; its confirmed session before ends."""
        before = self._confirmed.get(session.relay_id)
        if before is not None:
            self.end(before)
        del self._unconfirmed[session.relay_id]
        self._confirmed[session.relay_id] = session
        session.confirmed = True

    def end(self, session: Session) -> None:
        """Forget a session; harmless if it has ended."""
        session.ended = True
        self._by_id.pop(session.ends.session_id, None)
        for known in (self._confirmed, self._unconfirmed):
            if known.get(session.relay_id) is session:
                del known[session.relay_id]
