"""What the relay's parts need of the line to headquarters, and the two ways in which it may fail them."""

from __future__ import annotations

from asyncio import Future
from typing import Protocol

from protocol.relay_messages import LineLimits, ReplyItem, RequestItem


class LineDown(Exception):  # noqa: N818 - it says what is the matter
    """The request never left this computer: nothing happened, and nothing will."""


class NoReply(Exception):  # noqa: N818 - it says what is the matter
    """The request was sent and no answer came that ends the doubt: it may have taken effect, or may yet."""


class Line(Protocol):
    """The line to headquarters."""

    @property
    def up(self) -> bool:
        """Whether there is a session in which headquarters was heard lately, or one ended only a moment ago."""

    @property
    def limits(self) -> LineLimits | None:
        """What headquarters allows in the session; None before the first one."""

    def server_now_ms(self) -> int | None:
        """Return headquarters' time (ms since 1970 UTC) as far as it is known; None if it is not."""

    async def ask(self, item: RequestItem, timeout_s: float) -> ReplyItem:
        """Return headquarters' ANSWER or ERROR; `timeout_s` is how long the caller waits.

        An item with a `sale_ms` is of the backlog: it waits for live ones and counts against the backlog's limit.
        Raises LineDown (no doubt) or NoReply (doubt).
        """

    def post(self, item: RequestItem, timeout_s: float) -> Future[ReplyItem]:
        """Return at once what `ask` would of an item of the backlog, possibly a moment later than after `timeout_s`."""
