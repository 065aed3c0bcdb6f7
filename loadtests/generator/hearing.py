"""What the server says to the registers while they ask: answers, errors, pings, in any portions."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable

from loadtests.generator.fleet import Fleet, Trouble
from loadtests.generator.frames import ID_AT, ID_END
from protocol.codes import ErrorCode, Outcome
from protocol.framing import LENGTH_BYTES
from protocol.messages import ErrorMessage, decode, encode, name_of
from protocol.session import Farewell, Ping, Pong

# An ANSWER up to its request id. Behind the id stand one byte of bool, the body's array, and the outcome.
_HEAD = b"\x94\x40\xc4\x10"
# An ERROR likewise; behind the id stands its code.
_ERROR_HEAD = b"\x95\x41\xc4\x10"
_PASSING = frozenset({int(ErrorCode.BUSY), int(ErrorCode.EXPIRED)})
OUTCOME_AT = ID_END + 2
HEAD_END = ID_AT
_HEADED_MAX = 512
_APPROVALS = frozenset({int(Outcome.APPROVED), int(Outcome.APPROVED_PARTIAL)})


def whole_answers(read_bytes: int) -> list[bytes]:
    """Return, by the size of what was read, how it begins when it is exactly one ANSWER. Nothing equals a None."""
    heads = [(size - LENGTH_BYTES).to_bytes(LENGTH_BYTES) + _HEAD for size in range(OUTCOME_AT + 1, _HEADED_MAX)]
    # A read of another size is never that of one short answer: b"" equals no eight bytes.
    return [b"-"] * (OUTCOME_AT + 1) + heads + [b""] * (read_bytes + 1 - _HEADED_MAX)


class Hearing:
    """The tally of one process. `under_way` has the moment, in seconds, from which each open request is counted.

    `taken` is for everything but the one case that the loops recognise themselves: exactly one ANSWER in a read.
    """

    def __init__(self, fleet: Fleet, approved: Callable[[int, bytes], None] | None) -> None:
        self.under_way: dict[bytes, float] = {}
        self.latencies_s = array("d")
        self.outcomes = [0] * 256
        self.errors: Counter[int] = Counter()
        self.doubtful = 0
        self.rests: dict[int, bytes] = {}
        self._last_error = b""
        self._fleet = fleet
        self._approved = approved

    @property
    def approvals(self) -> int:
        """ANSWERs that approve, since the beginning."""
        return sum(self.outcomes[one] for one in _APPROVALS)

    @property
    def answers(self) -> int:
        """ANSWERs of all kinds, since the beginning."""
        return sum(self.outcomes)

    @property
    def retry_after_ms(self) -> int:
        """How long the last ERROR wants its request to wait, 0 when it does not say."""
        message = decode(self._last_error) if self._last_error else None
        return message.retry_after_ms if isinstance(message, ErrorMessage) else 0

    def taken(self, fd: int, data: bytes, now_s: float) -> int:
        """Take what was read from a register; return how many of its requests are settled by it. Raises Trouble."""
        if not data:
            raise Trouble("the server closed a connection")
        if rest := self.rests.pop(fd, b""):
            data = rest + data
        at, end, settled = 0, len(data), 0
        while end - at >= LENGTH_BYTES:
            stop = at + LENGTH_BYTES + int.from_bytes(data[at : at + LENGTH_BYTES])
            if stop > end:
                break
            head = data[at + LENGTH_BYTES : at + HEAD_END]
            if head == _HEAD:
                self._answered(fd, data[at + ID_AT : at + ID_END], data[at + OUTCOME_AT], now_s)
                settled += 1
            elif head == _ERROR_HEAD:
                self._refused(data[at + LENGTH_BYTES : stop])
                settled += 1
            else:
                self._other(fd, data[at + LENGTH_BYTES : stop])
            at = stop
        if at < end:
            self.rests[fd] = data[at:]
        return settled

    def _answered(self, fd: int, request_id: bytes, outcome: int, now_s: float) -> None:
        due_s = self.under_way.pop(request_id, None)
        if due_s is None:
            raise Trouble("an answer that nobody waits for")
        self.outcomes[outcome] += 1
        if outcome in _APPROVALS:
            self.latencies_s.append(now_s - due_s)
            if self._approved is not None:
                self._approved(fd, request_id)

    def _refused(self, payload: bytes) -> None:
        request_id, code = payload[ID_AT - LENGTH_BYTES : ID_END - LENGTH_BYTES], payload[ID_END - LENGTH_BYTES]
        if self.under_way.pop(request_id, None) is None:
            raise Trouble("an ERROR that nobody waits for")
        self.errors[code] += 1
        self._last_error = payload
        if code == ErrorCode.UNAVAILABLE:
            # Of all errors only this one leaves open whether the request has taken effect, or will.
            self.doubtful += 1
        elif code not in _PASSING:
            raise Trouble(f"the server says {decode(payload)}")

    def _other(self, fd: int, payload: bytes) -> None:
        message = decode(payload)
        if isinstance(message, Ping):
            self._fleet.say(fd, encode(Pong(message.nonce, 0)))
        elif isinstance(message, Farewell):
            raise Trouble(f"the server says GOODBYE {message.reason}: {message.text}")
        elif not isinstance(message, Pong):
            raise Trouble(f"the server sent {name_of(message)}")
