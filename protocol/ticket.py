"""One request on its way: what the register waits for, and how it may end (SPEC.md, section 13)."""

from dataclasses import dataclass
from typing import Protocol, Self

from protocol.answers import Answer
from protocol.codes import ErrorCode, Goodbye, Outcome
from protocol.messages import AnswerMessage
from protocol.requests import Request
from protocol.retry import FINAL, GivingUp, State

NO_DEADLINE_MS = 2**62
"""Later than any clock will show."""


_FINAL_ERRORS = frozenset({ErrorCode.MALFORMED, ErrorCode.UNSUPPORTED, ErrorCode.ID_REUSED})


@dataclass(frozen=True, slots=True)
class Reply(Answer):
    """An answer with the id it belongs to.

    `replayed` is true when an earlier copy of the request had the effect. `reversal_id` is set when no answer came and
    the client reversed the request: then `outcome` is REVERSED and `balance` that of the reversal's answer.
    """

    request_id: bytes = bytes(16)
    replayed: bool = False
    reversal_id: bytes | None = None

    @classmethod
    def of(cls, message: AnswerMessage) -> Self:
        """Return the server's answer as a reply."""
        answer = message.answer
        return cls(
            answer.outcome,
            answer.points,
            answer.earned,
            answer.balance,
            answer.slip,
            answer.detail,
            message.request_id,
            message.replayed,
        )

    @classmethod
    def reversed(cls, request_id: bytes, reversal: "Reply") -> Self:
        """Return the reply to a request that was reversed because no answer came."""
        return cls(Outcome.REVERSED, 0, 0, reversal.balance, (), None, request_id, False, reversal.request_id)


class Unanswered(Exception):  # noqa: N818 (says what is the matter; the server found no answer wrong)
    """A request has no answer; `request_id` is its 16 bytes."""

    def __init__(self, request_id: bytes, sentence: str) -> None:
        super().__init__(f"{request_id.hex()}: {sentence}")
        self.request_id = request_id


class NoAnswer(Unanswered):
    """No answer, and no doubt: the request was a question, was never sent, or every copy was refused without effect."""


class Rejected(NoAnswer):
    """The server does not want this terminal; `reason` is a Goodbye and `text` is for a log."""

    def __init__(self, request_id: bytes, reason: int, text: str) -> None:
        name = Goodbye(reason).name if reason in list(Goodbye) else str(reason)
        super().__init__(request_id, f"the server said GOODBYE {name}: {text}")
        self.reason = reason
        self.text = text


class Refused(Unanswered):
    """The server answered ERROR; `code` is an ErrorCode, `text` is for a log. No copy of the request had an effect."""

    def __init__(self, request_id: bytes, code: int, text: str) -> None:
        name = ErrorCode(code).name if code in list(ErrorCode) else str(code)
        super().__init__(request_id, f"the server said ERROR {name}: {text}")
        self.code = code
        self.text = text

    @property
    def final(self) -> bool:
        """Whether sending the same again is of no use."""
        return self.code in _FINAL_ERRORS


class InDoubt(Unanswered):
    """Nobody knows whether the request took effect: it stays in the register's store.

    `reversal_id` is the id under which it is being reversed, or None for a request that is to be sent again (an EARN).
    """

    def __init__(self, request_id: bytes, reversal_id: bytes | None) -> None:
        way_out = "send it again" if reversal_id is None else f"send the reversal {reversal_id.hex()} again"
        super().__init__(request_id, f"the outcome is unknown; {way_out}")
        self.reversal_id = reversal_id


class Store(Protocol):
    """Where a register keeps its requests through a power cut (SPEC.md, section 14). Each call returns when durable."""

    def put(self, request: Request) -> None:
        """Keep a request that is about to be sent."""

    def replace(self, original: Request, reversal: Request) -> None:
        """Keep the reversal instead of its original, in one step."""

    def done(self, request_id: bytes) -> None:
        """Forget a request: its fate is known."""


class NoStore:
    """For questions, tests and registers that keep their requests themselves before they call the client."""

    def put(self, request: Request) -> None:
        """Keep nothing."""

    def replace(self, original: Request, reversal: Request) -> None:
        """Keep nothing."""

    def done(self, request_id: bytes) -> None:
        """Forget nothing."""


@dataclass(slots=True, eq=False)
class Ticket:
    """A request under way; times are on the caller's clock, in ms.

    `due_ms`: not sent (again) earlier. `silent_ms`: when the copy on its way counts as unanswered. `refusal` is the
    last ERROR, told to the caller if nothing better comes. `declined`: the answer of one copy while another one is
    unaccounted for, told to the caller once the reversal has closed the id.
    """

    request: Request
    giving_up: GivingUp
    give_up_ms: int
    state: State = State.STORED
    due_ms: int = 0
    sent_ms: int = 0
    silent_ms: int = NO_DEADLINE_MS
    copies: int = 0
    refusal: Refused | None = None
    declined: Reply | None = None
    original: "Ticket | None" = None
    reversal_id: bytes | None = None
    reply: Reply | None = None
    failure: Unanswered | None = None

    @property
    def on_its_way(self) -> bool:
        """Whether a copy was sent for which an answer is awaited."""
        return self.state is State.SENT or self.state is State.RESENT

    @property
    def sendable(self) -> bool:
        """Whether a copy is to be sent as soon as time and connection allow."""
        return self.state is State.STORED or self.state is State.DOUBT

    @property
    def settled(self) -> bool:
        """Whether the caller has a reply or a failure."""
        return self.reply is not None or self.failure is not None

    @property
    def certain(self) -> bool:
        """Whether the request's fate is known, so that the store may forget it."""
        return self.state in FINAL

    def outcome(self) -> Reply:
        """Return the reply of a settled ticket or raise its failure."""
        if self.failure is not None:
            raise self.failure
        if self.reply is None:
            raise RuntimeError("the ticket is not settled")
        return self.reply
