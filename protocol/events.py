"""What a connection tells the code around it; decoded answers and errors of the client are the messages themselves."""

from dataclasses import dataclass
from typing import NamedTuple

from protocol.messages import AnswerMessage, ErrorMessage
from protocol.requests import Request
from protocol.session import Limits, Profile


@dataclass(frozen=True, slots=True)
class HelloReceived:
    """Server: look up the terminal's credentials (or decoys), then call `challenge`."""

    terminal_id: str
    versions: tuple[int, ...]
    software: str


@dataclass(frozen=True, slots=True)
class Authenticated:
    """Server: the proof was good; call `welcome`, or `goodbye` when the terminal is suspended."""

    terminal_id: str


class RequestReceived(NamedTuple):
    """Server: decide it and answer by `send_answer` or `send_error`; `fingerprint` is 8 bytes of digest."""

    request: Request
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class BadRequest:
    """Server: a request that was answered with an ERROR already; to be counted and logged."""

    request_id: bytes
    code: int
    text: str


class TurnedAway(NamedTuple):
    """Server: a request that was answered BUSY without being read; to be counted."""

    op: int


@dataclass(frozen=True, slots=True)
class PingReceived:
    """Server: a heartbeat, answered already."""

    nonce: int


@dataclass(frozen=True, slots=True)
class Welcomed:
    """Client: both sides have proved themselves; requests may be sent."""

    server_time_ms: int
    limits: Limits
    profile: Profile


@dataclass(frozen=True, slots=True)
class PongReceived:
    """Client: the other side is there."""

    nonce: int
    server_time_ms: int


@dataclass(frozen=True, slots=True)
class Draining:
    """Client: the server stops; send nothing new here, what is in flight is still answered."""

    text: str
    reconnect_after_ms: int


@dataclass(frozen=True, slots=True)
class Closed:
    """The connection is over: flush `data_to_send`, then close the socket. Always the last event, and only once.

    `reason` is a Goodbye, or a number a later version knows; by_peer tells who ended it.
    """

    reason: int
    text: str
    by_peer: bool = False
    reconnect_after_ms: int = 0


ServerEvent = HelloReceived | Authenticated | RequestReceived | BadRequest | TurnedAway | PingReceived | Closed
ClientEvent = Welcomed | AnswerMessage | ErrorMessage | PongReceived | Draining | Closed
