"""A relay's line against a bridge's end that a test holds in its hand, with no broker between them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from random import Random
from typing import Self

from ledger.clock import SystemClock
from protocol.answers import encode_body
from protocol.codes import CardKind, Outcome
from protocol.messages import LENGTH_BYTES, answer_frame, encode, error_frame
from protocol.relay_keys import RelayCredential
from protocol.relay_line import BridgeSession, Repeated
from protocol.relay_messages import (
    BACKLOG_SUFFIX,
    Data,
    DownItem,
    Goodbye,
    Hello,
    LineLimits,
    ReplyItem,
    Report,
    RequestItem,
    Roster,
    RosterQuery,
    read_publication,
    write_publication,
)
from protocol.requests import BalanceRequest, Card, Receipt, RedeemRequest
from server.mqtt import Congested, Message, NotConnected, NotPublished
from server.relay.line import HeadquartersLine, LineSettings, Outlook
from server.relay.line_clock import KeptClock, LineClock
from server.relay.line_queue import id_of

KEY = b"k" * 32
CREDENTIAL = RelayCredential("net", "store", "R-1", 1, KEY)
CARD = Card(CardKind.EAN13, "2000000000015")
LIMITS = LineLimits(8, 3, 1_000, 60_000, 5_000, 60_000)
PROMPT = LineSettings(silence_ms=400, grace_ms=200)
PATIENT = LineSettings(silence_ms=60_000, grace_ms=60_000)
APPROVED = encode_body(Outcome.APPROVED, 5, 0, None)
DECLINED = encode_body(Outcome.INSUFFICIENT, 0, 0, None)


def redeem(request_id: bytes | None = None, **fields: object) -> RequestItem:
    request = RedeemRequest(request_id or os.urandom(16), 0, CARD, 5, Receipt(100, "EUR", "1"))
    return RequestItem("T-1", encode(request)[LENGTH_BYTES:], **fields)  # type: ignore[arg-type]


def balance() -> RequestItem:
    return RequestItem("T-1", encode(BalanceRequest(os.urandom(16), 0, CARD))[LENGTH_BYTES:])


def approval(item: RequestItem) -> ReplyItem:
    return ReplyItem(item.terminal, answer_frame(id_of(item.message), False, APPROVED)[LENGTH_BYTES:])


def decline(item: RequestItem) -> ReplyItem:
    return ReplyItem(item.terminal, answer_frame(id_of(item.message), False, DECLINED)[LENGTH_BYTES:])


def error(item: RequestItem, code: int) -> ReplyItem:
    return ReplyItem(item.terminal, error_frame(id_of(item.message), code, "", 0)[LENGTH_BYTES:])


class LineRig:
    """The line under test is `line`; this is its broker and, behind it, its bridge.

    A test sets `deaf` (nothing arrives), `mute` (no answer to HELLO), `unheard` (the broker says that nobody listens),
    `backlog_unheard` (only to the topic of backlogs), `forbidden` (the broker refuses what is published),
    `acknowledging` (False: the broker acknowledges when `acknowledge` is called), and answers items itself.
    """

    def __init__(self, settings: LineSettings = PATIENT, limits: LineLimits = LIMITS) -> None:
        self.limits = limits
        self.connected = False
        self.reason = "refused"
        self.deaf = self.mute = self.unheard = self.backlog_unheard = self.forbidden = False
        self.acknowledging = True
        self.silent = False
        self.server_ahead_ms = 0
        self.roster_version = 0
        self.taken: list[Roster] = []
        self.kept: list[KeptClock] = []
        self.hellos: list[Hello] = []
        self.session: BridgeSession | None = None
        self.publications: list[list[RequestItem]] = []
        self.reports = 0
        self.queries: list[int] = []
        self.payloads: list[bytes] = []
        #: The last part of each topic that was published to.
        self.topics: list[str] = []
        self.sent_down: list[bytes] = []
        self.came_up = 0
        self._unacknowledged: list[asyncio.Future[bool]] = []
        self.clock = LineClock(SystemClock(), None, self.kept.append)
        outlook = Outlook(lambda: Report(0, 0, 0, 0), self._version, self._take_roster, self._up)
        dice = Random(1)  # noqa: S311
        self.line = HeadquartersLine(CREDENTIAL, "test", settings, outlook, self.clock, os.urandom, dice)
        self.line.use(self)
        self._known_version = 0
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self.line.run())
        self.connect()
        await until(lambda: self.line.up)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def _version(self) -> int:
        return self._known_version

    def _take_roster(self, roster: Roster) -> None:
        self.taken.append(roster)
        self._known_version = roster.version

    def _up(self) -> None:
        self.came_up += 1

    # The broker.

    def connect(self) -> None:
        self.connected = True
        self.line.connection_changed(True)

    def disconnect(self) -> None:
        self.connected = False
        self.session = None
        self.line.connection_changed(False)

    def publish(self, topic: str, payload: bytes, **_: object) -> asyncio.Future[bool]:
        if not self.connected:
            raise NotConnected("not connected")
        if len(self._unacknowledged) >= 64:
            raise Congested("too many")
        self.topics.append(topic.rsplit("/", 1)[-1])
        unheard = self.unheard or (self.backlog_unheard and topic.endswith(BACKLOG_SUFFIX))
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if self.acknowledging:
            if self.forbidden:
                done.set_exception(NotPublished("not authorized"))
            else:
                done.set_result(not unheard)
        else:
            self._unacknowledged.append(done)
        if not self.deaf and not unheard:
            asyncio.get_running_loop().call_soon(self.arrive, payload)
        return done

    def acknowledge(self) -> None:
        for done in self._unacknowledged:
            done.set_result(True)
        self._unacknowledged.clear()

    # The bridge.

    def now_ms(self) -> int:
        return SystemClock().now_ms() + self.server_ahead_ms

    def arrive(self, payload: bytes) -> None:
        self.payloads.append(payload)
        publication = read_publication(payload)
        if isinstance(publication, Hello):
            self.hellos.append(publication)
            if not self.mute:
                self.session = BridgeSession(publication, KEY, CREDENTIAL.topic, os.urandom)
                self.down(self.session.welcome("b1", self.now_ms(), self.limits))
        elif isinstance(publication, Data) and self.session is not None:
            try:
                _, items = self.session.open(publication)
            except Repeated:
                return
            requests = [item for item in items if isinstance(item, RequestItem)]
            if requests:
                self.publications.append(requests)
            self.reports += sum(isinstance(item, Report) for item in items)
            self.queries += [item.known_version for item in items if isinstance(item, RosterQuery)]
            if not self.silent and len(items) > len(requests):
                self.say()

    def say(self, *items: DownItem) -> None:
        assert self.session is not None
        self.down(self.session.close(list(items), self.now_ms(), self.roster_version))

    def down(self, payload: bytes) -> None:
        self.sent_down.append(payload)
        self.line.received(Message(self.line.answer_topic, payload, None, None))

    def goodbye(self, about: bytes, reason: int) -> None:
        self.down(write_publication(Goodbye(about, reason, "")))

    @property
    def asked(self) -> list[RequestItem]:
        return [item for publication in self.publications for item in publication]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.002)
