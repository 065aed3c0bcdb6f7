"""Messages about the connection itself: handshake, heartbeat, farewell (SPEC.md, connection)."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Final, NamedTuple, Self

from protocol.codes import Message
from protocol.fields import Malformed, array, currency, text, uint

VERSIONS_MAX: Final = 16
SOFTWARE_CHARACTERS_MAX: Final = 64
TEXT_CHARACTERS_MAX: Final = 200
NETWORK_NAME_CHARACTERS_MAX: Final = 64

TERMINAL_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")
"""What a terminal may be called: needs neither SASLprep nor escaping in SCRAM, topics and logs."""

Fields = tuple[Any, ...]
Reader = Callable[[Any, str, bytes | None], Any]


class Limits(NamedTuple):
    """What the server allows on this connection; a ttl of 0 in a request means ttl_default_ms."""

    frame_bytes_max: int
    in_flight_max: int
    heartbeat_ms: int
    idle_timeout_ms: int
    ttl_default_ms: int
    ttl_max_ms: int


class Profile(NamedTuple):
    """What the terminal may know about itself: its network, the currency of receipts, the operations it may ask for."""

    network_name: str
    currency: str
    permitted: tuple[int, ...]


def _sized(low: int, high: int) -> Reader:
    return lambda value, name, request_id: text(value, name, request_id, low, high)


def _uints(value: Any, name: str, request_id: bytes | None) -> tuple[int, ...]:
    return tuple([uint(number, name, request_id) for number in array(value, name, request_id, 0)])


def _versions(value: Any, name: str, request_id: bytes | None) -> tuple[int, ...]:
    versions = _uints(value, name, request_id)
    if 1 <= len(versions) <= VERSIONS_MAX:
        return versions
    raise Malformed(name, f"must be an array of 1..{VERSIONS_MAX} integers", request_id)


def _terminal_id(value: Any, name: str, request_id: bytes | None) -> str:
    if type(value) is str and TERMINAL_ID.fullmatch(value):
        return value
    raise Malformed(name, "must be a str of 1..64 of A-Z a-z 0-9 . _ : -", request_id)


def _limits(value: Any, name: str, request_id: bytes | None) -> Limits:
    numbers = array(value, name, request_id, len(Limits._fields))
    return Limits(*[uint(n, f"limits.{part}", request_id) for part, n in zip(Limits._fields, numbers, strict=False)])


def _profile(value: Any, name: str, request_id: bytes | None) -> Profile:
    network_name, code, permitted = array(value, name, request_id, len(Profile._fields))[: len(Profile._fields)]
    return Profile(
        text(network_name, "profile.network_name", request_id, 0, NETWORK_NAME_CHARACTERS_MAX),
        currency(code, "profile.currency", request_id),
        _uints(permitted, "profile.permitted", request_id),
    )


@dataclass(frozen=True, slots=True)
class SessionMessage:
    """A message about the connection; `layout` names the fields after the type in wire order with the check of each."""

    type: ClassVar[Message]
    layout: ClassVar[tuple[tuple[str, Reader], ...]] = ()

    @classmethod
    def from_fields(cls, fields: Fields) -> Self:
        """Check decoded fields, type first; raises Malformed. Elements after the known ones are ignored."""
        if len(fields) <= len(cls.layout):
            raise Malformed(cls.layout[len(fields) - 1][0], "is missing", None)
        return cls(*[read(value, name, None) for (name, read), value in zip(cls.layout, fields[1:], strict=False)])

    def wire(self) -> Fields:
        """Return all fields, type first."""
        return (self.type, *[getattr(self, name) for name, _ in self.layout])


@dataclass(frozen=True, slots=True)
class Hello(SessionMessage):
    """Opens a connection: versions the register speaks, who it is, the SCRAM client-first-message."""

    type = Message.HELLO
    layout = (
        ("versions", _versions),
        ("terminal_id", _terminal_id),
        ("client_first", _sized(1, 256)),
        ("software", _sized(0, SOFTWARE_CHARACTERS_MAX)),
    )

    versions: tuple[int, ...]
    terminal_id: str
    client_first: str
    software: str = ""


@dataclass(frozen=True, slots=True)
class Challenge(SessionMessage):
    """The version chosen and the SCRAM server-first-message."""

    type = Message.CHALLENGE
    layout = (("version", uint), ("server_first", _sized(1, 512)))

    version: int
    server_first: str


@dataclass(frozen=True, slots=True)
class Proof(SessionMessage):
    """The SCRAM client-final-message."""

    type = Message.PROOF
    layout = (("client_final", _sized(1, 512)),)

    client_final: str


@dataclass(frozen=True, slots=True)
class Welcome(SessionMessage):
    """The SCRAM server-final-message, by which the server proves itself, and what holds on this connection."""

    type = Message.WELCOME
    layout = (
        ("server_final", _sized(1, 256)),
        ("server_time_ms", uint),
        ("limits", _limits),
        ("profile", _profile),
    )

    server_final: str
    server_time_ms: int
    limits: Limits
    profile: Profile


@dataclass(frozen=True, slots=True)
class Farewell(SessionMessage):
    """GOODBYE: why the connection ends; reconnect_after_ms 0 leaves the wait to the register's own backoff."""

    type = Message.GOODBYE
    layout = (("reason", uint), ("text", _sized(0, TEXT_CHARACTERS_MAX)), ("reconnect_after_ms", uint))

    reason: int
    text: str
    reconnect_after_ms: int = 0


@dataclass(frozen=True, slots=True)
class Ping(SessionMessage):
    """Asks whether the other side is there."""

    type = Message.PING
    layout = (("nonce", uint),)

    nonce: int


@dataclass(frozen=True, slots=True)
class Pong(SessionMessage):
    """Answers a PING with its nonce and the server's time in ms since the epoch."""

    type = Message.PONG
    layout = (("nonce", uint), ("server_time_ms", uint))

    nonce: int
    server_time_ms: int


SESSION_MESSAGES: Final[tuple[type[SessionMessage], ...]] = (Hello, Challenge, Proof, Welcome, Farewell, Ping, Pong)
"""Every message about the connection."""
