"""One relay's session at the bridge: who it is, what it has under way, and what shall go out to it."""

from __future__ import annotations

from ledger.programme import Terminal
from ledger.relays import Relay
from protocol.relay_line import BridgeSession
from protocol.relay_messages import (
    DATA_EXTRA_BYTES_MAX,
    ITEM_EXTRA_BYTES_MAX,
    ITEMS_MAX,
    PUBLICATION_BYTES_MAX,
    DownItem,
    ReplyItem,
    Roster,
)
from server.bridge.topics import answers, is_below

_BYTES_MAX = PUBLICATION_BYTES_MAX - DATA_EXTRA_BYTES_MAX
# A roster is bounded by its terminals (protocol.relay_messages) and goes by itself.
_ROSTER_BYTES = _BYTES_MAX


class Unsaid:
    """What waits to be published to one relay; `must_speak` asks for a publication even if that is nothing."""

    __slots__ = ("_items", "must_speak", "roster_waits")

    def __init__(self) -> None:
        self._items: list[DownItem] = []
        self.must_speak = False
        self.roster_waits = False

    def __len__(self) -> int:
        return len(self._items)

    def __bool__(self) -> bool:
        return bool(self._items) or self.must_speak

    def put(self, item: DownItem) -> None:
        """Have an item go out with the next publication."""
        self._items.append(item)
        self.roster_waits = self.roster_waits or isinstance(item, Roster)

    def next_items(self) -> list[DownItem]:
        """Take out as many items as fit into one publication; none is a sign of life."""
        self.must_speak = False
        taken, bytes_left = 0, _BYTES_MAX
        for item in self._items[:ITEMS_MAX]:
            size = len(item.message) + ITEM_EXTRA_BYTES_MAX if isinstance(item, ReplyItem) else _ROSTER_BYTES
            if size > bytes_left and taken:
                break
            bytes_left -= size
            taken += 1
            self.roster_waits = self.roster_waits and not isinstance(item, Roster)
        items, self._items = self._items[:taken], self._items[taken:]
        return items


class Session:
    """`version` is that of the programme when `relay` and `terminals` were read; `heard_s` of the monotonic clock.

    `live` is what registers wait for, and all else that is said; `backlog` answers advices.
    """

    __slots__ = (
        "backlog",
        "backlog_in_flight",
        "confirmed",
        "correlation",
        "ended",
        "ends",
        "heard_s",
        "in_flight",
        "live",
        "relay",
        "response_topic",
        "terminals",
        "version",
    )

    def __init__(
        self, ends: BridgeSession, relay: Relay, terminals: dict[str, Terminal], version: int, heard_s: float
    ) -> None:
        self.ends = ends
        self.relay = relay
        self.terminals = terminals
        self.version = version
        self.heard_s = heard_s
        self.confirmed = False
        self.ended = False
        self.in_flight = 0
        self.backlog_in_flight = 0
        self.response_topic = answers(ends.topic)
        self.correlation: bytes | None = None
        self.live = Unsaid()
        self.backlog = Unsaid()

    @property
    def relay_id(self) -> int:
        """The relay's terminal_id."""
        return self.relay.terminal.terminal_id

    @property
    def has_something_to_say(self) -> bool:
        """Whether anything waits to be published."""
        return bool(self.live or self.backlog)

    def reply_where(self, response_topic: str | None, correlation: bytes | None) -> None:
        """Answer from now on where the relay asked for it; topics that are not its own do not count."""
        own = response_topic is not None and is_below(self.ends.topic, response_topic)
        self.response_topic = response_topic if own and response_topic else answers(self.ends.topic)
        self.correlation = correlation
