"""What arrives from the broker: whose it is, whether it is genuine and new, and to whom in the bridge it goes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ledger.clock import Clock
from ledger.programme import Programme
from ledger.relays import RelayReport
from protocol.fields import Malformed
from protocol.relay_keys import NotGenuine
from protocol.relay_line import Repeated
from protocol.relay_messages import (
    Data,
    Goodbye,
    Hello,
    Hint,
    Report,
    RequestItem,
    RosterQuery,
    UpItem,
    read_publication,
    write_publication,
)
from server.bridge.admission import Admission
from server.bridge.intake import Intake
from server.bridge.outbox import Outbox
from server.bridge.reports import Reports
from server.bridge.roster import roster_of
from server.bridge.session import Session
from server.bridge.sessions import Sessions
from server.bridge.tally import Tally
from server.bridge.topics import Place, answers, place_of
from server.mqtt import Message
from server.registers.clock import SteadyClock

_REASONS: Final = {NotGenuine: "not_genuine", Repeated: "repeated", Malformed: "malformed"}


class Arrivals:
    """Takes publications. Whatever is wrong with one is counted and not answered: anybody may have sent it."""

    def __init__(
        self,
        name: str,
        sessions: Sessions,
        admission: Admission,
        intake: Intake,
        reports: Reports,
        outbox: Outbox,
        programme: Callable[[], Programme],
        clock: Clock,
        steady: SteadyClock,
        tally: Tally,
    ) -> None:
        """`name` is the bridge's own, in the topic of what is for it."""
        self._name = name
        self._sessions = sessions
        self._admission = admission
        self._intake = intake
        self._reports = reports
        self._outbox = outbox
        self._programme = programme
        self._clock = clock
        self._steady = steady
        self._tally = tally
        self.closed = False
        """Whether no new relay is let in."""

    def take(self, message: Message) -> None:
        """Take a publication."""
        self._tally.publications_in += 1
        place = place_of(message.topic)
        try:
            publication = read_publication(message.payload)
            if place is not None and place.hello and isinstance(publication, Hello):
                if not self.closed:
                    self._admission.take(publication, place)
            elif place is not None and place.bridge == self._name and isinstance(publication, Data):
                self._take_data(publication, place, message)
            else:
                self._tally.refused["elsewhere"] += 1
        except (NotGenuine, Repeated, Malformed) as error:
            self._tally.refused[_REASONS[type(error)]] += 1

    def _take_data(self, data: Data, place: Place, message: Message) -> None:
        session = self._sessions.get(data.session_id)
        if session is None:
            self._tally.refused["unknown_session"] += 1
            hint = Goodbye(data.session_id, int(Hint.UNKNOWN_SESSION), "this session is not known here")
            self._outbox.send(answers(place.relay), write_publication(hint))
            return
        if place.relay != session.ends.topic:
            raise NotGenuine("came in under the topic of another relay")
        sent_ms, items = session.ends.open(data)
        if not session.confirmed:
            self._sessions.confirm(session)
        session.heard_s = self._clock.monotonic_s()
        session.reply_where(message.response_topic, message.correlation)
        # A relay whose clock is ahead has sent it now.
        age_ms = max(0, self._steady.now_ms() - sent_ms)
        for item in items:
            self._take_item(session, item, age_ms)
        if not any(isinstance(item, RequestItem) for item in items):
            # Nothing in it will be answered in its own time, so say at once that it was heard.
            session.live.must_speak = True
            self._outbox.flush_soon(session)

    def _take_item(self, session: Session, item: UpItem, age_ms: int) -> None:
        if isinstance(item, RequestItem):
            self._intake.take(session, item, age_ms)
        elif isinstance(item, RosterQuery):
            roster = (
                roster_of(session, self._programme(), self._clock.now_ms())
                # A roster is long and a question short: one that waits answers them all.
                if item.known_version != session.version and not session.live.roster_waits
                else None
            )
            if roster is not None:
                session.live.put(roster)
                self._outbox.flush_soon(session)
        else:
            self._take_report(session, item)

    def _take_report(self, session: Session, report: Report) -> None:
        now_ms = self._clock.now_ms()
        self._reports.note(
            RelayReport(
                session.relay_id,
                session.ends.software,
                now_ms,
                report.queued,
                now_ms - report.oldest_ms if report.queued else None,
                report.offline_since_ms or None,
            )
        )
