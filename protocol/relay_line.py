"""Both ends of a relay's line, without I/O and without a clock (SPEC.md, MQTT).

`RelayLine` is the relay's end, `BridgeSession` the bridge's. Payloads of publications go in and come out; times are
milliseconds and given by the caller. Each publication of a session is taken once: what was altered, made up, repeated
or of another session raises.
"""

from collections.abc import Callable
from typing import Final

from protocol.fields import Malformed
from protocol.relay_keys import (
    NONCE_BYTES,
    SEAL_NONCE_BYTES,
    NotGenuine,
    RelayCredential,
    Seal,
    SessionKeys,
    derived,
)
from protocol.relay_messages import (
    LINE_VERSION,
    PUBLICATION_BYTES_MAX,
    Data,
    DownItem,
    Hello,
    LineLimits,
    UpItem,
    Welcome,
    hello_content,
    read_down,
    read_hello_content,
    read_up,
    read_welcome_content,
    welcome_content,
    write_down,
    write_publication,
    write_up,
)

WINDOW: Final = 1_024
"""How far behind the newest publication an older one may come."""
CLOCK_PERIOD_MS: Final = 300_000
"""How long a relay trusts what a publication told of the bridge's clock: at least so long, at most twice."""

RandomBytes = Callable[[int], bytes]


class Repeated(ValueError):  # noqa: N818 - it says what is the matter
    """A publication that was taken before, or is too far behind to tell."""


class SequenceWindow:
    """Knows which numbers have come, in any order, without keeping more than the last `WINDOW`."""

    __slots__ = ("_newest", "_seen")

    def __init__(self) -> None:
        self._newest = 0
        # Bit n stands for the number n before the newest.
        self._seen = 0

    def take(self, sequence: int) -> None:
        """Note a number. Raises Repeated if it is not new."""
        ahead = sequence - self._newest
        if ahead > 0:
            self._seen = (self._seen << min(ahead, WINDOW) | 1) & ((1 << WINDOW) - 1)
            self._newest = sequence
            return
        if -ahead >= WINDOW or self._seen >> -ahead & 1:
            raise Repeated(f"publication {sequence} came before")
        self._seen |= 1 << -ahead


class _Half:
    """One end of a session: numbers what it sends, takes each number of the other end once."""

    __slots__ = ("_closing", "_opening", "_sequence", "_window", "session_id")

    def __init__(self, session_id: bytes, closing: Seal, opening: Seal) -> None:
        self.session_id = session_id
        self._closing = closing
        self._opening = opening
        self._sequence = 0
        self._window = SequenceWindow()

    def close(self, plain: bytes) -> bytes:
        self._sequence += 1
        sealed = self._closing.close(self._sequence, plain, self.session_id)
        payload = write_publication(Data(self.session_id, self._sequence, sealed))
        if len(payload) > PUBLICATION_BYTES_MAX:
            raise ValueError(f"a publication of {len(payload)} bytes is above {PUBLICATION_BYTES_MAX}")
        return payload

    def open(self, data: Data) -> bytes:
        if data.session_id != self.session_id:
            raise NotGenuine("of another session")
        plain = self._opening.open(data.sequence, data.sealed, self.session_id)
        # Only what is genuine may move the window.
        self._window.take(data.sequence)
        return plain


class _BridgeClock:
    """The bridge's clock as seen from the relay: what came fastest is the least wrong, and old news wear off.

    A publication tells the time at which it was sent and arrives later, so each sets the clock too low by as long as it
    travelled; the highest of some minutes is taken. Nobody who delays publications can set it high.
    """

    __slots__ = ("_before_ms", "_offset_ms", "_since_ms")

    def __init__(self, server_time_ms: int, now_ms: int) -> None:
        self._offset_ms = self._before_ms = server_time_ms - now_ms
        self._since_ms = now_ms

    def heard(self, server_time_ms: int, now_ms: int) -> None:
        offset_ms = server_time_ms - now_ms
        if now_ms - self._since_ms < CLOCK_PERIOD_MS:
            self._offset_ms = max(self._offset_ms, offset_ms)
        else:
            self._before_ms, self._offset_ms, self._since_ms = self._offset_ms, offset_ms, now_ms

    def at(self, now_ms: int) -> int:
        return now_ms + max(self._offset_ms, self._before_ms)


class RelayLine:
    """The relay's end. `hello` begins a session, `welcomed` completes it; an older one ends with that."""

    def __init__(self, credential: RelayCredential, software: str, random_bytes: RandomBytes) -> None:
        self._credential = credential
        self._software = software
        self._random_bytes = random_bytes
        self._nonce: bytes | None = None
        self._half: _Half | None = None
        self._clock: _BridgeClock | None = None
        self.bridge = ""
        self.limits: LineLimits | None = None

    @property
    def ready(self) -> bool:
        """Whether there is a session."""
        return self._half is not None

    @property
    def session_id(self) -> bytes | None:
        """The session's id, None without one."""
        return None if self._half is None else self._half.session_id

    def hello(self, wall_ms: int) -> bytes:
        """Return the publication that asks for a session; `wall_ms` is told for the operators' eyes only."""
        credential = self._credential
        nonce = self._nonce = self._random_bytes(NONCE_BYTES)
        seal = Seal(derived(credential.key, "tillwire hello", nonce))
        plain = hello_content(wall_ms, self._software)
        bound = _bound(LINE_VERSION, credential.topic, credential.generation, nonce)
        sealed = seal.close_once(plain, bound, self._random_bytes(SEAL_NONCE_BYTES))
        return write_publication(Hello(LINE_VERSION, credential.code, credential.generation, nonce, sealed))

    def welcomed(self, welcome: Welcome, now_ms: int) -> LineLimits:
        """Take the answer to the last `hello`; `now_ms` is of a clock that does not jump.

        Raises NotGenuine (also when it answers another HELLO) or Malformed.
        """
        if self._nonce is None or welcome.relay_nonce != self._nonce:
            raise NotGenuine("answers no HELLO that is waited for")
        credential, nonce = self._credential, self._nonce
        seal = Seal(derived(credential.key, "tillwire welcome", nonce))
        bound = _bound(LINE_VERSION, credential.topic, credential.generation, nonce)
        plain = seal.open_once(welcome.sealed, bound + welcome.bridge.encode())
        session_id, server_time_ms, limits = read_welcome_content(plain)
        keys = SessionKeys.of(credential.key, nonce, session_id)
        self._half = _Half(session_id, keys.up, keys.down)
        self._nonce = None
        self._clock = _BridgeClock(server_time_ms, now_ms)
        self.bridge, self.limits = welcome.bridge, limits
        return limits

    def server_time_ms(self, now_ms: int) -> int:
        """Return the bridge's clock as far as it is known, at `now_ms` of the clock that `welcomed` was given.

        Raises RuntimeError before the first session.
        """
        if self._clock is None:
            raise RuntimeError("no bridge was heard yet")
        return self._clock.at(now_ms)

    def end(self) -> None:
        """Forget the session; may be called twice."""
        self._half = None
        self._nonce = None

    def close(self, items: list[UpItem], now_ms: int) -> bytes:
        """Return the next publication of the session.

        Raises RuntimeError without one, and ValueError if the items are too many for a publication.
        """
        if self._half is None:
            raise RuntimeError("there is no session")
        return self._half.close(write_up(self.server_time_ms(now_ms), items))

    def open(self, data: Data, now_ms: int) -> tuple[int, int, list[DownItem]]:
        """Return the bridge's clock, the roster's version and the items. Raises NotGenuine, Repeated, Malformed.

        `now_ms` is of the clock that `welcomed` was given: the bridge's is followed.
        """
        if self._half is None or self._clock is None:
            raise NotGenuine("there is no session")
        server_time_ms, roster_version, items = read_down(self._half.open(data))
        self._clock.heard(server_time_ms, now_ms)
        return server_time_ms, roster_version, items


class BridgeSession:
    """The bridge's end of one session."""

    def __init__(self, hello: Hello, key: bytes, topic: str, random_bytes: RandomBytes) -> None:
        """Take a HELLO, the relay's key, and the topic of the publication without its last part.

        Raises NotGenuine (also if the relay said HELLO under another topic) or Malformed (also for another version).
        """
        if hello.version != LINE_VERSION:
            raise Malformed("version", f"must be {LINE_VERSION}", None)
        seal = Seal(derived(key, "tillwire hello", hello.relay_nonce))
        self._bound = _bound(hello.version, topic, hello.generation, hello.relay_nonce)
        self.wall_ms, self.software = read_hello_content(seal.open_once(hello.sealed, self._bound))
        self.code = hello.code
        self.topic = topic
        self.relay_nonce = hello.relay_nonce
        self.session_id = random_bytes(NONCE_BYTES)
        self._key = key
        self._random_bytes = random_bytes
        keys = SessionKeys.of(key, hello.relay_nonce, self.session_id)
        self._half = _Half(self.session_id, keys.down, keys.up)

    def welcome(self, bridge: str, server_time_ms: int, limits: LineLimits) -> bytes:
        """Return the publication that answers the HELLO; `bridge` is where this session's publications shall go.

        A HELLO that came twice may be answered twice.
        """
        nonce = self.relay_nonce
        seal = Seal(derived(self._key, "tillwire welcome", nonce))
        plain = welcome_content(self.session_id, server_time_ms, limits)
        sealed = seal.close_once(plain, self._bound + bridge.encode(), self._random_bytes(SEAL_NONCE_BYTES))
        return write_publication(Welcome(bridge, nonce, sealed))

    def open(self, data: Data) -> tuple[int, list[UpItem]]:
        """Return when it was sent (ms since 1970 UTC) and the items. Raises NotGenuine, Repeated or Malformed."""
        return read_up(self._half.open(data))

    def close(self, items: list[DownItem], server_time_ms: int, roster_version: int) -> bytes:
        """Return the next publication of the session. Raises ValueError if the items are too many for one."""
        return self._half.close(write_down(server_time_ms, roster_version, items))


def _bound(version: int, topic: str, generation: int, relay_nonce: bytes) -> bytes:
    """Return what both seals of a handshake vouch for beside their content; the topic ends in the relay's code."""
    return f"{version} {topic} {generation} ".encode() + relay_nonce
