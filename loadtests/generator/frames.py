"""Requests as bytes in which only the id and the card are still to be filled in."""

from __future__ import annotations

from protocol.codes import REQUEST_ID_BYTES, CardKind
from protocol.framing import LENGTH_BYTES
from protocol.messages import encode
from protocol.requests import Card, Request

ID_AT = LENGTH_BYTES + 4
"""Where the request id begins in every request, ANSWER and ERROR: behind array, type and the head of its 16 bytes."""

ID_END = ID_AT + REQUEST_ID_BYTES
TYPE_AT = LENGTH_BYTES + 1

_PREFIX_BYTES = 8

ANY_ID = b"\xa1" * REQUEST_ID_BYTES
ANY_ORIGINAL = b"\xa2" * REQUEST_ID_BYTES
ANY_CARD = Card(CardKind.EAN13, "2777777777777")


class RequestIds:
    """Ids of 16 bytes: 8 that all of a run share, so that the journal can be asked for its effects, and a number."""

    __slots__ = ("_number", "prefix")

    def __init__(self, prefix: bytes, share: int = 0) -> None:
        """Each process of a run takes a `share` of its own, from 0."""
        if len(prefix) != _PREFIX_BYTES:
            raise ValueError(f"a run's prefix has {_PREFIX_BYTES} bytes")
        self.prefix = prefix
        self._number = share << 48

    def next(self) -> bytes:
        """Return an id that this run has not used."""
        self._number += 1
        return self.prefix + self._number.to_bytes(8)


def bounds(prefix: bytes) -> tuple[bytes, bytes]:
    """Return the least and the greatest id that a run with this prefix can use."""
    rest = REQUEST_ID_BYTES - len(prefix)
    return prefix + bytes(rest), prefix + b"\xff" * rest


class Template:
    """One request, encoded, with holes for the id, the card's number and, where it has one, the original's id."""

    __slots__ = ("_end", "_head", "_middle", "_tail")

    def __init__(self, request: Request) -> None:
        """Take a request that carries ANY_ID, ANY_CARD and where it refers to another ANY_ORIGINAL."""
        frame = encode(request)
        if frame[ID_AT:ID_END] != ANY_ID:
            raise ValueError("a request's id does not stand where answers have it")
        card = ANY_CARD.value.encode()
        self._head, rest = frame.split(ANY_ID)
        self._middle, rest = rest.split(card)
        self._tail, _, self._end = rest.partition(ANY_ORIGINAL)

    def fill(self, request_id: bytes, card: bytes) -> bytes:
        """Return the frame for an id and a card's number; none of them is checked."""
        return b"%b%b%b%b%b" % (self._head, request_id, self._middle, card, self._tail)

    def fill_original(self, request_id: bytes, card: bytes, original: bytes) -> bytes:
        """Return the frame for a request that refers to another."""
        return b"%b%b%b%b%b%b%b" % (
            self._head, request_id, self._middle, card, self._tail, original, self._end,
        )  # fmt: skip
