"""What becomes of one register's request at a relay: asked of headquarters, answered here, or refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from protocol.answers import encode_body, status_detail
from protocol.codes import ErrorCode, Message, Outcome, StatusState
from protocol.fields import DecodeError
from protocol.messages import AnswerMessage, ErrorMessage, decode
from protocol.relay_messages import ReplyItem, RequestItem, Roster, RosterTerminal
from protocol.requests import Request, fingerprint
from server.observation.logs import get_log
from server.registers.dispatch import Moment
from server.registers.pending import Sender
from server.relay.allowances import Allowances, Release
from server.relay.asking import Line, LineDown, NoReply
from server.relay.balances import Balances
from server.relay.desk_memory import DeskMemory, Heard
from server.relay.offline import Alone, Approved, Refused, Told, decide, declined, is_advice, stored_message
from server.relay.store import Store
from server.relay.store_errors import StoreFailed, StoreFull
from server.relay.store_rows import Advice

_SPENDING: Final = frozenset({int(Message.REDEEM), int(Message.HOLD), int(Message.SALE)})
_READING: Final = frozenset({int(Message.BALANCE), int(Message.STATUS)})
_REVERSIBLE: Final = _SPENDING | {int(Message.CAPTURE), int(Message.EARN), int(Message.REFUND)}
_BUSY_TEXT: Final = "too much under way, not executed"
_DOUBT_TEXT: Final = "not known whether it was executed: retry with the same id, reverse it, or ask for its status"
_WAITS_TEXT: Final = "the request that it names still waits to be sent to headquarters, not executed"
_REUSED_TEXT: Final = "this request id was used for another request"

_log = get_log("relay desk")


class DeskLimits(NamedTuple):
    """What bounds a relay's desk."""

    #: Requests under way at one time; more are refused as BUSY.
    under_way_max: int = 4_096
    #: How long headquarters is waited for, at most the request's own time to live.
    answer_timeout_ms: int = 5_000
    #: What a refused register is asked to wait.
    busy_retry_after_ms: int = 200
    #: Most points or money in a field of a request.
    amount_max: int = 100_000_000_000


class _Asked:
    """One request under way. It is answered once, whatever happens later."""

    __slots__ = ("answered", "at", "card", "request", "sender", "terminal")

    def __init__(self, request: Request, terminal: RosterTerminal, sender: Sender, at: Moment, card: bytes) -> None:
        self.request = request
        self.terminal = terminal
        self.sender = sender
        self.at = at
        self.card = card
        self.answered = False

    @property
    def fingerprint(self) -> bytes:
        return fingerprint(self.request, self.terminal.code)

    def answer(self, body: bytes, *, replayed: bool = False) -> None:
        self.answered = True
        self.sender.send_answer(self.request.request_id, replayed, body)

    def refuse(self, code: int, text: str, retry_after_ms: int = 0) -> None:
        self.answered = True
        self.sender.send_error(self.request.request_id, code, text, retry_after_ms)


class Desk:
    """Takes the requests of all registers of the store. Never blocks, never raises for bad input."""

    def __init__(
        self,
        store: Store,
        line: Line,
        roster: Callable[[], Roster | None],
        balances: Balances,
        allowances: Allowances,
        limits: DeskLimits,
    ) -> None:
        self._store = store
        self._line = line
        self._roster = roster
        self._balances = balances
        self._allowances = allowances
        self._limits = limits
        self._tasks: set[asyncio.Task[None]] = set()
        self._last_of: dict[bytes, asyncio.Task[None]] = {}
        self._memory = DeskMemory()
        self._draining = False

    @property
    def under_way(self) -> int:
        """Requests that wait for their answer, and what was asked for their sake."""
        return len(self._tasks)

    async def drain(self) -> None:
        """Return when everything under way is answered; refuse what comes meanwhile as BUSY."""
        self._draining = True
        while self._tasks:
            await asyncio.wait(self._tasks)

    def take(self, request: Request, terminal: RosterTerminal, sender: Sender, at: Moment) -> None:
        """Answer a request through `sender`, exactly once and perhaps much later."""
        if self._draining or len(self._tasks) >= self._limits.under_way_max:
            sender.send_error(request.request_id, int(ErrorCode.BUSY), _BUSY_TEXT, self._limits.busy_retry_after_ms)
            return
        asked = _Asked(request, terminal, sender, at, self._store.hash(request.card.identity))
        request_id = request.request_id
        # Copies of one request one after the other: else one may be answered by headquarters and the other one here.
        task = asyncio.get_running_loop().create_task(
            self._serve(asked, self._last_of.get(request_id)), name="relay request"
        )
        self._last_of[request_id] = task
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._served(request_id, done))

    def _served(self, request_id: bytes, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._last_of.get(request_id) is task:
            del self._last_of[request_id]

    async def _serve(self, asked: _Asked, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait((before,))
        try:
            await self._answer(asked)
        except StoreFull as error:
            self._excuse(asked, ErrorCode.BUSY, f"{error}, not executed")
        except StoreFailed:
            self._excuse(asked, ErrorCode.UNAVAILABLE, _DOUBT_TEXT)
        except Exception as error:  # noqa: BLE001 - a bug in one request must not leave its register without answer
            _log.error("request failed", op=int(asked.request.op), reason=repr(error))
            self._excuse(asked, ErrorCode.UNAVAILABLE, _DOUBT_TEXT)

    def _excuse(self, asked: _Asked, code: ErrorCode, text: str) -> None:
        if asked.answered:
            return
        if code is ErrorCode.BUSY and self._memory.is_doubtful(asked.request.request_id):
            # BUSY says that there was no effect; of this one nobody can say so.
            code, text = ErrorCode.UNAVAILABLE, _DOUBT_TEXT
        asked.refuse(int(code), text, self._limits.busy_retry_after_ms)

    async def _answer(self, asked: _Asked) -> None:
        request: Any = asked.request
        if request.request_id in self._store.known and await self._answer_again(asked):
            return
        reverse_id = self._store.reversed.get((request.request_id, asked.card))
        if int(request.op) in _REVERSIBLE and reverse_id in self._store.queued:
            # Headquarters does not know of the reversal yet and would approve.
            asked.answer(declined(Outcome.REVERSED).body)
            return
        if request.card.token is not None and await self._answer_about_known(asked):
            return
        if self._line.up and await self._ask(asked):
            return
        await self._answer_alone(asked)

    # What the relay has answered before.

    async def _answer_again(self, asked: _Asked) -> bool:
        found = await self._store.remembered(asked.request.request_id)
        if found is None:
            return False
        if found.fingerprint == asked.fingerprint:
            asked.answer(found.body, replayed=True)
        else:
            asked.refuse(int(ErrorCode.ID_REUSED), _REUSED_TEXT)
        return True

    async def _answer_about_known(self, asked: _Asked) -> bool:
        """Answer what names a request that headquarters cannot know yet, or be asked about."""
        request: Any = asked.request
        original_id = getattr(request, "original_id", None)
        if original_id not in self._store.known:
            return False
        waits = original_id in self._store.queued
        if request.op == Message.STATUS:
            return (waits or not self._line.up) and await self._answer_status(asked, original_id)
        if request.op == Message.REVERSE and waits:
            await self._answer_alone(asked)
            return True
        if request.op == Message.REFUND and waits and self._line.up:
            asked.refuse(int(ErrorCode.BUSY), _WAITS_TEXT, self._limits.busy_retry_after_ms)
            return True
        return False

    async def _answer_status(self, asked: _Asked, original_id: bytes) -> bool:
        found = await self._store.remembered(original_id)
        if found is None or found.card != asked.card:
            # Perhaps another card of the same account: only headquarters knows.
            return False
        reversal = (original_id, found.card) in self._store.reversed
        state = StatusState.REVERSED if reversal else StatusState.STANDS
        asked.answer(encode_body(Outcome.APPROVED, 0, 0, None, (), status_detail(state, found.body)))
        return True

    # On line.

    async def _ask(self, asked: _Asked) -> bool:
        """Ask headquarters. False: it was not asked, or of what becomes an advice gave no reply."""
        request: Any = asked.request
        loop = asyncio.get_running_loop()
        release = None
        spends = int(request.op) in _SPENDING and (request.op != Message.SALE or request.points)
        if spends and self._allowances.of(asked.card) is not None:
            first = await self._allowances.release_before(asked.card)
            if first is not None:
                # Tasks begin in the order of their making, so the RELEASE is first in the publication.
                release = loop.create_task(self._let_go(first), name="relay release")
                self._tasks.add(release)
                release.add_done_callback(self._tasks.discard)
        timeout_ms = min(request.ttl_ms or self._limits.answer_timeout_ms, self._limits.answer_timeout_ms)
        item = RequestItem(asked.terminal.code, stored_message(request))
        try:
            if release is None:
                reply = await self._line.ask(item, timeout_ms / 1_000)
            else:
                reply = await loop.create_task(self._line.ask(item, timeout_ms / 1_000), name="relay spending")
        except LineDown:
            return False
        except NoReply:
            return self._doubt(asked)
        message = _read(reply)
        if message is None:
            return self._doubt(asked)
        self._pass_on(asked, message)
        if release is not None:
            await release
        self._learn(asked, message)
        return True

    def _doubt(self, asked: _Asked) -> bool:
        self._memory.doubt(asked.request.request_id)
        if is_advice(asked.request):
            return False
        asked.refuse(int(ErrorCode.UNAVAILABLE), _DOUBT_TEXT)
        return True

    def _pass_on(self, asked: _Asked, message: AnswerMessage | ErrorMessage) -> None:
        if isinstance(message, AnswerMessage):
            asked.answer(message.body, replayed=message.replayed)
        else:
            asked.refuse(message.code, message.text, message.retry_after_ms)

    async def _let_go(self, release: Release) -> None:
        try:
            reply = await self._line.ask(release.item, self._limits.answer_timeout_ms / 1_000)
            await self._allowances.released(release, reply)
        except (LineDown, NoReply, StoreFailed, StoreFull):
            # It stays to be released, and is not believed in.
            return

    def _learn(self, asked: _Asked, message: AnswerMessage | ErrorMessage) -> None:
        """Remember what headquarters' answer says of the card."""
        if not isinstance(message, AnswerMessage):
            return
        self._memory.settle(asked.request.request_id)
        answer, request, card = message.answer, asked.request, asked.card
        if request.op == Message.REVERSE and answer.approved:
            original_id: bytes = request.original_id  # type: ignore[attr-defined]
            self._memory.close(original_id, card)
        if answer.approved and request.op not in _READING:
            self._memory.hear(Heard(request, asked.terminal.code, message.body))
        if answer.balance is None or message.replayed or request.card.token is None:
            return
        now_ms = self._line.server_now_ms()
        if now_ms is not None and not answer.provisional:
            self._balances.note(card, answer.balance, now_ms)
            if answer.balance.available:
                self._allowances.want(card, request.card.token)

    # Off line.

    async def _answer_alone(self, asked: _Asked) -> None:
        request = asked.request
        heard = self._memory.heard(request.request_id)
        if heard is not None:
            if heard.fingerprint == asked.fingerprint:
                asked.answer(heard.body, replayed=True)
            else:
                asked.refuse(int(ErrorCode.ID_REUSED), _REUSED_TEXT)
            return
        pair = (request.request_id, asked.card)
        if int(request.op) in _REVERSIBLE and (pair in self._store.reversed or self._memory.is_closed(*pair)):
            asked.answer(declined(Outcome.REVERSED).body)
            return
        roster = self._roster()
        if roster is None or request.op == Message.STATUS:
            asked.refuse(int(ErrorCode.UNAVAILABLE), _DOUBT_TEXT)
            return
        alone = await self._alone(asked, roster)
        match decide(request, alone, self._limits.amount_max):
            case Refused(code, text):
                asked.refuse(int(code), text)
            case Told(body):
                asked.answer(body)
            case Approved() as approved:
                await self._store_and_answer(asked, approved, alone.time_ms)

    async def _alone(self, asked: _Asked, roster: Roster) -> Alone:
        server_now_ms = self._line.server_now_ms()
        request, allowance, known = asked.request, None, None
        if request.op == Message.BALANCE:
            known = await self._balances.known(asked.card)
        elif request.op == Message.REDEEM:
            server_now_ms = self._allowances.trusted_now_ms()
            # Of one in doubt headquarters may have spent already, perhaps another number of points.
            if not self._memory.is_doubtful(request.request_id):
                allowance = self._allowances.of(asked.card)
        time_ms = asked.at.now_ms if server_now_ms is None else server_now_ms
        return Alone(roster, asked.terminal, time_ms, server_now_ms, known, allowance)

    async def _store_and_answer(self, asked: _Asked, approved: Approved, time_ms: int) -> None:
        request: Any = asked.request
        advice = Advice(
            request.request_id,
            asked.fingerprint,
            int(request.op),
            asked.card,
            asked.terminal.code,
            stored_message(request),
            approved.body,
            approved.sale_ms,
            time_ms,
            target=request.original_id if request.op == Message.REVERSE else None,
            hold_id=approved.hold_id,
        )
        allowance = self._allowances.of(asked.card) if approved.hold_id is not None else None
        if allowance is not None:
            # From now on no other redemption can have it.
            self._allowances.claim(allowance)
        try:
            taken = await self._store.take(advice)
        except BaseException:
            if allowance is not None:
                self._allowances.unclaim(allowance)
            raise
        if not taken.fresh and allowance is not None:
            self._allowances.unclaim(allowance)
        if taken.fingerprint == advice.fingerprint:
            asked.answer(taken.body, replayed=not taken.fresh)
        else:
            asked.refuse(int(ErrorCode.ID_REUSED), _REUSED_TEXT)


def _read(reply: ReplyItem) -> AnswerMessage | ErrorMessage | None:
    try:
        message = decode(reply.message)
    except DecodeError:
        return None
    return message if isinstance(message, AnswerMessage | ErrorMessage) else None
