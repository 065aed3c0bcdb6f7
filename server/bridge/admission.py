"""From a relay's HELLO to its session: proved first, then looked up, many relays by one query."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

import structlog

from ledger.clock import Clock
from ledger.journal.writer import JournalDown
from ledger.programme import Programme, Terminal
from ledger.relays import Relay
from protocol.relay_keys import NotGenuine, relay_key
from protocol.relay_line import BridgeSession, Repeated
from protocol.relay_messages import Goodbye, Hello, Hint, write_publication
from server.bridge.limits import HELLOS_AT_ONCE, HELLOS_WAITING_MAX, NONCES_REMEMBERED, BridgeLimits
from server.bridge.outbox import Outbox
from server.bridge.session import Session
from server.bridge.sessions import Sessions
from server.bridge.tally import Tally
from server.bridge.topics import Place, answers
from server.registers.clock import SteadyClock

_REFUSALS_REMEMBERED: Final = 4_096

_log = structlog.get_logger(subject="bridge")


class Registry(Protocol):
    """What admission asks of the ledger; both look-ups raise JournalDown."""

    @property
    def programme(self) -> Programme:
        """The programme in force."""

    async def relays(self, codes: Sequence[str]) -> Mapping[str, Relay]:
        """Return those of the codes that are relays."""

    async def registers(self, stores: Sequence[int]) -> Mapping[int, Sequence[Terminal]]:
        """Return the terminals of each store, relays left out."""


class _Waiting(NamedTuple):
    """A HELLO that was proved."""

    ends: BridgeSession
    generation: int
    place: Place


class Admission:
    """Takes HELLOs and begins sessions; looks at those that there are when the programme has changed."""

    def __init__(
        self,
        ledger: Registry,
        sessions: Sessions,
        outbox: Outbox,
        master: bytes,
        bridge: str,
        clock: Clock,
        steady: SteadyClock,
        random_bytes: Callable[[int], bytes],
        limits: BridgeLimits,
        tally: Tally,
    ) -> None:
        """`master` is what all relays' keys are derived from, `bridge` where sessions shall send their publications."""
        self._ledger = ledger
        self._sessions = sessions
        self._outbox = outbox
        self._master = master
        self._bridge = bridge
        self._clock = clock
        self._steady = steady
        self._random_bytes = random_bytes
        self._limits = limits
        self._tally = tally
        # Of each relay its last HELLO, however many it says, or somebody repeats for it.
        self._waiting: OrderedDict[str, _Waiting] = OrderedDict()
        self._arrived = asyncio.Event()
        self._nonces: OrderedDict[bytes, None] = OrderedDict()
        # Why each relay was refused last: one that is suspended comes every few seconds, for months.
        self._refusals: OrderedDict[str, str] = OrderedDict()
        self.ready = False
        """Whether what relays have in store for this bridge would come in."""

    def take(self, hello: Hello, place: Place) -> None:
        """Take a HELLO that nobody vouches for yet; PostgreSQL is asked nothing before it is proved.

        Raises NotGenuine, Repeated or Malformed.
        """
        if hello.relay_nonce in self._nonces:
            raise Repeated("this HELLO came before")
        if hello.code != place.code:
            raise NotGenuine("came in under the topic of another relay")
        key = relay_key(self._master, hello.code, hello.generation)
        ends = BridgeSession(hello, key, place.relay, self._random_bytes)
        self._nonces[hello.relay_nonce] = None
        if len(self._nonces) > NONCES_REMEMBERED:
            self._nonces.popitem(last=False)
        if not self.ready:
            # Its next HELLO may come to another bridge.
            self._tally.refused["too_early"] += 1
            self._goodbye(ends, Hint.BUSY, "not ready")
            return
        if len(self._waiting) >= HELLOS_WAITING_MAX and place.relay not in self._waiting:
            self._goodbye(ends, Hint.BUSY, "too many relays come at once")
            return
        self._waiting[place.relay] = _Waiting(ends, hello.generation, place)
        self._arrived.set()

    async def run(self) -> None:
        """Begin sessions until cancelled."""
        while True:
            await self._arrived.wait()
            part = [self._waiting.popitem(last=False)[1] for _ in range(min(HELLOS_AT_ONCE, len(self._waiting)))]
            if not self._waiting:
                self._arrived.clear()
            await self._admit(part)

    async def _admit(self, part: Sequence[_Waiting]) -> None:
        version = self._ledger.programme.version
        try:
            relays, terminals = await self._look_up([waiting.place.code for waiting in part])
        except JournalDown as error:
            _log.warning("relays could not be looked up", count=len(part), reason=str(error))
            for waiting in part:
                await self._outbox.wait_for_room()
                self._goodbye(waiting.ends, Hint.BUSY, "try again later")
            return
        for ends, generation, place in part:
            # All stores come at once when a broker is back.
            await self._outbox.wait_for_room()
            relay = relays.get(place.code)
            refusal = _refusal(relay, place, generation)
            if relay is None or refusal:
                self._log_refusal(place.code, refusal)
                self._goodbye(ends, Hint.REFUSED, "this relay is suspended, or its credential holds no more")
            elif len(self._sessions) >= self._limits.sessions_max and not self._sessions.knows(
                relay.terminal.terminal_id
            ):
                _log.warning("too many relays", sessions_max=self._limits.sessions_max)
                self._goodbye(ends, Hint.BUSY, "too many relays are here")
            else:
                self._welcome(Session(ends, relay, terminals[place.code], version, self._clock.monotonic_s()))

    async def _look_up(self, codes: Iterable[str]) -> tuple[Mapping[str, Relay], dict[str, dict[str, Terminal]]]:
        """Return relays, and of each the terminals of its store, by their codes."""
        relays = await self._ledger.relays(list(dict.fromkeys(codes)))
        stores = {relay.terminal.store_id for relay in relays.values()}
        of_store = await self._ledger.registers(sorted(stores)) if stores else {}
        terminals = {
            code: {terminal.code: terminal for terminal in of_store[relay.terminal.store_id]}
            for code, relay in relays.items()
        }
        return relays, terminals

    def _log_refusal(self, code: str, reason: str) -> None:
        if self._refusals.get(code) == reason:
            return
        self._refusals[code] = reason
        if len(self._refusals) > _REFUSALS_REMEMBERED:
            self._refusals.popitem(last=False)
        _log.warning("a relay was refused", terminal=code, reason=reason)

    def _welcome(self, session: Session) -> None:
        ends = session.ends
        self._refusals.pop(ends.code, None)
        self._sessions.begin(session)
        self._tally.sessions_begun += 1
        payload = ends.welcome(self._bridge, self._steady.now_ms(), self._limits.line)
        if not self._outbox.send(answers(ends.topic), payload):
            # It will say HELLO again.
            self._sessions.end(session)

    def _goodbye(self, ends: BridgeSession, hint: Hint, text: str) -> None:
        self._outbox.send(answers(ends.topic), write_publication(Goodbye(ends.relay_nonce, int(hint), text)))

    def end(self, session: Session, hint: Hint, text: str) -> None:
        """End a session and tell the relay."""
        self._sessions.end(session)
        payload = write_publication(Goodbye(session.ends.session_id, int(hint), text))
        self._outbox.send(session.response_topic, payload)

    async def recheck(self) -> None:
        """Look up the relays that are here if the programme has changed: one may be suspended, or have another key."""
        version = self._ledger.programme.version
        stale = [session for session in self._sessions if session.version != version]
        for start in range(0, len(stale), HELLOS_AT_ONCE):
            part = stale[start : start + HELLOS_AT_ONCE]
            try:
                relays, terminals = await self._look_up([session.ends.code for session in part])
            except JournalDown as error:
                _log.warning("relays could not be looked up", count=len(part), reason=str(error))
                return
            for session in part:
                relay = relays.get(session.ends.code)
                if session.ended:
                    continue
                reason = "no relay has this code" if relay is None else _not_held(relay, session.relay.generation)
                if relay is None or reason:
                    _log.warning("a relay's session was ended", terminal=session.ends.code, reason=reason)
                    self.end(session, Hint.REFUSED, "this relay is suspended, or its credential holds no more")
                    continue
                session.relay, session.terminals, session.version = relay, terminals[session.ends.code], version


def _refusal(relay: Relay | None, place: Place, generation: int) -> str:
    """Return why a relay gets no session, empty if it does."""
    if relay is None:
        return "no relay has this code"
    if (str(relay.terminal.network_id), str(relay.terminal.store_id)) != (place.network, place.store):
        return "it is the relay of another store"
    return _not_held(relay, generation)


def _not_held(relay: Relay, generation: int) -> str:
    if not relay.terminal.active:
        return "it, its store, network or partner is suspended"
    return "" if relay.generation == generation else "its credential is not the newest"
