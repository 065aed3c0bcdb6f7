"""The rows of locust's statistics: which there are, and what counts as a failure. loadtests/README.md explains them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from protocol.codes import ErrorCode, Outcome

TCP: Final = "tillwire"
MQTT: Final = "mqtt"
HTTP: Final = "http"


class Failure(Exception):  # noqa: N818 (it names what locust calls a failure)
    """Why a request failed, in one word: locust groups failures by it."""

    def __init__(self, word: str) -> None:
        super().__init__(word)
        self.word = word

    def __repr__(self) -> str:
        return self.word


CONNECTION_LOST: Final = "ConnectionLost"
HANDSHAKE_FAILED: Final = "HandshakeFailed"
NOT_REACHED: Final = "NotReached"
REJECTED: Final = "Rejected"
REVERSED: Final = "Reversed"
SILENCE: Final = "Silence"


def error_word(code: int) -> str:
    """Return an ERROR's code as one word: `Busy`, `IdReused`."""
    name = ErrorCode(code).name if code in list(ErrorCode) else f"ERROR_{code}"
    return name.title().replace("_", "")


def answer_name(operation: str, outcome: int) -> str:
    """Return the row of an answer: an approval stands under the operation, a decline under its outcome as well."""
    if outcome <= Outcome.APPROVED_PARTIAL:
        return operation
    name = Outcome(outcome).name if outcome in list(Outcome) else str(outcome)
    return f"{operation} declined {name}"


@dataclass(frozen=True, slots=True)
class Rows:
    """Reports to locust's statistics: `fire` is that of its event `request`.

    `label` returns what follows each name, if anything. This module needs no locust: importing that changes the sockets
    and threads of the whole process.
    """

    fire: Callable[..., Any]
    request_type: str
    label: Callable[[], str] = str

    def good(self, name: str, elapsed_s: float, length_bytes: int) -> None:
        """Report a request that was answered as it should be."""
        self._fire(name, elapsed_s, length_bytes, None)

    def failed(self, name: str, word: str, elapsed_s: float | None = None) -> None:
        """Report a request that was not; one without a time is counted, but is not in the row's percentiles."""
        self._fire(name, elapsed_s, 0, Failure(word))

    def _fire(self, name: str, elapsed_s: float | None, length_bytes: int, exception: Failure | None) -> None:
        self.fire(
            request_type=self.request_type,
            name=name + self.label(),
            response_time=None if elapsed_s is None else elapsed_s * 1_000,
            response_length=length_bytes,
            exception=exception,
            context={},
        )
