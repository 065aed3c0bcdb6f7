"""Checks of single decoded fields: type, range and length, with the name of what is wrong (SPEC.md, types).

Python's bool is an int and 1.0 equals 1, so every check compares the exact type.
"""

import functools
import re
from typing import Any, Final

import msgpack

from protocol.codes import INT_MAX, REQUEST_ID_BYTES

ARRAY_ELEMENTS_MAX: Final = 255
_CURRENCY_LETTERS: Final = 3
# A shop knows one or two currencies; there are 17,576 codes of three letters, so this cannot grow far.
_CURRENCIES_SEEN: Final[set[str]] = set()
# NUL cannot be stored by PostgreSQL, and the other controls would break slips and log lines.
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class DecodeError(ValueError):
    """A frame that is no message of this protocol."""


class Malformed(DecodeError):  # noqa: N818 (the protocol's own word, as in ERROR 1)
    """A field is missing or wrong.

    `field` is its name in SPEC.md, or `frame` when the bytes are no MessagePack array. `request_id` is given when the
    message is a request whose id could be read: only then can it be answered with an ERROR.
    """

    def __init__(self, field: str, reason: str, request_id: bytes | None) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason
        self.request_id = request_id


class UnknownType(DecodeError):  # noqa: N818 (says what is the matter)
    """A message type this version does not know; `request_id` is given when it lies in the range of operations."""

    def __init__(self, message_type: int, request_id: bytes | None) -> None:
        super().__init__(f"unknown message type {message_type}")
        self.message_type = message_type
        self.request_id = request_id


def uint(value: Any, field: str, request_id: bytes | None, low: int = 0, high: int = INT_MAX) -> int:
    """Return an integer of low..high."""
    if type(value) is int and low <= value <= high:
        return value
    raise Malformed(field, f"must be an integer of {low}..{high}", request_id)


def boolean(value: Any, field: str, request_id: bytes | None) -> bool:
    """Return a bool; 0 and 1 are not taken for one."""
    if value is True:
        return True
    if value is False:
        return False
    raise Malformed(field, "must be a bool", request_id)


def text(value: Any, field: str, request_id: bytes | None, low: int, high: int) -> str:
    """Return a str of low..high code points without control characters."""
    if type(value) is str and low <= len(value) <= high and (value.isprintable() or not _CONTROL.search(value)):
        return value
    raise Malformed(field, f"must be a str of {low}..{high} characters without control characters", request_id)


def binary_id(value: Any, field: str, request_id: bytes | None) -> bytes:
    """Return an id: bin of 16 bytes."""
    if type(value) is bytes and len(value) == REQUEST_ID_BYTES:
        return value
    raise Malformed(field, f"must be a bin of {REQUEST_ID_BYTES} bytes", request_id)


def currency(value: Any, field: str, request_id: bytes | None) -> str:
    """Return the letters of an ISO 4217 code; whether it exists is the ledger's business."""
    if value in _CURRENCIES_SEEN:
        return value  # type: ignore[no-any-return] # only strings are put there, and nothing else equals one
    if (
        type(value) is str
        and len(value) == _CURRENCY_LETTERS
        and value.isascii()
        and value.isalpha()
        and value.isupper()
    ):
        _CURRENCIES_SEEN.add(value)
        return value
    raise Malformed(field, "must be three letters A-Z", request_id)


def array(value: Any, field: str, request_id: bytes | None, low: int) -> tuple[Any, ...]:
    """Return an array of at least `low` elements; what follows the known ones is for later versions."""
    if type(value) is tuple and len(value) >= low:
        return value
    raise Malformed(field, f"must be an array of at least {low} elements", request_id)


def unpack(packed: bytes) -> Any:
    """Return the value of one packed MessagePack object; raises Malformed naming `frame`.

    Maps and extension types are refused wherever they stand, and arrays beyond ARRAY_ELEMENTS_MAX before room is made
    for them: nested announcements of long arrays would otherwise take megabytes for a few bytes.
    """
    try:
        return _unpackb(packed)
    except ValueError as error:
        raise Malformed("frame", f"is not the MessagePack of this protocol ({type(error).__name__})", None) from None


def _refuse(*_: Any) -> None:
    raise ValueError("maps and extension types are not part of this protocol")


_unpackb: Final = functools.partial(
    msgpack.unpackb,
    use_list=False,
    max_array_len=ARRAY_ELEMENTS_MAX,
    max_map_len=0,
    max_ext_len=0,
    object_hook=_refuse,
    ext_hook=_refuse,
)
