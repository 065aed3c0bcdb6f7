"""The bytes between two workers of one host: length-prefixed MessagePack batches of submissions and of replies.

Both ends are the same version of the same program, so there is no version field and no leniency: whatever does not
parse ends the link.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import msgpack

from ledger.submission import ReplyTo, Submission

FRAME_BYTES_MAX = 4 * 1024 * 1024
SUBMISSIONS_PER_FRAME_MAX = 512
#: Answers are as long as their slips, at most a frame of a register; so many of those fit.
REPLIES_PER_FRAME_MAX = 60

ANSWERED = 0
REPLAYED = 1
REFUSED = 2

_LENGTH = struct.Struct(">I")
# How often a submission was already tried, and since when it waits, is the business of the worker that decides it; who
# waits stays here.
_STAYS = frozenset({"reply_to", "attempts", "queued_at"})
_CARRIED = tuple(field.name for field in fields(Submission) if field.name not in _STAYS)


class PeerFrameError(Exception):
    """The other end sent something that is not ours."""


def framed(message: list[Any]) -> bytes:
    """Return a message with its length in front."""
    body: bytes = msgpack.packb(message, use_bin_type=True)
    return _LENGTH.pack(len(body)) + body


def carried(tag: int, submission: Submission) -> list[Any]:
    """Return a submission as it travels: the sender's tag, then its fields in the order of their definition."""
    return [tag, *[getattr(submission, name) for name in _CARRIED]]


def arrived(row: list[Any], reply_to: ReplyTo) -> Submission:
    """Return the submission of a row from `carried`, its tag cut off; raises `PeerFrameError`."""
    if len(row) != len(_CARRIED) + 1:
        raise PeerFrameError(f"a submission of {len(row)} fields")
    named = dict(zip(_CARRIED, row[1:], strict=True))
    named["terms"] = tuple(named["terms"])
    account = named.pop("account")
    submission = Submission(**named, reply_to=reply_to)
    submission.account = account
    return submission


class PeerFrameReader:
    """Cuts a byte stream into messages; memory is bounded by `FRAME_BYTES_MAX`."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def messages(self, data: bytes) -> Iterator[list[Any]]:
        """Take bytes and yield the messages that are complete; raises `PeerFrameError`."""
        self._buffer += data
        position = 0
        try:
            while len(self._buffer) - position >= _LENGTH.size:
                (length,) = _LENGTH.unpack_from(self._buffer, position)
                if length > FRAME_BYTES_MAX:
                    raise PeerFrameError(f"a frame of {length} bytes")
                end = position + _LENGTH.size + length
                if len(self._buffer) < end:
                    break
                body = bytes(self._buffer[position + _LENGTH.size : end])
                position = end
                yield _unpacked(body)
        finally:
            del self._buffer[:position]


def _unpacked(body: bytes) -> list[Any]:
    try:
        message = msgpack.unpackb(body, raw=False, strict_map_key=True)
    except (ValueError, msgpack.UnpackException) as error:
        raise PeerFrameError(repr(error)) from error
    if not isinstance(message, list) or not all(isinstance(row, list) and row for row in message):
        raise PeerFrameError("not a list of rows")
    return message
