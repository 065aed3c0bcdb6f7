"""What stands in the publications between relay and bridge (SPEC.md, MQTT: publications, items).

A publication is one MessagePack array. HELLO and WELCOME make a session, DATA carries items under its keys, GOODBYE is
a hint that nothing vouches for. Items are what was sealed.
"""

from enum import IntEnum
from typing import Any, Final, NamedTuple

import msgpack

from protocol.fields import Malformed, array, binary_id, boolean, text, uint, unpack
from protocol.session import SOFTWARE_CHARACTERS_MAX, TERMINAL_ID, TEXT_CHARACTERS_MAX

LINE_VERSION: Final = 1
ITEMS_MAX: Final = 200
"""Items of one publication."""
PUBLICATION_BYTES_MAX: Final = 262_144
"""Bytes of one publication; a broker must let through as many."""
ITEM_EXTRA_BYTES_MAX: Final = 128
"""What an item takes beside its message."""
DATA_EXTRA_BYTES_MAX: Final = 128
"""What DATA takes beside its items."""
BACKLOG_SUFFIX: Final = ".backlog"
"""Behind a bridge's name in the topic of a DATA that carries advices only."""
_SALT_BYTES_MAX: Final = 64
TERMINALS_MAX: Final = 250


class Publication(IntEnum):
    """Element 0 of a publication."""

    HELLO = 1
    WELCOME = 2
    DATA = 3
    GOODBYE = 4


class ItemKind(IntEnum):
    """Element 0 of an item. Up: what a relay asks or tells; down: what the bridge answers."""

    REQUEST = 1
    ROSTER_QUERY = 2
    REPORT = 3
    REPLY = 17
    ROSTER = 18


class Hint(IntEnum):
    """Why a bridge says GOODBYE. A relay begins a new session, not more often than its backoff says."""

    UNKNOWN_SESSION = 1
    DRAIN = 2
    BUSY = 3
    REFUSED = 4


class LineLimits(NamedTuple):
    """What holds in a session, told by WELCOME.

    A relay has at most `in_flight_max` requests without an answer, of them `backlog_in_flight_max` from its backlog, of
    which it sends at most `backlog_per_s_max` a second; it says something at least every `heartbeat_ms`.
    """

    in_flight_max: int
    backlog_in_flight_max: int
    backlog_per_s_max: int
    heartbeat_ms: int
    ttl_default_ms: int
    ttl_max_ms: int


class RequestItem(NamedTuple):
    """A register's request as it came over TCP, or one of the relay's own.

    `message` is the MessagePack array of the request, without a length. `sale_ms` (ms since 1970 UTC) says that the
    relay answered it when it was off line: it is an advice. `hold_id` names the reserved allowance that a REDEEM which
    the relay approved was taken from.
    """

    terminal: str
    message: bytes
    sale_ms: int | None = None
    hold_id: bytes | None = None


class RosterQuery(NamedTuple):
    """Asks for the roster if it is newer than the one of this version; 0 asks for any."""

    known_version: int


class Report(NamedTuple):
    """How the relay is: what waits to be sent, how old its oldest is (ms), how many of its advices became conflicts."""

    queued: int
    oldest_ms: int
    conflicts: int
    offline_since_ms: int


class ReplyItem(NamedTuple):
    """ANSWER or ERROR, as over TCP, without a length; `terminal` is whose request it was."""

    terminal: str
    message: bytes


class RosterTerminal(NamedTuple):
    """A register of the store, as the relay must know it to let it sign on; nobody can sign on with this."""

    code: str
    active: bool
    permitted: tuple[int, ...]
    salt: bytes
    iterations: int
    stored_key: bytes
    server_key: bytes


class RedeemRules(NamedTuple):
    """What one redemption may be: least and most points (0 = no bound), share of the receipt in basis points."""

    points_min: int = 0
    points_max: int = 0
    share_bp: int = 10_000


class Roster(NamedTuple):
    """Who may sign on at the relay, and what it may do off line.

    `allowance_points` is what it may reserve for a card, 0 = nothing; for `allowance_ms` after that it may let them be
    spent off line, within the `rules`.
    """

    version: int
    network_name: str
    currency: str
    allowance_points: int
    allowance_ms: int
    terminals: tuple[RosterTerminal, ...]
    rules: RedeemRules = RedeemRules()


UpItem = RequestItem | RosterQuery | Report
DownItem = ReplyItem | Roster


def read_up(plain: bytes) -> tuple[int, list[UpItem]]:
    """Return when it was sent (ms since 1970 UTC, by the clock of the bridge) and the items. Raises Malformed.

    Items of kinds that this version does not know are left out.
    """
    sent_ms, items = _content(plain)
    return sent_ms, [item for item in map(_up, items) if item is not None]


def read_down(plain: bytes) -> tuple[int, int, list[DownItem]]:
    """Return the bridge's clock (ms since 1970 UTC), the roster's version and the items. Raises Malformed.

    Items of kinds that this version does not know are left out.
    """
    fields = array(unpack(plain), "content", None, 3)
    items = _items(fields[2])
    down = [item for item in map(_down, items) if item is not None]
    return uint(fields[0], "server_time_ms", None), uint(fields[1], "roster_version", None), down


def write_up(sent_ms: int, items: list[UpItem]) -> bytes:
    """Return what `read_up` reads."""
    return msgpack.packb((sent_ms, [(_KIND_OF[type(item)], *item) for item in items]))  # type: ignore[no-any-return]


def write_down(server_time_ms: int, roster_version: int, items: list[DownItem]) -> bytes:
    """Return what `read_down` reads."""
    packed = [(_KIND_OF[type(item)], *item) for item in items]
    return msgpack.packb((server_time_ms, roster_version, packed))  # type: ignore[no-any-return]


_KIND_OF: Final[dict[type, int]] = {
    RequestItem: int(ItemKind.REQUEST),
    RosterQuery: int(ItemKind.ROSTER_QUERY),
    Report: int(ItemKind.REPORT),
    ReplyItem: int(ItemKind.REPLY),
    Roster: int(ItemKind.ROSTER),
}


def _content(plain: bytes) -> tuple[int, tuple[Any, ...]]:
    fields = array(unpack(plain), "content", None, 2)
    return uint(fields[0], "sent_ms", None), _items(fields[1])


def _items(value: Any) -> tuple[Any, ...]:
    items = array(value, "items", None, 0)
    if len(items) > ITEMS_MAX:
        raise Malformed("items", f"must be at most {ITEMS_MAX}", None)
    return items


def _up(value: Any) -> UpItem | None:
    item = array(value, "item", None, 1)
    match uint(item[0], "kind", None):
        case ItemKind.REQUEST:
            _, terminal, message, sale_ms, hold_id = array(item, "request", None, 5)[:5]
            return RequestItem(
                _code(terminal),
                _binary(message, "message", PUBLICATION_BYTES_MAX),
                None if sale_ms is None else uint(sale_ms, "sale_ms", None),
                None if hold_id is None else binary_id(hold_id, "hold_id", None),
            )
        case ItemKind.ROSTER_QUERY:
            return RosterQuery(uint(array(item, "roster_query", None, 2)[1], "known_version", None))
        case ItemKind.REPORT:
            names = Report._fields
            numbers = array(item, "report", None, len(names) + 1)[1 : len(names) + 1]
            return Report(*[uint(number, name, None) for name, number in zip(names, numbers, strict=True)])
    return None


def _down(value: Any) -> DownItem | None:
    item = array(value, "item", None, 1)
    match uint(item[0], "kind", None):
        case ItemKind.REPLY:
            _, terminal, message = array(item, "reply", None, 3)[:3]
            return ReplyItem(_code(terminal), _binary(message, "message", PUBLICATION_BYTES_MAX))
        case ItemKind.ROSTER:
            return _roster(array(item, "roster", None, 7)[1:8])
    return None


def _roster(fields: tuple[Any, ...]) -> Roster:
    version, name, currency, points, allowance_ms, terminals, *rules = fields
    listed = array(terminals, "terminals", None, 0)
    if len(listed) > TERMINALS_MAX:
        raise Malformed("terminals", f"must be at most {TERMINALS_MAX}", None)
    return Roster(
        uint(version, "version", None),
        text(name, "network_name", None, 0, TEXT_CHARACTERS_MAX),
        text(currency, "currency", None, 3, 3),
        uint(points, "allowance_points", None),
        uint(allowance_ms, "allowance_ms", None),
        tuple([_terminal(array(one, "terminal", None, 7)[:7]) for one in listed]),
        _rules(rules[0]) if rules else RedeemRules(),
    )


def _rules(value: Any) -> RedeemRules:
    names = RedeemRules._fields
    numbers = array(value, "rules", None, len(names))[: len(names)]
    return RedeemRules(*[uint(number, name, None) for name, number in zip(names, numbers, strict=True)])


def _terminal(fields: tuple[Any, ...]) -> RosterTerminal:
    code, active, permitted, salt, iterations, stored_key, server_key = fields
    return RosterTerminal(
        _code(code),
        boolean(active, "active", None),
        tuple([uint(op, "permitted", None) for op in array(permitted, "permitted", None, 0)]),
        _binary(salt, "salt", _SALT_BYTES_MAX),
        uint(iterations, "iterations", None),
        _binary(stored_key, "stored_key", _SALT_BYTES_MAX),
        _binary(server_key, "server_key", _SALT_BYTES_MAX),
    )


def _code(value: Any) -> str:
    if type(value) is str and TERMINAL_ID.fullmatch(value):
        return value
    raise Malformed("terminal", "must be a str of 1..64 of A-Z a-z 0-9 . _ : -", None)


def _binary(value: Any, name: str, most: int) -> bytes:
    if type(value) is bytes and len(value) <= most:
        return value
    raise Malformed(name, f"must be a bin of at most {most} bytes", None)


class Hello(NamedTuple):
    """The first publication of a relay; `sealed` proves that it has the key."""

    version: int
    code: str
    generation: int
    relay_nonce: bytes
    sealed: bytes


class Welcome(NamedTuple):
    """The bridge's answer to HELLO; `bridge` is the topic's last part where it listens."""

    bridge: str
    relay_nonce: bytes
    sealed: bytes


class Data(NamedTuple):
    """Items of a session under a sequence number, which counts from 1 in each direction."""

    session_id: bytes
    sequence: int
    sealed: bytes


class Goodbye(NamedTuple):
    """A hint; `about` is the session, or the nonce of the HELLO."""

    about: bytes
    reason: int
    text: str


AnyPublication = Hello | Welcome | Data | Goodbye

_PUBLICATION_OF: Final[dict[type, int]] = {
    Hello: int(Publication.HELLO),
    Welcome: int(Publication.WELCOME),
    Data: int(Publication.DATA),
    Goodbye: int(Publication.GOODBYE),
}


def write_publication(publication: AnyPublication) -> bytes:
    """Return the payload."""
    return msgpack.packb((_PUBLICATION_OF[type(publication)], *publication))  # type: ignore[no-any-return]


def read_publication(payload: bytes) -> AnyPublication:
    """Return what a payload says; nothing of it is vouched for yet. Raises Malformed."""
    if len(payload) > PUBLICATION_BYTES_MAX:
        raise Malformed("publication", f"must be at most {PUBLICATION_BYTES_MAX} bytes", None)
    fields = array(unpack(payload), "publication", None, 1)
    match uint(fields[0], "type", None):
        case Publication.HELLO:
            _, version, code, generation, nonce, sealed = array(fields, "hello", None, 6)[:6]
            return Hello(
                uint(version, "version", None),
                _code(code),
                uint(generation, "generation", None),
                binary_id(nonce, "relay_nonce", None),
                _binary(sealed, "sealed", PUBLICATION_BYTES_MAX),
            )
        case Publication.WELCOME:
            _, bridge, nonce, sealed = array(fields, "welcome", None, 4)[:4]
            return Welcome(
                _code(bridge), binary_id(nonce, "relay_nonce", None), _binary(sealed, "sealed", PUBLICATION_BYTES_MAX)
            )
        case Publication.DATA:
            _, session_id, sequence, sealed = array(fields, "data", None, 4)[:4]
            return Data(
                binary_id(session_id, "session_id", None),
                uint(sequence, "sequence", None, 1),
                _binary(sealed, "sealed", PUBLICATION_BYTES_MAX),
            )
        case Publication.GOODBYE:
            _, about, reason, why = array(fields, "goodbye", None, 4)[:4]
            return Goodbye(
                binary_id(about, "about", None),
                uint(reason, "reason", None),
                text(why, "text", None, 0, TEXT_CHARACTERS_MAX),
            )
    raise Malformed("publication", "is of an unknown type", None)


def hello_content(time_ms: int, software: str) -> bytes:
    """Return what HELLO seals: the relay's clock and its software."""
    return msgpack.packb((time_ms, software))  # type: ignore[no-any-return]


def read_hello_content(plain: bytes) -> tuple[int, str]:
    """Return the relay's clock (ms since 1970 UTC) and its software. Raises Malformed."""
    time_ms, software = array(unpack(plain), "hello", None, 2)[:2]
    return uint(time_ms, "time_ms", None), text(software, "software", None, 0, SOFTWARE_CHARACTERS_MAX)


def welcome_content(session_id: bytes, server_time_ms: int, limits: LineLimits) -> bytes:
    """Return what WELCOME seals."""
    return msgpack.packb((session_id, server_time_ms, limits))  # type: ignore[no-any-return]


def read_welcome_content(plain: bytes) -> tuple[bytes, int, LineLimits]:
    """Return the session's id, the bridge's clock (ms since 1970 UTC) and the limits. Raises Malformed."""
    session_id, server_time_ms, limits = array(unpack(plain), "welcome", None, 3)[:3]
    names = LineLimits._fields
    numbers = array(limits, "limits", None, len(names))[: len(names)]
    return (
        binary_id(session_id, "session_id", None),
        uint(server_time_ms, "server_time_ms", None),
        LineLimits(*[uint(number, name, None) for name, number in zip(names, numbers, strict=True)]),
    )
