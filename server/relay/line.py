"""The relay's line to headquarters: keeps a session over the broker, asks through it, knows whether it is up.

A publication that is lost, a broker or a bridge that is gone show as silence; then a new session is begun, and under it
everything is asked again that has no answer and is still waited for. Nothing here is kept over a restart.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any, Final, NamedTuple, Protocol

import structlog

from protocol.codes import ErrorCode
from protocol.fields import Malformed
from protocol.messages import LENGTH_BYTES, error_frame
from protocol.relay_keys import NotGenuine, RelayCredential
from protocol.relay_line import RandomBytes, RelayLine, Repeated
from protocol.relay_messages import (
    BACKLOG_SUFFIX,
    Data,
    Goodbye,
    Hint,
    LineLimits,
    ReplyItem,
    Report,
    RequestItem,
    Roster,
    RosterQuery,
    UpItem,
    Welcome,
    read_publication,
)
from server.mqtt import Message, NotPublished
from server.registers.log_budget import LogBudget
from server.relay.asking import LineDown
from server.relay.line_clock import LineClock
from server.relay.line_greeting import Greeting, Saying
from server.relay.line_queue import Asked, LineQueue, id_of

_BUSY_RETRY_MS: Final = 250
# A session that held for so long was a good one: the next HELLO need not be put off.
_STEADY_S: Final = 10.0
# While there is no session, nothing is due; otherwise the session is looked at so often.
_LOOK_S: Final = 0.25
_HEARTBEATS_MISSED: Final = 2

_HINTS: Final = {int(hint): hint.name for hint in Hint}

_log = structlog.get_logger(subject="line")


@dataclass(frozen=True, slots=True)
class LineSettings:
    """Limits of the line; the settings of the same names."""

    mqtt_qos: int = 1
    publications_under_way_max: int = 16
    waiting_requests_max: int = 1_024
    silence_ms: int = 3_000
    grace_ms: int = 1_000


class Publisher(Protocol):
    """What the line needs of `server.mqtt.Broker`."""

    @property
    def connected(self) -> bool:
        """Whether the broker is there."""

    @property
    def reason(self) -> str:
        """Why it is not."""

    def publish(
        self, topic: str, payload: bytes, *, qos: int = 1, response_topic: str | None = None,
        correlation: bytes | None = None, expiry_s: float | None = None,
    ) -> asyncio.Future[bool]:  # fmt: skip
        """Publish at once. Raises NotPublished."""


class Outlook(NamedTuple):
    """What the line asks of the rest of the relay."""

    report: Callable[[], Report]
    roster_version: Callable[[], int]
    take_roster: Callable[[Roster], None]
    came_up: Callable[[], None]


class HeadquartersLine:
    """`server.relay.asking.Line` over a broker. `run` is a task of the owner; everything in one loop."""

    def __init__(
        self,
        credential: RelayCredential,
        software: str,
        settings: LineSettings,
        outlook: Outlook,
        clock: LineClock,
        random_bytes: RandomBytes,
        random: Random,
    ) -> None:
        """Take the parts; `use` names the broker before `run`."""
        self._topic = credential.topic
        self._settings = settings
        self._outlook = outlook
        self._clock = clock
        self._core = RelayLine(credential, software, random_bytes)
        self._greeting = Greeting(Saying(self._make_hello, self._say_hello, self._connected), random)
        self._queue = LineQueue()
        self._stir = asyncio.Event()
        self._log = LogBudget(_log, clock.monotonic_s)
        self._broker: Publisher | None = None
        self._flushing = False
        self._unacknowledged = 0
        self._welcome_s = 0.0
        self._heard_s = 0.0
        self._reported_s = 0.0
        self._owed_s: float | None = None
        self._lost_s: float | None = None
        self._roster_asked_s: float | None = None
        self._was_up = False
        self.up_since_ms = 0
        self.down_since_ms = clock.now_ms()
        self.reason = "not connected yet"

    @property
    def answer_topic(self) -> str:
        """The topic on which this line listens."""
        return f"{self._topic}/answer"

    def use(self, broker: Publisher) -> None:
        """Take the connection whose messages come to `received` and whose changes to `connection_changed`."""
        self._broker = broker

    # What the relay asks.

    @property
    def limits(self) -> LineLimits | None:
        """What headquarters allowed last, None before the first session."""
        return self._core.limits

    @property
    def up(self) -> bool:
        """Whether headquarters was heard within two heartbeats in a session that is there or ended a moment ago."""
        limits = self._core.limits
        if limits is None or not self._welcome_s:
            return False
        now = self._clock.monotonic_s()
        if self._lost_s is not None and now - self._lost_s >= self._settings.grace_ms / 1_000:
            return False
        return now - self._heard_s <= _HEARTBEATS_MISSED * limits.heartbeat_ms / 1_000

    def server_now_ms(self) -> int | None:
        """Return headquarters' time in ms since 1970 UTC, None while it is not known."""
        return self._clock.server_now_ms()

    async def ask(self, item: RequestItem, timeout_s: float) -> ReplyItem:
        """Return the answer; see `server.relay.asking.Line`. Past `waiting_requests_max` that is ERROR BUSY."""
        asked = self._put(item, timeout_s)
        try:
            async with asyncio.timeout(timeout_s):
                return await asked.reply
        except TimeoutError:
            raise asked.given_up() from None
        finally:
            self._drop(asked)

    def post(self, item: RequestItem, timeout_s: float) -> asyncio.Future[ReplyItem]:
        """Return the answer to come; see `server.relay.asking.Line`."""
        asked = self._put(item, timeout_s)
        asked.reply.add_done_callback(lambda _: self._drop(asked))
        return asked.reply

    def _put(self, item: RequestItem, timeout_s: float) -> Asked:
        """Queue an item; what cannot be sent now has its answer at once."""
        asked = Asked(item, self._clock.monotonic_s() + timeout_s, asyncio.get_running_loop().create_future())
        if not self.up:
            asked.reply.set_exception(LineDown("the line to headquarters is down"))
        elif len(self._queue) - self._queue.under_way >= self._settings.waiting_requests_max:
            busy = error_frame(id_of(item.message), ErrorCode.BUSY, "too much under way, not executed", _BUSY_RETRY_MS)
            asked.reply.set_result(ReplyItem(item.terminal, busy[LENGTH_BYTES:]))
        else:
            self._queue.add(asked)
            self._flush_soon()
        return asked

    def _drop(self, asked: Asked) -> None:
        self._queue.forget(asked)
        self._flush_soon()

    # What comes from the broker.

    def connection_changed(self, connected: bool) -> None:
        """Take note that the broker is there, or is not: either way the next session is a new one."""
        if connected:
            self._greeting.want("the broker is back")
        else:
            self._lose("the broker is away")

    def received(self, message: Message) -> None:
        """Take a publication; whatever is not vouched for changes nothing."""
        try:
            publication = read_publication(message.payload)
            if isinstance(publication, Data):
                self._data(publication)
            elif isinstance(publication, Welcome):
                self._welcome(publication)
            elif isinstance(publication, Goodbye):
                self._goodbye(publication)
        except Repeated:
            # An ordinary duplicate of QoS 1.
            return
        except (Malformed, NotGenuine) as error:
            self._log.warning("a publication was not taken", reason=str(error))

    def _welcome(self, welcome: Welcome) -> None:
        if not self._greeting.answers(welcome):
            # The answer to an earlier HELLO, late.
            return
        limits = self._core.welcomed(welcome, self._clock.monotonic_ms())
        now = self._clock.monotonic_s()
        self._lost_s = self._owed_s = self._roster_asked_s = None
        self._welcome_s = self._heard_s = now
        self._clock.heard(self._core.server_time_ms(self._clock.monotonic_ms()))
        self._greeting.welcomed()
        self._note_up(limits)
        self._queue.ask_again()
        self._tell(now)
        self._flush()

    def _data(self, data: Data) -> None:
        _, roster_version, items = self._core.open(data, self._clock.monotonic_ms())
        now = self._clock.monotonic_s()
        self._heard_s = now
        self._lost_s = None
        self._clock.heard(self._core.server_time_ms(self._clock.monotonic_ms()))
        for item in items:
            if isinstance(item, ReplyItem):
                self._queue.answered(item)
            else:
                self._roster_asked_s = None
                self._outlook.take_roster(item)
        self._owed_s = now if self._queue.under_way else None
        if roster_version != self._outlook.roster_version():
            self._ask_for_roster(now)
        self._flush_soon()

    def _goodbye(self, goodbye: Goodbye) -> None:
        """Heed a hint that nobody vouches for: the session goes on until there is another one."""
        hint = _HINTS.get(goodbye.reason, str(goodbye.reason))
        if self._greeting.is_about(goodbye.about):
            self._greeting.refused(f"headquarters refuses a session: {hint}")
        elif goodbye.about == self._core.session_id:
            self._greeting.want(f"headquarters ended the session: {hint}", hinted=True)

    # The session.

    async def run(self) -> None:
        """Keep a session until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._greeting.run(), name="relay session")
            tasks.create_task(self._watch(), name="relay silence")

    def _connected(self) -> bool:
        return self._broker is not None and self._broker.connected

    def _make_hello(self) -> bytes:
        return self._core.hello(self._clock.now_ms())

    def _say_hello(self, payload: bytes, wait_s: float) -> asyncio.Future[bool] | None:
        return self._publish(f"{self._topic}/hello", payload, wait_s)

    async def _watch(self) -> None:
        while True:
            # Not wait_for, which until Python 3.12 may swallow a cancellation.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await self._stir.wait()
            self._stir.clear()
            self._look(self._clock.monotonic_s())

    def _look(self, now: float) -> None:
        """Say something if it is time; see whether headquarters is silent and whether the line is down."""
        limits = self._core.limits
        if limits is not None and self._can_send():
            silent_s = 0.0 if self._owed_s is None else now - self._owed_s
            silence_s = self._settings.silence_ms / 1_000
            if silent_s >= silence_s:
                self._lose("headquarters is silent")
            elif now - self._reported_s >= min(limits.heartbeat_ms / 1_000, silence_s / 2 if silent_s else math.inf):
                # Also while only the ledger takes its time: a report is answered at once.
                self._tell(now)
            if now - self._welcome_s > _STEADY_S:
                self._greeting.steady()
        self._queue.give_up_late(now)
        if not self.up:
            self._note_down()
            self._queue.give_up_unsent()

    def _lose(self, reason: str) -> None:
        """Send nothing more in this session; for a moment what comes waits for the next one."""
        self._owed_s = None
        if self._lost_s is None and self._welcome_s:
            self._lost_s = self._clock.monotonic_s()
            self.reason = reason
            self._log.warning("the line is lost", reason=reason)
            asyncio.get_running_loop().call_later(self._settings.grace_ms / 1_000, self._stir.set)
        self._greeting.want(reason)

    def _note_up(self, limits: LineLimits) -> None:
        if not self._was_up:
            self._was_up = True
            self.up_since_ms, self.down_since_ms = self._clock.now_ms(), 0
            self.reason = ""
            _log.info("the line is up", in_flight_max=limits.in_flight_max)
            self._outlook.came_up()

    def _note_down(self) -> None:
        if self._was_up:
            self._was_up = False
            self.up_since_ms, self.down_since_ms = 0, self._clock.now_ms()
            _log.warning("the line is down", reason=self.reason)

    # What is sent.

    def _can_send(self) -> bool:
        return self._core.ready and self._lost_s is None and self._connected()

    def _flush_soon(self) -> None:
        if not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        """Publish what has gathered, as far as headquarters' limits and the broker's acknowledgements allow."""
        self._flushing = False
        limits = self._core.limits
        while limits is not None and self._can_send():
            if self._unacknowledged >= self._settings.publications_under_way_max:
                return
            taken = self._queue.take(limits)
            if not taken:
                return
            now = self._clock.monotonic_s()
            expiry_s = max(asked.expires_s for asked in taken) - now
            if not self._send([asked.item for asked in taken], expiry_s, backlog=taken[0].of_backlog):
                self._queue.untake(taken)
                return

    def _tell(self, now: float) -> None:
        """Report how the relay is; the answer says that headquarters is there, and which roster is in force."""
        self._reported_s = now
        items: list[UpItem] = [self._outlook.report(), RosterQuery(self._outlook.roster_version())]
        self._send(items, self._settings.silence_ms / 1_000)

    def _ask_for_roster(self, now: float) -> None:
        asked_s = self._roster_asked_s
        if asked_s is None or now - asked_s >= self._settings.silence_ms / 1_000:
            self._roster_asked_s = now
            self._send([RosterQuery(self._outlook.roster_version())], self._settings.silence_ms / 1_000)

    def _send(self, items: list[UpItem], expiry_s: float, *, backlog: bool = False) -> bool:
        """Publish items in the session; False if none of them left."""
        payload = self._core.close(items, self._clock.monotonic_ms())
        suffix = BACKLOG_SUFFIX if backlog else ""
        published = self._publish(f"{self._topic}/to/{self._core.bridge}{suffix}", payload, max(1.0, expiry_s))
        if published is None:
            return False
        if self._owed_s is None:
            self._owed_s = self._clock.monotonic_s()
        self._unacknowledged += 1
        session_id = self._core.session_id
        published.add_done_callback(lambda done: self._published(done, session_id, backlog=backlog))
        return True

    def _publish(self, topic: str, payload: bytes, expiry_s: float) -> asyncio.Future[bool] | None:
        if self._broker is None:
            return None
        try:
            return self._broker.publish(
                topic, payload, qos=self._settings.mqtt_qos, response_topic=self.answer_topic, expiry_s=expiry_s
            )
        except NotPublished as error:
            self._log.warning("could not be published", reason=str(error))
            return None

    def _published(self, done: asyncio.Future[bool], session_id: bytes | None, *, backlog: bool) -> None:
        self._unacknowledged -= 1
        if done.cancelled():
            return
        unheard = done.exception() is None and not done.result()
        if unheard and backlog:
            # It comes to headquarters by a connection of its own: without that what is live goes on, and the backlog is
            # asked again when its time is over.
            self._log.warning("nobody at headquarters hears the backlog")
        elif unheard and session_id == self._core.session_id:
            # Whoever had the session is gone; no need to wait until its silence is noticed.
            self._lose("nobody listens to the session any more")
        self._flush_soon()

    def health(self) -> dict[str, Any]:
        """Return how the line is, for people."""
        return {
            "up": self.up,
            "since_ms": self.up_since_ms or self.down_since_ms,
            "reason": "" if self.up else self._why_down(),
            "under_way": self._queue.under_way,
            "waiting": len(self._queue) - self._queue.under_way,
        }

    def _why_down(self) -> str:
        """Return what is the matter now; what the line was lost by may be over while something else keeps it down."""
        if self._broker is not None and not self._connected():
            return f"the broker is away: {self._broker.reason}" if self._broker.reason else "the broker is away"
        return self._greeting.refusal or self.reason
