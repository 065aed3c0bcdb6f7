"""What a register does when no answer came (SPEC.md, section 13): the table, the waiting, what giving up means.

Pure: no socket, no clock, no randomness of its own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from types import MappingProxyType
from typing import Final

from protocol.codes import ErrorCode, Message, Outcome
from protocol.requests import EarnRequest, Request


class State(Enum):
    """Where one request with an effect stands (SPEC.md, section 13.1)."""

    STORED = "STORED"
    SENT = "SENT"
    DOUBT = "DOUBT"
    RESENT = "RESENT"
    REVERSING = "REVERSING"
    ANSWERED = "ANSWERED"
    REVERSED = "REVERSED"
    REFUSED = "REFUSED"
    ABANDONED = "ABANDONED"


class Event(Enum):
    """What happens to a request."""

    READY = "READY"
    ANSWER = "ANSWER"
    DECLINE = "DECLINE"
    BUSY = "BUSY"
    EXPIRED = "EXPIRED"
    UNAVAILABLE = "UNAVAILABLE"
    REFUSED = "REFUSED"
    REUSED = "REUSED"
    SILENCE = "SILENCE"
    LOST = "LOST"
    GIVE_UP = "GIVE_UP"
    REVERSAL_APPROVED = "REVERSAL_APPROVED"
    REVERSAL_DECLINED = "REVERSAL_DECLINED"


class Action(Enum):
    """What the register does about it."""

    SEND = "send"
    WAIT = "wait"
    DELIVER = "deliver"
    DROP = "drop"
    REVERSE = "reverse"
    REPORT = "report"


class GivingUp(Enum):
    """What giving up means for an operation (SPEC.md, table of section 9)."""

    DROP = "drop"
    KEEP = "keep"
    REVERSE = "reverse"


TRANSITIONS: Final[Mapping[tuple[State, Event], tuple[Action, State]]] = MappingProxyType(
    {
        (State.STORED, Event.READY): (Action.SEND, State.SENT),
        (State.STORED, Event.GIVE_UP): (Action.DROP, State.ABANDONED),
        (State.SENT, Event.ANSWER): (Action.DELIVER, State.ANSWERED),
        (State.SENT, Event.DECLINE): (Action.DELIVER, State.ANSWERED),
        (State.SENT, Event.BUSY): (Action.WAIT, State.STORED),
        (State.SENT, Event.EXPIRED): (Action.WAIT, State.STORED),
        (State.SENT, Event.UNAVAILABLE): (Action.WAIT, State.DOUBT),
        (State.SENT, Event.SILENCE): (Action.WAIT, State.DOUBT),
        (State.SENT, Event.LOST): (Action.WAIT, State.DOUBT),
        (State.SENT, Event.REFUSED): (Action.REPORT, State.REFUSED),
        (State.SENT, Event.REUSED): (Action.REPORT, State.REFUSED),
        (State.SENT, Event.GIVE_UP): (Action.REVERSE, State.REVERSING),
        (State.DOUBT, Event.READY): (Action.SEND, State.RESENT),
        (State.DOUBT, Event.ANSWER): (Action.DELIVER, State.ANSWERED),
        (State.DOUBT, Event.DECLINE): (Action.REVERSE, State.REVERSING),
        (State.DOUBT, Event.GIVE_UP): (Action.REVERSE, State.REVERSING),
        (State.RESENT, Event.ANSWER): (Action.DELIVER, State.ANSWERED),
        (State.RESENT, Event.DECLINE): (Action.REVERSE, State.REVERSING),
        (State.RESENT, Event.BUSY): (Action.WAIT, State.DOUBT),
        (State.RESENT, Event.EXPIRED): (Action.WAIT, State.DOUBT),
        (State.RESENT, Event.UNAVAILABLE): (Action.WAIT, State.DOUBT),
        (State.RESENT, Event.SILENCE): (Action.WAIT, State.DOUBT),
        (State.RESENT, Event.LOST): (Action.WAIT, State.DOUBT),
        (State.RESENT, Event.REUSED): (Action.REPORT, State.REFUSED),
        (State.RESENT, Event.REFUSED): (Action.REVERSE, State.REVERSING),
        (State.RESENT, Event.GIVE_UP): (Action.REVERSE, State.REVERSING),
        (State.REVERSING, Event.REVERSAL_APPROVED): (Action.DELIVER, State.REVERSED),
        (State.REVERSING, Event.REVERSAL_DECLINED): (Action.REPORT, State.REFUSED),
    }
)
"""The table of SPEC.md, section 13.1, row by row."""

FINAL: Final = frozenset({State.ANSWERED, State.REVERSED, State.REFUSED, State.ABANDONED})

GIVING_UP: Final[Mapping[Message, GivingUp]] = MappingProxyType(
    {
        Message.BALANCE: GivingUp.DROP,
        Message.REDEEM: GivingUp.REVERSE,
        Message.HOLD: GivingUp.REVERSE,
        Message.CAPTURE: GivingUp.REVERSE,
        Message.RELEASE: GivingUp.KEEP,
        Message.EARN: GivingUp.KEEP,
        Message.SALE: GivingUp.REVERSE,
        Message.REFUND: GivingUp.REVERSE,
        Message.REVERSE: GivingUp.KEEP,
        Message.STATUS: GivingUp.DROP,
        Message.ACTIVATE: GivingUp.KEEP,
        Message.BLOCK: GivingUp.KEEP,
        Message.REPLACE: GivingUp.KEEP,
    }
)

REVERSIBLE: Final = frozenset(
    {Message.REDEEM, Message.HOLD, Message.CAPTURE, Message.EARN, Message.SALE, Message.REFUND}
)
"""What a REVERSE can undo (SPEC.md, table of section 9)."""

# No copy fares better than the one that was declined so: it is the request itself that cannot be, or its id is closed.
_SAME_FOR_EVERY_COPY: Final = frozenset(
    {Outcome.REVERSED, Outcome.NOT_PERMITTED, Outcome.BAD_CARD, Outcome.WRONG_CURRENCY}
)
_ERROR_EVENTS: Final[Mapping[int, Event]] = MappingProxyType(
    {
        ErrorCode.MALFORMED: Event.REFUSED,
        ErrorCode.UNSUPPORTED: Event.REFUSED,
        ErrorCode.BUSY: Event.BUSY,
        ErrorCode.EXPIRED: Event.EXPIRED,
        ErrorCode.ID_REUSED: Event.REUSED,
    }
)
# Where no account answers to the card, nothing can stand.
_NOTHING_STANDS: Final = frozenset({Outcome.APPROVED, Outcome.APPROVED_PARTIAL, Outcome.BAD_CARD, Outcome.UNKNOWN_CARD})


def step(state: State, event: Event) -> tuple[Action | None, State]:
    """Return what to do and where the request stands then; an event that is not in the table changes nothing."""
    return TRANSITIONS.get((state, event), (None, state))


def event_of_answer(request: Request, outcome: int) -> Event:
    """Return whether an answer speaks for all copies of a request, or is a decline of one that binds no other."""
    if outcome <= Outcome.APPROVED_PARTIAL or outcome in _SAME_FOR_EVERY_COPY or request.op not in REVERSIBLE:
        return Event.ANSWER
    return Event.DECLINE


def event_of_error(code: int) -> Event:
    """Return the event that an ERROR's code is; an unknown code is as good as UNAVAILABLE."""
    return _ERROR_EVENTS.get(code, Event.UNAVAILABLE)


def event_of_reversal(outcome: int) -> Event:
    """Return whether the answer to a REVERSE proves that its original does not stand."""
    return Event.REVERSAL_APPROVED if outcome in _NOTHING_STANDS else Event.REVERSAL_DECLINED


def has_effect(request: Request) -> bool:
    """Return whether the request may change something, so that it must be stored before it is sent."""
    return GIVING_UP[request.op] is not GivingUp.DROP


def as_advice(request: Request) -> Request:
    """Return the same intent as it is sent again after the customer has gone: an EARN as an advice."""
    return replace(request, offline=True) if isinstance(request, EarnRequest) else request


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential backoff with full jitter (SPEC.md, section 13.2); all times in milliseconds."""

    first_ms: int = 200
    cap_ms: int = 5_000

    def wait_ms(self, attempt: int, at_least_ms: int, random: Callable[[], float]) -> int:
        """Return how long to wait before repetition `attempt` (1, 2, …).

        `at_least_ms` is what the server asked for; the jitter comes on top. `random` returns 0.0 <= x < 1.0.
        """
        # Beyond 2**20 the cap has long been reached; a bounded shift keeps the number small.
        ceiling_ms = min(self.cap_ms, self.first_ms << min(attempt - 1, 20))
        return at_least_ms + int(random() * ceiling_ms)
