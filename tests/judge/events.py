"""What registers sent and heard: one event each, and the file of lines that survives whoever wrote it.

A line is one JSON object: {"at_ms", "register", "event", "request_id", "op", "card", …}, ids and bodies in hex.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TextIO

SENT, ANSWERED, REFUSED, GAVE_UP = "sent", "answered", "refused", "gave_up"
_IN_HEX = ("request_id", "target", "body")


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to one copy of a request, seen from the register.

    `at_ms` is the registers' own clock, one for all of them and never going back. `op` is the operation's name, `card`
    the number by which the registers know the card. `line` tells connections of one register apart: an answer
    comes on the line of its copy or not at all.
    Sent: `points`, `amount`, `target` as asked. Answered: `points` as answered, `outcome`, `replayed`, `body` (the
    bytes as they came), `balance` (available, held, pending, owed, expiring, day), `status` that of a STATUS.
    Refused: `outcome` is the number of the ERROR. Gave up: the register wants no answer any more.
    `provisional`: the server said that it knows no better just now.
    """

    at_ms: int
    register: str
    event: str
    request_id: bytes
    op: str
    card: int
    points: int | None = None
    amount: int | None = None
    target: bytes | None = None
    outcome: int | None = None
    replayed: bool = False
    body: bytes = b""
    balance: tuple[int, ...] | None = None
    provisional: bool = False
    status: int | None = None
    line: int = 0

    @property
    def approved(self) -> bool:
        """Whether this is an answer that approves."""
        return self.event == ANSWERED and self.outcome in {0, 1}

    @property
    def question(self) -> bool:
        """Whether the operation only asks."""
        return self.op in {"BALANCE", "STATUS"}


class EventLog:
    """Writes events through to a file before whoever logs goes on: a killed process has told all that it did."""

    def __init__(self, path: Path) -> None:
        # Unbuffered bytes: what `write` has taken is the system's, and outlives the process.
        self._file = path.open("ab", buffering=0)

    def write(self, event: Event) -> None:
        """Append one line."""
        self._file.write(line_of(event))

    def close(self) -> None:
        """Close the file; there is nothing to flush."""
        self._file.close()


def line_of(event: Event) -> bytes:
    """Return an event as a line of JSON."""
    form: dict[str, Any] = asdict(event)
    for name in _IN_HEX:
        form[name] = None if form[name] is None else form[name].hex()
    return json.dumps(form).encode() + b"\n"


def read(lines: Iterable[str] | TextIO) -> list[Event]:
    """Return the events of a log; a last line that was cut short by a kill is left out."""
    known = {field.name for field in fields(Event)}
    events = []
    for line in lines:
        if not line.endswith("\n"):
            break
        form = {name: value for name, value in json.loads(line).items() if name in known}
        for name in _IN_HEX:
            form[name] = None if form.get(name) is None else bytes.fromhex(form[name])
        form["body"] = form["body"] or b""
        form["balance"] = None if form.get("balance") is None else tuple(form["balance"])
        events.append(Event(**form))
    return events
