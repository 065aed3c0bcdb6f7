"""The codec: a frame's bytes to a typed, checked message and back (SPEC.md, messages)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Self

import msgpack

from protocol.answers import Answer, Balance, encode_body
from protocol.codes import OPERATION_FIRST, OPERATION_LAST, REQUEST_ID_BYTES, Message
from protocol.fields import DecodeError, Malformed, UnknownType, binary_id, boolean, text, uint, unpack
from protocol.requests import REQUESTS, Card, Receipt, Request
from protocol.session import SESSION_MESSAGES, TEXT_CHARACTERS_MAX, Limits, Profile, SessionMessage

__all__ = [
    "Answer",
    "AnswerMessage",
    "Balance",
    "Card",
    "DecodeError",
    "ErrorMessage",
    "Limits",
    "Malformed",
    "Profile",
    "Receipt",
    "Request",
    "SessionMessage",
    "UnknownType",
    "WireMessage",
    "answer_frame",
    "decode",
    "encode",
    "encode_body",
    "error_frame",
    "glance",
    "name_of",
]

LENGTH_BYTES: Final = 4
# A request in its shortest form: an array of up to 15, a type of one byte, its id as a bin of 16.
_ARRAY_MASK: Final = 0xF0
_SHORT_ARRAY: Final = 0x90
_TYPE_AT: Final = 1
_REQUEST_ID_AT: Final = 4
_REQUEST_ID_END: Final = _REQUEST_ID_AT + REQUEST_ID_BYTES
_BIN_16: Final = b"\xc4\x10"
# An ANSWER up to its request id: array of 4, type 64, bin of 16. Then comes one byte of bool and the body.
_ANSWER_START: Final = b"\x94\x40\xc4\x10"
_ANSWER_BODY_AT: Final = len(_ANSWER_START) + REQUEST_ID_BYTES + 1
_TRUE: Final = b"\xc3"
_FALSE: Final = b"\xc2"

_OPERATIONS: Final = frozenset(int(request.op) for request in REQUESTS)
_pack: Final[Callable[[Any], bytes]] = msgpack.packb


@dataclass(frozen=True, slots=True)
class AnswerMessage:
    """A decision (ANSWER); `body` is the very bytes that arrived, so that a replay can be compared with the first."""

    type: ClassVar[Message] = Message.ANSWER

    request_id: bytes
    replayed: bool
    body: bytes = field(repr=False)
    answer: Answer


@dataclass(frozen=True, slots=True)
class ErrorMessage:
    """Why a request got no decision (ERROR); retry_after_ms 0 leaves the wait to the register's own backoff."""

    type: ClassVar[Message] = Message.ERROR

    request_id: bytes
    code: int
    text: str
    retry_after_ms: int = 0

    @classmethod
    def from_fields(cls, fields: tuple[Any, ...]) -> Self:
        """Check decoded fields, type first; raises Malformed."""
        request_id, code, reason, retry_after_ms = _exactly(fields, "request_id", "code", "text", "retry_after_ms")
        return cls(
            binary_id(request_id, "request_id", None),
            uint(code, "code", None),
            text(reason, "text", None, 0, TEXT_CHARACTERS_MAX),
            uint(retry_after_ms, "retry_after_ms", None),
        )


WireMessage = Request | SessionMessage | AnswerMessage | ErrorMessage


def name_of(message: WireMessage) -> str:
    """Return the message's name in SPEC.md."""
    if isinstance(message, Request):
        return message.op.name
    return message.type.name


def _exactly(fields: tuple[Any, ...], *names: str) -> tuple[Any, ...]:
    if len(fields) <= len(names):
        raise Malformed(names[len(fields) - 1], "is missing", None)
    return fields[1 : len(names) + 1]


_DECODERS: Final[dict[int, Callable[[tuple[Any, ...]], Request | SessionMessage | ErrorMessage]]] = {
    **{int(request.op): request.from_fields for request in REQUESTS},
    **{int(message.type): message.from_fields for message in SESSION_MESSAGES},
    int(Message.ERROR): ErrorMessage.from_fields,
}


def decode(payload: bytes) -> WireMessage:
    """Return the message in one frame, without its length prefix.

    Raises Malformed (a field is missing or wrong) or UnknownType, both DecodeError, and nothing else. Elements after
    the known ones of any array are ignored: a later version may add some.
    """
    fields = unpack(payload)
    if type(fields) is not tuple or not fields or type(fields[0]) is not int:
        raise Malformed("frame", "must be an array whose first element is the message type", None)
    decoder = _DECODERS.get(fields[0])
    if decoder is not None:
        return decoder(fields)
    if fields[0] == Message.ANSWER:
        return _decode_answer(payload, fields)
    is_operation = OPERATION_FIRST <= fields[0] <= OPERATION_LAST and len(fields) > 1
    raise UnknownType(fields[0], binary_id(fields[1], "request_id", None) if is_operation else None)


def _decode_answer(payload: bytes, fields: tuple[Any, ...]) -> AnswerMessage:
    raw_id, replayed, body = _exactly(fields, "request_id", "replayed", "body")
    return AnswerMessage(
        binary_id(raw_id, "request_id", None),
        boolean(replayed, "replayed", None),
        _body_bytes(payload),
        Answer.from_fields(body),
    )


def _body_bytes(payload: bytes) -> bytes:
    if payload.startswith(_ANSWER_START):
        return payload[_ANSWER_BODY_AT:]
    # A server of a later version may append elements, and MessagePack has longer ways to write the same values.
    unpacker = msgpack.Unpacker()
    unpacker.feed(payload)
    unpacker.read_array_header()
    for _ in range(3):
        unpacker.skip()
    start = unpacker.tell()
    unpacker.skip()
    return payload[start : unpacker.tell()]


def encode(message: WireMessage) -> bytes:
    """Return the frame of a message: 4 bytes of big-endian length, then its MessagePack array."""
    if isinstance(message, AnswerMessage):
        return answer_frame(message.request_id, message.replayed, message.body)
    if isinstance(message, ErrorMessage):
        return error_frame(message.request_id, message.code, message.text, message.retry_after_ms)
    payload = _pack(message.wire())
    return len(payload).to_bytes(LENGTH_BYTES) + payload


def error_frame(request_id: bytes, code: int, text: str, retry_after_ms: int = 0) -> bytes:
    """Return the frame of an ERROR; a longer text than SPEC.md allows is cut."""
    payload = _pack((Message.ERROR, request_id, code, text[:TEXT_CHARACTERS_MAX], retry_after_ms))
    return len(payload).to_bytes(LENGTH_BYTES) + payload


def glance(payload: bytes) -> tuple[int, bytes] | None:
    """Return operation and id of a request in a frame, and look at nothing else of it; None if it is not plain to see.

    Whoever has no time for the request can answer it that way.
    """
    op = payload[_TYPE_AT] if len(payload) >= _REQUEST_ID_END else 0
    if (
        op in _OPERATIONS
        and payload[0] & _ARRAY_MASK == _SHORT_ARRAY
        and payload[_TYPE_AT + 1 : _REQUEST_ID_AT] == _BIN_16
    ):
        return op, payload[_REQUEST_ID_AT:_REQUEST_ID_END]
    return None


def answer_frame(request_id: bytes, replayed: bool, body: bytes) -> bytes:
    """Return the frame of an ANSWER around a packed body, which goes in byte for byte."""
    return b"".join(
        (
            (_ANSWER_BODY_AT + len(body)).to_bytes(LENGTH_BYTES),
            _ANSWER_START,
            request_id,
            _TRUE if replayed else _FALSE,
            body,
        )
    )
