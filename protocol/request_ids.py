"""Request ids that grow with time (RFC 9562, section 5.7: UUID version 7; SPEC.md, section 8.1).

The journal keeps an index of all ids. New ones of this kind lie side by side there; random ones touch a page each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

_TIME_BYTES: Final = 6
_TIME_END: Final = 1 << 8 * _TIME_BYTES
_RANDOM_BYTES: Final = 10
_VERSION: Final = 0x7000
_VARIANT: Final = 0x80


def request_id_at(now_ms: int, random_bytes: Callable[[int], bytes]) -> bytes:
    """Return a new id of 16 bytes made at `now_ms` (ms since 1970 UTC), 74 of its bits random."""
    noise = random_bytes(_RANDOM_BYTES)
    head = _VERSION | int.from_bytes(noise[:2]) & 0x0FFF
    return b"%b%b%c%b" % (
        (now_ms % _TIME_END).to_bytes(_TIME_BYTES),
        head.to_bytes(2),
        _VARIANT | noise[2] & 0x3F,
        noise[3:],
    )
