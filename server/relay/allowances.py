"""Points that headquarters set aside for cards of this store, so that they may be spent while it cannot be asked.

An allowance is a hold of the relay's own. Its row is on the disk before the HOLD leaves, and says RELEASING before the
RELEASE does: so at no moment does the store believe in points that headquarters may have given to somebody else. A
RELEASE is sent only after the HOLD was answered, or it could overtake it and leave a hold that nobody knows.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from functools import partial
from hashlib import blake2b
from typing import Any, Final, NamedTuple

from protocol.codes import ErrorCode
from protocol.fields import DecodeError
from protocol.messages import AnswerMessage, ErrorMessage, decode, encode
from protocol.relay_messages import ReplyItem, RequestItem, Roster
from protocol.request_ids import request_id_at
from protocol.requests import Card, HoldRequest, Receipt, ReleaseRequest, Request
from server.observation.logs import get_log
from server.relay.asking import Line, LineDown, NoReply
from server.relay.offline import canonical_card
from server.relay.store import Store
from server.relay.store_errors import StoreFailed, StoreFull
from server.relay.store_rows import Allowance, AllowanceState

UNDER_WAY_MAX: Final = 8
"""Holds and releases that are asked for at one time."""

_TTL_MS: Final = 5_000
_TIMEOUT_S: Final = 6.0
_PATIENCE_S: Final = 1.0
"""How long a register's request waits for a HOLD or RELEASE of its card that is under way."""
_GATHER_S: Final = 0.02
"""How long what is wanted gathers before all allowances are looked through for it."""
_LOOK_EVERY_S: Final = 5.0
_KEEP_TIME_EVERY_MS: Final = 10_000
_LENGTH_BYTES: Final = 4
_SEEN: Final = "headquarters' time"
_ID_BYTES: Final = 16
# Of such a copy nothing is to be hoped any more, whatever is sent again.
_HOPELESS: Final = frozenset({int(ErrorCode.MALFORMED), int(ErrorCode.UNSUPPORTED), int(ErrorCode.ID_REUSED)})

_log = get_log("allowances")

Work = Callable[[], Coroutine[Any, Any, None]]


class Release(NamedTuple):
    """A RELEASE that may leave: that it does is on the disk."""

    card: bytes
    hold_id: bytes
    item: RequestItem


class Allowances:
    """All allowances of the store, by the hash of the card; what the file says, and what is under way."""

    def __init__(
        self,
        store: Store,
        line: Line,
        roster: Callable[[], Roster | None],
        code: str,
        random_bytes: Callable[[int], bytes],
        allowances_max: int,
    ) -> None:
        """Take the relay's own code, as which it asks; what the store has is taken over."""
        self._store = store
        self._line = line
        self._roster = roster
        self._code = code
        self._random_bytes = random_bytes
        self._allowances_max = allowances_max
        self._of = {each.card: each for each in store.loaded_allowances}
        self._wanted: dict[bytes, str] = {}
        self._under_way: dict[bytes, asyncio.Task[None]] = {}
        self._look = asyncio.Event()
        kept = store.kept(_SEEN)
        self._seen_ms = self._kept_ms = 0 if kept is None else int.from_bytes(kept)

    @property
    def count(self) -> int:
        """How many there are, whatever their state."""
        return len(self._of)

    def trusted_now_ms(self) -> int | None:
        """Return headquarters' time, None while it is not known or runs behind what was heard of it before."""
        now_ms = self._line.server_now_ms()
        if now_ms is None:
            return None
        if self._line.up:
            self._seen_ms = now_ms
        return now_ms if now_ms >= self._seen_ms else None

    # What the desk asks.

    def of(self, card: bytes) -> Allowance | None:
        """Return a card's allowance, whatever its state."""
        return self._of.get(card)

    def claim(self, allowance: Allowance) -> None:
        """Give it to one redemption; the store does the same when it takes that."""
        self._of[allowance.card] = allowance._replace(state=AllowanceState.SPENT)

    def unclaim(self, allowance: Allowance) -> None:
        """Take a claim back, because the redemption was not stored."""
        self._of[allowance.card] = allowance

    def want(self, card: bytes, token: str) -> None:
        """Ask for an allowance soon, if the card has none and the operators gave leave."""
        roster = self._roster()
        room = len(self._of) + len(self._wanted) < self._allowances_max
        if roster is not None and roster.allowance_points and room and card not in self._of:
            self._wanted[card] = token
            self._look.set()

    async def release_before(self, card: bytes) -> Release | None:
        """Return the RELEASE that must go to headquarters before something else is asked of this card's points.

        None if nothing is set aside, or what is set aside cannot be let go now. Then call `released` with the reply.
        """
        self._wanted.pop(card, None)
        task = self._under_way.get(card)
        if task is not None:
            await asyncio.wait((task,), timeout=_PATIENCE_S)
        allowance = self._of.get(card)
        if allowance is None or allowance.state not in (AllowanceState.GRANTED, AllowanceState.RELEASING):
            return None
        try:
            there = await self._change(allowance._replace(state=AllowanceState.RELEASING))
        except (StoreFailed, StoreFull):
            return None
        return self._release(allowance) if there else None

    async def released(self, release: Release, reply: ReplyItem) -> None:
        """Take the answer to what `release_before` gave: any decision means that nothing is set aside any more."""
        if self._is_there(release.card, release.hold_id) and _decided(reply) is not None:
            await self._drop(self._of[release.card])

    # What the backlog tells.

    def settled(self, hold_id: bytes, release: bool) -> None:
        """Take note that the redemption out of an allowance is with headquarters; the store knows it already."""
        for allowance in [each for each in self._of.values() if each.hold_id == hold_id]:
            if release:
                self._of[allowance.card] = allowance._replace(state=AllowanceState.RELEASING)
                self._look.set()
            else:
                del self._of[allowance.card]

    # In the background.

    async def run(self) -> None:
        """Ask for what is wanted, let go of what is over, until cancelled."""
        try:
            while True:
                if self._line.up:
                    self._begin()
                await self._keep_time()
                self._look.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_EVERY_S):
                        await self._look.wait()
                await asyncio.sleep(_GATHER_S)
        finally:
            for task in self._under_way.values():
                task.cancel()
            await asyncio.gather(*self._under_way.values(), return_exceptions=True)

    def _begin(self) -> None:
        now_ms = self.trusted_now_ms()
        roster = self._roster()
        if now_ms is None or roster is None:
            return
        for card, allowance in list(self._of.items()):
            over = allowance.until_ms <= now_ms or now_ms < allowance.from_ms or not roster.allowance_points
            if allowance.state is AllowanceState.ASKED:
                self._start(card, partial(self._hold, allowance))
            elif allowance.state is AllowanceState.RELEASING or (over and allowance.state is AllowanceState.GRANTED):
                self._start(card, partial(self._let_go, allowance))
        if not roster.allowance_points:
            self._wanted.clear()
        for card, token in list(self._wanted.items()):
            if self._start(card, partial(self._ask, card, token, now_ms, roster)):
                del self._wanted[card]

    def _start(self, card: bytes, work: Work) -> bool:
        if card in self._under_way or len(self._under_way) >= UNDER_WAY_MAX:
            return False
        task = self._under_way[card] = asyncio.get_running_loop().create_task(_quietly(work), name="allowance")
        task.add_done_callback(lambda _: self._ended(card))
        return True

    def _ended(self, card: bytes) -> None:
        del self._under_way[card]
        if self._wanted:
            self._look.set()

    async def _ask(self, card: bytes, token: str, now_ms: int, roster: Roster) -> None:
        shown = canonical_card(token)
        hold_id = request_id_at(now_ms, self._random_bytes)
        until_ms = now_ms + roster.allowance_ms
        kind, value = shown.wire()
        asked = Allowance(
            card, hold_id, int(kind), value, AllowanceState.ASKED, roster.allowance_points, now_ms, until_ms
        )
        await self._store.add_allowance(asked)
        self._of[card] = asked
        await self._hold(asked)

    async def _hold(self, asked: Allowance) -> None:
        """Send the HOLD; in doubt it is sent again, until headquarters has decided."""
        currency = "" if (roster := self._roster()) is None else roster.currency
        hold = HoldRequest(
            asked.hold_id, _TTL_MS, Card(asked.kind, asked.value), asked.points, Receipt(0, currency), True
        )
        try:
            decided = _decided(await self._line.ask(self._item(hold), _TIMEOUT_S))
        except NoReply:
            # Until this copy's deadline is over no other one may be declined, or this one could be approved after it.
            await asyncio.sleep(_TTL_MS / 1_000)
            return
        if decided is None:
            return
        if isinstance(decided, ErrorMessage):
            # Headquarters looked no further, so an earlier copy may have taken effect; as when leave was withdrawn.
            await self._let_go(asked)
        elif decided.answer.approved:
            granted = asked._replace(state=AllowanceState.GRANTED, points=decided.answer.points)
            # It may have been answered long after it was asked for.
            await self._change(granted._replace(until_ms=min(asked.until_ms, decided.answer.hold_until_ms)))
        else:
            await self._drop(asked)

    async def _let_go(self, allowance: Allowance) -> None:
        if self._of.get(allowance.card) != allowance:
            # The line was lost in this very moment, and a redemption has it.
            return
        if await self._change(allowance._replace(state=AllowanceState.RELEASING)):
            release = self._release(allowance)
            await self.released(release, await self._line.ask(release.item, _TIMEOUT_S))

    def _release(self, allowance: Allowance) -> Release:
        # The id follows from the hold's, so that a RELEASE sent again is the same request.
        release_id = blake2b(allowance.hold_id, digest_size=_ID_BYTES, person=b"release").digest()
        card = Card(allowance.kind, allowance.value)
        item = self._item(ReleaseRequest(release_id, _TTL_MS, card, allowance.hold_id))
        return Release(allowance.card, allowance.hold_id, item)

    def _item(self, request: Request) -> RequestItem:
        return RequestItem(self._code, encode(request)[_LENGTH_BYTES:])

    async def _change(self, allowance: Allowance) -> bool:
        """Write it, then believe it; False if it is gone. What may no more be spent is not believed in from now on."""
        if allowance.state is AllowanceState.RELEASING:
            self._believe(allowance)
        there = await self._store.change_allowance(allowance)
        if there:
            self._believe(allowance)
        return there

    def _believe(self, allowance: Allowance) -> None:
        if self._is_there(allowance.card, allowance.hold_id):
            self._of[allowance.card] = allowance

    def _is_there(self, card: bytes, hold_id: bytes) -> bool:
        # Two may be about the same one, and the card have another one by now.
        known = self._of.get(card)
        return known is not None and known.hold_id == hold_id

    async def _drop(self, allowance: Allowance) -> None:
        await self._store.drop_allowance(allowance.hold_id)
        if self._is_there(allowance.card, allowance.hold_id):
            del self._of[allowance.card]

    async def _keep_time(self) -> None:
        """Note how late it is at headquarters, so that a clock set back across a restart is seen, on line or off."""
        now_ms = self.trusted_now_ms()
        if now_ms is not None:
            self._seen_ms = now_ms
        if not self._of or abs(self._seen_ms - self._kept_ms) < _KEEP_TIME_EVERY_MS:
            return
        with contextlib.suppress(StoreFailed, StoreFull):
            await self._store.keep(_SEEN, self._seen_ms.to_bytes(8))
            self._kept_ms = self._seen_ms


def _decided(reply: ReplyItem) -> AnswerMessage | ErrorMessage | None:
    """Return headquarters' last word, None if the same must be asked again."""
    try:
        message = decode(reply.message)
    except DecodeError:
        return None
    if isinstance(message, AnswerMessage) or (isinstance(message, ErrorMessage) and message.code in _HOPELESS):
        return message
    return None


async def _quietly(work: Work) -> None:
    """Run one task in the background: what fails is looked at again at the next turn."""
    try:
        await work()
    except (LineDown, NoReply, StoreFailed, StoreFull):
        return
    except Exception as error:  # noqa: BLE001 - a bug in one allowance must not end the others
        _log.error("allowance failed", reason=repr(error))
