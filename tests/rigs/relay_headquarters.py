"""Headquarters as a relay sees it, as a model: accounts in memory, idempotent by request id; and a line that can fail.

The model says what must be true of any headquarters that keeps SPEC.md; that the real one does is proved elsewhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from protocol.answers import Balance, encode_body, hold_detail
from protocol.codes import ErrorCode, Message, Outcome
from protocol.messages import answer_frame, decode, error_frame
from protocol.relay_messages import LineLimits, ReplyItem, RequestItem
from protocol.requests import Request, fingerprint
from server.relay.asking import LineDown, NoReply

LIMITS = LineLimits(
    in_flight_max=256, backlog_in_flight_max=16, backlog_per_s_max=5_000, heartbeat_ms=1_000,
    ttl_default_ms=5_000, ttl_max_ms=60_000,
)  # fmt: skip
NOW_MS = 1_800_000_000_000
HOLD_MS = 4 * 86_400_000


@dataclass
class Headquarters:
    balances: dict[str, int] = field(default_factory=dict)
    held: dict[bytes, tuple[str, int]] = field(default_factory=dict)
    answers: dict[bytes, tuple[bytes, bytes]] = field(default_factory=dict)
    closed: set[bytes] = field(default_factory=set)
    #: Effects in their order: token, operation, request.
    journal: list[tuple[str, int, bytes]] = field(default_factory=list)
    unknown: set[str] = field(default_factory=set)
    lowest: int = 0
    now_ms: int = NOW_MS
    #: Most points that a relay may reserve; a HOLD for more is refused unread, even a copy.
    lends_max: int = 500
    asked: list[RequestItem] = field(default_factory=list)
    conflicts: list[bytes] = field(default_factory=list)

    def answer(self, item: RequestItem) -> ReplyItem:
        self.asked.append(item)
        request: Any = decode(item.message)
        assert isinstance(request, Request)
        if request.op == Message.HOLD and item.terminal.startswith("relay") and request.points > self.lends_max:
            return self._error(item, request, ErrorCode.MALFORMED)
        print_ = fingerprint(request, item.terminal)
        known = self.answers.get(request.request_id)
        if known is not None:
            if known[0] != print_:
                return self._error(item, request, ErrorCode.ID_REUSED)
            return self._reply(item, request, known[1], replayed=True)
        outcome, points, earned = self._decide(item, request)
        detail = hold_detail(self.now_ms + HOLD_MS) if request.op == Message.HOLD and outcome <= 1 else b"\xc0"
        token = request.card.token
        held = sum(points for owner, points in self.held.values() if owner == token)
        balance = None if token in self.unknown else Balance(self.balances.get(token, 0), held, 0, 0, 0, 0)
        body = encode_body(outcome, points, earned, balance, (), detail)
        if outcome <= Outcome.APPROVED_PARTIAL and request.op not in (Message.BALANCE, Message.STATUS):
            self.answers[request.request_id] = print_, body
            self.journal.append((token, int(request.op), request.request_id))
        elif outcome > Outcome.APPROVED_PARTIAL and item.sale_ms is not None:
            self.conflicts.append(request.request_id)
        return self._reply(item, request, body, replayed=False)

    def _reply(self, item: RequestItem, request: Request, body: bytes, *, replayed: bool) -> ReplyItem:
        return ReplyItem(item.terminal, answer_frame(request.request_id, replayed, body)[4:])

    def _error(self, item: RequestItem, request: Request, code: ErrorCode) -> ReplyItem:
        return ReplyItem(item.terminal, error_frame(request.request_id, int(code), code.name)[4:])

    def _decide(self, item: RequestItem, request: Any) -> tuple[int, int, int]:
        token = request.card.token
        if token is None:
            return Outcome.BAD_CARD, 0, 0
        if token in self.unknown:
            return Outcome.UNKNOWN_CARD, 0, 0
        if request.request_id in self.closed:
            return Outcome.REVERSED, 0, 0
        match request.op:
            case Message.EARN:
                return self._move(request, 0, request.receipt.amount // 10)
            case Message.SALE:
                return self._move(request, request.points, (request.receipt.amount - request.points) // 10)
            case Message.REDEEM if item.hold_id is not None:
                return self._capture(request, item.hold_id)
            case Message.REDEEM:
                return self._move(request, request.points, 0)
            case Message.HOLD:
                points = min(request.points, self.balances.get(token, 0))
                if not points:
                    return Outcome.INSUFFICIENT, 0, 0
                self.held[request.request_id] = token, points
                self.balances[token] -= points
                return Outcome.APPROVED if points == request.points else Outcome.APPROVED_PARTIAL, points, 0
            case Message.RELEASE:
                if request.hold_id not in self.held:
                    return Outcome.HOLD_UNKNOWN, 0, 0
                _, points = self.held.pop(request.hold_id)
                self.balances[token] += points
                return Outcome.APPROVED, points, 0
            case Message.REVERSE:
                return self._reverse(request)
        return Outcome.APPROVED, 0, 0

    def _move(self, request: Any, spent: int, earned: int) -> tuple[int, int, int]:
        token = request.card.token
        if spent > self.balances.get(token, 0):
            return Outcome.INSUFFICIENT, 0, 0
        self.balances[token] = self.balances.get(token, 0) - spent + earned
        self.lowest = min(self.lowest, self.balances[token])
        return Outcome.APPROVED, spent, earned

    def _capture(self, request: Any, hold_id: bytes) -> tuple[int, int, int]:
        token, points = self.held.get(hold_id, ("", 0))
        if token != request.card.token:
            return Outcome.HOLD_UNKNOWN, 0, 0
        if request.points > points:
            return Outcome.CAPTURE_EXCEEDS, 0, 0
        del self.held[hold_id]
        self.balances[token] += points - request.points
        return Outcome.APPROVED, request.points, 0

    def _reverse(self, request: Any) -> tuple[int, int, int]:
        original, token = request.original_id, request.card.token
        if original in self.closed:
            return Outcome.APPROVED, 0, 0
        self.closed.add(original)
        if original not in self.answers:
            return Outcome.APPROVED, 0, 0
        body = decode(answer_frame(original, False, self.answers[original][1])[4:]).answer  # type: ignore[union-attr]
        self.balances[token] = self.balances.get(token, 0) + body.points - body.earned
        return Outcome.APPROVED, body.points, -body.earned


class ModelLine:
    """`server.relay.asking.Line` to a model; what becomes of each request is drawn while the line is `lossy`."""

    def __init__(self, headquarters: Headquarters, random: Random | None = None) -> None:
        self.headquarters = headquarters
        self.limits: LineLimits | None = LIMITS
        self.up = True
        self.lossy = False
        self.knows_time = True
        self.silent = False
        self.late: list[RequestItem] = []
        self.before: Callable[[RequestItem], None] = lambda _: None
        self._random = random or Random(0)  # noqa: S311 - must be repeatable

    def server_now_ms(self) -> int | None:
        return self.headquarters.now_ms if self.knows_time else None

    async def ask(self, item: RequestItem, timeout_s: float) -> ReplyItem:
        if not self.up:
            raise LineDown
        self.before(item)
        if self.silent:
            raise NoReply
        if not self.lossy:
            # A request leaves in the turn in which it is asked, its answer comes in a later one.
            reply = self.headquarters.answer(item)
            await asyncio.sleep(0)
            return reply
        return await self._ask_lossy(item)

    def post(self, item: RequestItem, timeout_s: float) -> asyncio.Future[ReplyItem]:
        return asyncio.ensure_future(self.ask(item, timeout_s))

    async def _ask_lossy(self, item: RequestItem) -> ReplyItem:
        fate = self._random.random()
        for _ in range(self._random.randrange(3)):
            await asyncio.sleep(0)
        if not self.up or fate < 0.1:
            raise LineDown
        if fate < 0.2:
            raise NoReply
        if fate < 0.3 and not item.terminal.startswith("relay"):
            # A slow broker: it arrives after nobody waits for it any more. Of what the relay asks for itself no other
            # copy is sent before the deadline of the first is over.
            self.late.append(item)
            raise NoReply
        if fate < 0.4:
            self.headquarters.answer(item)
            raise NoReply
        if fate < 0.5:
            code = self._random.choice([ErrorCode.BUSY, ErrorCode.UNAVAILABLE, ErrorCode.EXPIRED])
            request: Any = decode(item.message)
            return ReplyItem(item.terminal, error_frame(request.request_id, int(code), "", 0)[4:])
        reply = self.headquarters.answer(item)
        for _ in range(self._random.randrange(3)):
            await asyncio.sleep(0)
        if fate < 0.55:
            # QoS 1: the same publication once more.
            self.headquarters.answer(item)
        return reply

    def deliver_late(self) -> None:
        while self.late:
            self.headquarters.answer(self.late.pop(self._random.randrange(len(self.late))))
