"""All requests under way of one register, each on its own course through the table of retry.py (SPEC.md, 13.1)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from protocol.messages import AnswerMessage, ErrorMessage
from protocol.requests import Request, ReverseRequest
from protocol.retry import (
    GIVING_UP,
    Action,
    Backoff,
    Event,
    GivingUp,
    State,
    event_of_answer,
    event_of_error,
    event_of_reversal,
    has_effect,
    step,
)
from protocol.ticket import NO_DEADLINE_MS, InDoubt, NoAnswer, Refused, Rejected, Reply, Store, Ticket, Unanswered


@dataclass(frozen=True, slots=True)
class Timing:
    """How long a register waits for what, in ms (SPEC.md, section 15).

    `patience_ms`: for an answer, before it gives up. `reversal_patience_ms`: for the answer to the reversal that
    follows. `stop_ms`: before it tries again where it is not wanted.
    """

    connect_ms: int = 3_000
    handshake_ms: int = 10_000
    answer_margin_ms: int = 1_000
    pong_ms: int = 2_000
    patience_ms: int = 10_000
    reversal_patience_ms: int = 10_000
    stop_ms: int = 60_000
    backoff: Backoff = field(default_factory=Backoff)


class TicketBook:
    """Keeps the tickets and moves each by what happens to it; knows nothing of connections.

    `random` returns 0.0 <= x < 1.0, `new_id` 16 random bytes. Settled tickets are collected in `settled`.
    """

    def __init__(self, timing: Timing, store: Store, random: Callable[[], float], new_id: Callable[[], bytes]) -> None:
        self._timing = timing
        self._store = store
        self._random = random
        self._new_id = new_id
        self._tickets: dict[bytes, Ticket] = {}
        self.settled: list[Ticket] = []
        self.ttl_default_ms = 5_000
        self.ttl_max_ms = 30_000

    def __len__(self) -> int:
        return len(self._tickets)

    def __iter__(self) -> Iterator[Ticket]:
        return iter(tuple(self._tickets.values()))

    def add(self, request: Request, now_ms: int, giving_up: GivingUp | None, patience_ms: int | None) -> Ticket:
        """Store a request and take it up. Raises ValueError while another with its id is under way."""
        if request.request_id in self._tickets:
            raise ValueError("a request with this id is under way")
        if has_effect(request):
            self._store.put(request)
        patience_ms = self._timing.patience_ms if patience_ms is None else patience_ms
        ticket = Ticket(request, giving_up or GIVING_UP[request.op], now_ms + patience_ms, due_ms=now_ms)
        self._tickets[request.request_id] = ticket
        return ticket

    def due(self, now_ms: int) -> list[Ticket]:
        """Return what is to be sent now, oldest first."""
        return [t for t in self._tickets.values() if t.sendable and t.due_ms <= now_ms]

    def on_their_way(self) -> int:
        """Return how many copies are waited for."""
        return sum(t.on_its_way for t in self._tickets.values())

    def next_deadline_ms(self, sending: bool, resending: bool) -> int:
        """Return when something is due, NO_DEADLINE_MS for never.

        `sending` and `resending`: whether copies can be sent at all, and those of tickets in doubt.
        """
        deadline = NO_DEADLINE_MS
        for ticket in self._tickets.values():
            deadline = min(deadline, ticket.give_up_ms, ticket.silent_ms)
            if (sending and ticket.state is State.STORED) or (resending and ticket.state is State.DOUBT):
                deadline = min(deadline, ticket.due_ms)
        return deadline

    def sent(self, ticket: Ticket, now_ms: int) -> None:
        """Note that a copy was handed to the connection."""
        self._happen(ticket, Event.READY, now_ms)
        ttl_ms = min(ticket.request.ttl_ms, self.ttl_max_ms) or self.ttl_default_ms
        ticket.copies += 1
        ticket.sent_ms = now_ms
        ticket.silent_ms = now_ms + ttl_ms + self._timing.answer_margin_ms

    def answered(self, message: AnswerMessage, now_ms: int) -> None:
        """Note an ANSWER; one that nobody waits for is ignored."""
        ticket = self._tickets.get(message.request_id)
        if ticket is None:
            return
        reply = Reply.of(message)
        match self._happen(ticket, event_of_answer(ticket.request, reply.outcome), now_ms):
            case Action.DELIVER:
                self._deliver(ticket, reply, now_ms)
            case Action.REVERSE:
                # An earlier copy may yet be approved; only when that cannot be any more is a decline the truth.
                ticket.declined = reply
                self._reverse(ticket, now_ms)

    def refused(self, message: ErrorMessage, now_ms: int) -> None:
        """Note an ERROR; it speaks about one copy only."""
        ticket = self._tickets.get(message.request_id)
        if ticket is None:
            return
        ticket.refusal = Refused(message.request_id, message.code, message.text)
        event = event_of_error(message.code)
        match self._happen(ticket, event, now_ms, message.retry_after_ms):
            case Action.REPORT:
                self._fail(ticket, ticket.refusal, now_ms)
            case Action.REVERSE:
                self._reverse(ticket, now_ms)

    def lost(self, now_ms: int) -> None:
        """Note that the connection ended."""
        for ticket in self._tickets.values():
            self._happen(ticket, Event.LOST, now_ms)

    def expire(self, now_ms: int) -> list[Ticket]:
        """Take note of silence and of patience that is over; return the tickets that no answer is awaited for now."""
        forgotten = []
        for ticket in self:
            waited = ticket.on_its_way
            if ticket.silent_ms <= now_ms:
                self._happen(ticket, Event.SILENCE, now_ms)
            if ticket.give_up_ms <= now_ms and not ticket.settled:
                self._give_up(ticket, now_ms)
            if waited and (ticket.settled or not ticket.on_its_way):
                forgotten.append(ticket)
        return forgotten

    def reject(self, reason: int, text: str, now_ms: int) -> None:
        """End everything, as the server does not want this terminal; what may have had an effect stays in doubt."""
        self._end(now_ms, lambda request_id: Rejected(request_id, reason, text))

    def close(self, now_ms: int) -> None:
        """End everything, because the client is closed: what may have had an effect stays in doubt."""
        self._end(now_ms, lambda request_id: NoAnswer(request_id, "the client was closed"))

    def _end(self, now_ms: int, untouched: Callable[[bytes], Unanswered]) -> None:
        for ticket in self:
            if ticket.state is State.STORED and not ticket.settled:
                if ticket.giving_up is not GivingUp.KEEP:
                    ticket.state = State.ABANDONED
                self._fail(ticket, untouched(ticket.request.request_id), now_ms)
            elif ticket.on_its_way or ticket.state is State.DOUBT:
                self._give_up(ticket, now_ms)
        # Giving up has made reversals; nobody is there to send them.
        for ticket in self:
            if not ticket.settled and ticket.original is not None:
                self._fail(ticket, untouched(ticket.request.request_id), now_ms)

    def _happen(self, ticket: Ticket, event: Event, now_ms: int, at_least_ms: int = 0) -> Action | None:
        action, ticket.state = step(ticket.state, event)
        if action is not None:
            ticket.silent_ms = NO_DEADLINE_MS
        if action is Action.WAIT:
            wait_ms = self._timing.backoff.wait_ms(max(ticket.copies, 1), at_least_ms, self._random)
            ticket.due_ms = now_ms + wait_ms
        return action

    def _give_up(self, ticket: Ticket, now_ms: int) -> None:
        request_id = ticket.request.request_id
        untouched = ticket.refusal or NoAnswer(request_id, "no answer in time, and no effect")
        if ticket.giving_up is GivingUp.DROP:
            ticket.state = State.ABANDONED
            self._fail(ticket, untouched, now_ms)
        elif ticket.giving_up is GivingUp.KEEP:
            self._fail(ticket, untouched if ticket.state is State.STORED else InDoubt(request_id, None), now_ms)
        elif self._happen(ticket, Event.GIVE_UP, now_ms) is Action.REVERSE:
            self._reverse(ticket, now_ms)
        else:
            self._fail(ticket, untouched, now_ms)

    def _reverse(self, ticket: Ticket, now_ms: int) -> None:
        reversal = ReverseRequest(self._new_id(), 0, ticket.request.card, ticket.request.request_id)
        self._store.replace(ticket.request, reversal)
        ticket.give_up_ms = NO_DEADLINE_MS
        ticket.reversal_id = reversal.request_id
        give_up_ms = now_ms + self._timing.reversal_patience_ms
        self._tickets[reversal.request_id] = Ticket(reversal, GivingUp.KEEP, give_up_ms, due_ms=now_ms, original=ticket)

    def _deliver(self, ticket: Ticket, reply: Reply, now_ms: int) -> None:
        ticket.reply = reply
        self._settle(ticket)
        original = ticket.original
        if original is None:
            return
        if self._happen(original, event_of_reversal(reply.outcome), now_ms) is Action.DELIVER:
            original.reply = original.declined or Reply.reversed(original.request.request_id, reply)
        else:
            original.failure = InDoubt(original.request.request_id, reply.request_id)
        self._settle(original)

    def _fail(self, ticket: Ticket, failure: Unanswered, now_ms: int) -> None:
        ticket.failure = failure
        self._settle(ticket)
        original = ticket.original
        if original is not None:
            if ticket.certain:
                self._happen(original, Event.REVERSAL_DECLINED, now_ms)
            original.failure = InDoubt(original.request.request_id, ticket.request.request_id)
            self._settle(original)

    def _settle(self, ticket: Ticket) -> None:
        del self._tickets[ticket.request.request_id]
        self.settled.append(ticket)
        # A reversal in the store has taken its original's place, and a declined reversal is for a human to see.
        declined = ticket.original is not None and (
            ticket.reply is None or event_of_reversal(ticket.reply.outcome) is not Event.REVERSAL_APPROVED
        )
        if ticket.certain and ticket.reversal_id is None and not declined and has_effect(ticket.request):
            self._store.done(ticket.request.request_id)
