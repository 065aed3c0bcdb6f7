"""Frames out of a stream of bytes: 4 bytes of big-endian length, then so many bytes (SPEC.md, frames)."""

from collections.abc import Iterable, Iterator
from typing import Final

from protocol.codes import FRAME_BYTES_MAX_DEFAULT

LENGTH_BYTES: Final = 4


class FrameError(ValueError):
    """A length that no frame may have; the stream cannot be read any further."""


class FrameEmpty(FrameError):  # noqa: N818 (says what is the matter)
    """A frame without content."""


class FrameTooLarge(FrameError):  # noqa: N818 (says what is the matter)
    """A frame above the limit."""


class FrameReader:
    """Cuts a stream into frames, whatever its chunks; holds at most one frame that is not complete yet.

    `frame_bytes_max` is the largest length accepted, in bytes without the length itself; it may change between frames.
    """

    __slots__ = ("_buffer", "_wanted", "frame_bytes_max")

    def __init__(self, frame_bytes_max: int = FRAME_BYTES_MAX_DEFAULT) -> None:
        self.frame_bytes_max = frame_bytes_max
        self._buffer = bytearray()
        self._wanted = LENGTH_BYTES

    @property
    def buffered_bytes(self) -> int:
        """How much of a frame that is not complete has arrived, its length included; at most frame_bytes_max + 4."""
        return len(self._buffer)

    def feed(self, data: bytes | bytearray | memoryview) -> Iterable[bytes]:
        """Return each frame that `data` completes, without its length.

        Iterate to the end: what is not iterated over is lost. The iteration raises FrameEmpty or FrameTooLarge after
        the good frames before it; then the reader is of no more use.
        """
        chunk = bytes(data)
        length = len(chunk) - LENGTH_BYTES
        # A register with one request under way sends just one frame at a time.
        if 0 < length <= self.frame_bytes_max and not self._buffer and int.from_bytes(chunk[:LENGTH_BYTES]) == length:
            return (chunk[LENGTH_BYTES:],)
        return self._cut(chunk)

    def _cut(self, chunk: bytes) -> Iterator[bytes]:
        at, end = 0, len(chunk)
        while at < end:
            if self._buffer:
                at = self._top_up(chunk, at)
                if len(self._buffer) == self._wanted:
                    yield self._take()
                continue
            start = at + LENGTH_BYTES
            if start > end:
                self._buffer += chunk[at:]
                return
            stop = start + self._checked(chunk[at:start])
            if stop > end:
                self._wanted = stop - at
                self._buffer += chunk[at:]
                return
            yield chunk[start:stop]
            at = stop

    def _top_up(self, chunk: bytes, at: int) -> int:
        if len(self._buffer) < LENGTH_BYTES:
            stop = at + LENGTH_BYTES - len(self._buffer)
            self._buffer += chunk[at:stop]
            if len(self._buffer) < LENGTH_BYTES:
                return len(chunk)
            self._wanted = LENGTH_BYTES + self._checked(self._buffer)
            at = stop
        stop = min(at + self._wanted - len(self._buffer), len(chunk))
        self._buffer += chunk[at:stop]
        return stop

    def _take(self) -> bytes:
        frame = bytes(self._buffer[LENGTH_BYTES:])
        self._buffer.clear()
        self._wanted = LENGTH_BYTES
        return frame

    def _checked(self, prefix: bytes | bytearray) -> int:
        length = int.from_bytes(prefix)
        if length > self.frame_bytes_max:
            raise FrameTooLarge(f"a frame of {length} bytes; at most {self.frame_bytes_max} are allowed")
        if length == 0:
            raise FrameEmpty("a frame without content")
        return length
