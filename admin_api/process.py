"""What the HTTP layer asks of the process it runs in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class Process(Protocol):
    """The running process, as its supervisor knows it. Both answer within a bounded time and never raise."""

    async def health(self) -> Mapping[str, Any]:
        """Return the state of the parts.

        `live` (bool): the supervisor works; `ready` (bool): registers are answered now; `down` (list of str) names what
        is missing; everything else is for an operator's eyes.
        """

    def metrics(self) -> bytes:
        """Return the numbers of all workers in Prometheus's text format. Reads files: call it in a thread."""
