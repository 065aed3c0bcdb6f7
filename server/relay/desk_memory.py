"""What a relay's desk remembers of what it asked headquarters; in memory, so it ends with the process."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, Generic, NamedTuple, TypeVar

from protocol.requests import Request, fingerprint

REMEMBERED_MAX: Final = 4_096
"""Requests in doubt, and reversals that headquarters approved."""
HEARD_MAX: Final = 1_024
"""Approvals of headquarters that the relay can repeat when it is off line."""

K = TypeVar("K")
V = TypeVar("V")


class Heard(NamedTuple):
    """An approval of headquarters, and the request that it was for."""

    request: Request
    terminal: str
    body: bytes

    @property
    def fingerprint(self) -> bytes:
        """The fingerprint of the request, to compare a copy with."""
        return fingerprint(self.request, self.terminal)


class DeskMemory:
    """Knows the latest of each kind; what it has forgotten is answered by headquarters, or told as a doubt."""

    def __init__(self) -> None:
        self._doubtful: _Latest[bytes, None] = _Latest(REMEMBERED_MAX)
        self._closed: _Latest[tuple[bytes, bytes], None] = _Latest(REMEMBERED_MAX)
        self._heard: _Latest[bytes, Heard] = _Latest(HEARD_MAX)

    def doubt(self, request_id: bytes) -> None:
        """Remember that a request was sent and brought no reply."""
        self._doubtful.put(request_id, None)

    def settle(self, request_id: bytes) -> None:
        """Forget a doubt: headquarters has answered."""
        self._doubtful.kept.pop(request_id, None)

    def is_doubtful(self, request_id: bytes) -> bool:
        """Whether a copy of the request may have taken effect at headquarters."""
        return request_id in self._doubtful.kept

    def close(self, request_id: bytes, card: bytes) -> None:
        """Remember that headquarters has reversed a request: a late copy must not be taken as an advice."""
        self._closed.put((request_id, card), None)

    def is_closed(self, request_id: bytes, card: bytes) -> bool:
        """Whether headquarters has reversed it."""
        return (request_id, card) in self._closed.kept

    def hear(self, heard: Heard) -> None:
        """Remember an approval, so that a register that lost it hears it again off line, and not another one."""
        self._heard.put(heard.request.request_id, heard)

    def heard(self, request_id: bytes) -> Heard | None:
        """Return headquarters' approval of a request."""
        return self._heard.kept.get(request_id)


class _Latest(Generic[K, V]):
    """As many of the latest as there may be."""

    __slots__ = ("_most", "kept")

    def __init__(self, most: int) -> None:
        self.kept: OrderedDict[K, V] = OrderedDict()
        self._most = most

    def put(self, key: K, value: V) -> None:
        self.kept[key] = value
        self.kept.move_to_end(key)
        while len(self.kept) > self._most:
            self.kept.popitem(last=False)
