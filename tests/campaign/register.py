"""One register of the fleet: it makes up requests, insists on answers, and doubles and takes back at random."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from protocol.codes import BlockReason, Message
from protocol.requests import (
    ActivateRequest,
    BalanceRequest,
    BlockRequest,
    CaptureRequest,
    Card,
    EarnRequest,
    HoldRequest,
    Receipt,
    RedeemRequest,
    RefundRequest,
    ReleaseRequest,
    ReplaceRequest,
    Request,
    ReverseRequest,
    SaleRequest,
    StatusRequest,
)
from protocol.retry import GivingUp, has_effect
from protocol.ticket import InDoubt, NoAnswer, Refused, Rejected, Reply
from tests.campaign.noted_client import NotedClient

HOLD_MS_MAX = 3_000
_PATIENCE_MS = 60_000
_HASTE_MS = (50, 1_500)
_PAUSE_S = 0.1
_REMEMBERED = 40
_HOT_SHARE = 0.6
_SALT_BITS = 128


@dataclass
class Till:
    """What all registers share in a round: the cards, and the requests that may be taken back."""

    hot: list[Card]
    cool: list[Card]
    changing: list[Card]
    spare: list[Card]
    think_s: float
    ending: bool = False
    approved: dict[Card, deque[Request]] = field(default_factory=lambda: defaultdict(lambda: deque(maxlen=_REMEMBERED)))
    rejected: int = 0


class FleetRegister:
    """A terminal with one connection, or two of which the second is for copies."""

    def __init__(self, code: str, client: NotedClient, twin: NotedClient | None) -> None:
        self.code, self.client = code, client
        self._twin = twin
        self._till: Till
        self._dice: random.Random

    async def work(self, till: Till, dice: random.Random) -> None:
        """Ask one thing after the other until the round ends; returns when each has its final answer."""
        self._till, self._dice = till, dice
        await asyncio.sleep(dice.random() * till.think_s)
        while not till.ending:
            await self._one()
            await asyncio.sleep(dice.expovariate(1 / till.think_s))

    async def _one(self) -> None:
        request, way = self._make(), self._dice.random()
        if way < 0.55:
            await self._settle(self.client, request)
        elif way < 0.65:
            await self._settle(self.client, request)
            await self._settle(self._other(), request)
        elif way < 0.78:
            await self._twice_at_once(request)
        elif way < 0.88 and has_effect(request) and not isinstance(request, ReverseRequest):
            await self._take_back(request)
        else:
            await self._hasty(request)

    def _other(self) -> NotedClient:
        return self._twin or self.client

    async def _twice_at_once(self, request: Request) -> None:
        """Send two copies at once. When they were told differently, the one that came too early is asked again."""
        if self._twin is None:
            await self._settle(self.client, request)
            return
        copies = await asyncio.gather(self._settle(self.client, request), self._settle(self._twin, request))
        if len({copy.outcome for copy in copies if copy is not None}) > 1:
            await self._settle(self.client, request)

    async def _take_back(self, request: Request) -> None:
        """Reverse it at a random moment: before it is decided, meanwhile, or afterwards."""
        asked = asyncio.create_task(self._settle(self.client, request))
        await asyncio.sleep(self._dice.random() * 0.02)
        await self._settle(self._other(), self._reversal(request.card, request.request_id))
        await asked

    async def _hasty(self, request: Request) -> None:
        """Ask as a customer waits who does not wait for long: the client then does what SPEC.md says."""
        patience_ms = self._dice.randrange(*_HASTE_MS)
        try:
            reply = await self.client.request(request, patience_ms=patience_ms)
        except InDoubt as doubt:
            if doubt.reversal_id is None:
                await self._settle(self.client, request)
                return
            self._give_up(request)
            await self._settle(self.client, ReverseRequest(doubt.reversal_id, 0, request.card, request.request_id))
        except NoAnswer:
            self._give_up(request)
        except Refused as refused:
            if refused.final:
                return
            self._give_up(request)
        else:
            if reply.reversal_id is not None:
                self._give_up(request)

    async def _settle(self, client: NotedClient, request: Request) -> Reply | None:
        """Send a request until it is answered. A question that nobody answers is dropped."""
        while True:
            try:
                reply = await client.request(request, giving_up=GivingUp.KEEP, patience_ms=_PATIENCE_MS)
            except Refused as refused:
                if refused.final:
                    return None
            except Rejected:
                self._till.rejected += 1
                await asyncio.sleep(_PAUSE_S * 10)
            except (NoAnswer, InDoubt):
                pass
            except ValueError:
                # Another copy of it is still under way on this connection.
                await asyncio.sleep(_PAUSE_S)
                continue
            else:
                if reply.approved:
                    self._till.approved[request.card].append(request)
                return reply
            if not has_effect(request):
                self._give_up(request)
                return None
            await asyncio.sleep(_PAUSE_S)

    def _give_up(self, request: Request) -> None:
        self.client.gave_up(request)

    def _id(self) -> bytes:
        return self._dice.getrandbits(_SALT_BITS).to_bytes(16, "big")

    def _make(self) -> Request:
        till, dice = self._till, self._dice
        if dice.random() < 0.03:
            return self._change_of_card()
        card = dice.choice(till.hot if dice.random() < _HOT_SHARE else till.cool)
        made: list[tuple[int, Callable[[Card], Request]]] = [
            (16, self._earn),
            (26, self._redeem),
            (8, self._sale),
            (14, self._hold),
            (8, self._capture),
            (4, self._release),
            (8, self._refund),
            (6, lambda card: self._reversal(card, self._earlier(card))),
            (4, lambda card: StatusRequest(self._id(), 0, card, self._earlier(card))),
            (6, lambda card: BalanceRequest(self._id(), 0, card)),
        ]
        return dice.choices([make for _, make in made], [weight for weight, _ in made])[0](card)

    def _receipt(self, amount: int) -> Receipt:
        return Receipt(amount, "EUR", self.code)

    def _earlier(self, card: Card, *ops: Message) -> bytes:
        """Return the id of something approved on the card, or of nothing at all."""
        known = [request.request_id for request in self._till.approved[card] if not ops or request.op in ops]
        return self._dice.choice(known) if known else self._id()

    def _earn(self, card: Card) -> Request:
        # What the registers' clock says: the server's may be wrong, and an advice must not be declined for that.
        offline = self._dice.random() < 0.3
        return EarnRequest(self._id(), 0, card, self._receipt(self._dice.randrange(10, 200)), None, 1, offline)

    def _redeem(self, card: Card) -> Request:
        partial = self._dice.random() < 0.3
        return RedeemRequest(self._id(), 0, card, self._dice.randrange(1, 300), self._receipt(0), partial)

    def _sale(self, card: Card) -> Request:
        receipt = self._receipt(self._dice.randrange(1, 200))
        return SaleRequest(self._id(), 0, card, receipt, self._dice.randrange(100), True, None)

    def _hold(self, card: Card) -> Request:
        hold_ms = self._dice.randrange(300, HOLD_MS_MAX)
        points, partial = self._dice.randrange(1, 200), self._dice.random() < 0.5
        return HoldRequest(self._id(), 0, card, points, self._receipt(500), partial, hold_ms)

    def _capture(self, card: Card) -> Request:
        points = self._dice.choice((0, 0, 1, 50))
        return CaptureRequest(self._id(), 0, card, self._earlier(card, Message.HOLD), points, self._receipt(300))

    def _release(self, card: Card) -> Request:
        return ReleaseRequest(self._id(), 0, card, self._earlier(card, Message.HOLD))

    def _refund(self, card: Card) -> Request:
        original = self._earlier(card, Message.REDEEM, Message.CAPTURE, Message.SALE, Message.EARN)
        return RefundRequest(self._id(), 0, card, original, self._receipt(self._dice.choice((0, 1, 30))))

    def _reversal(self, card: Card, original_id: bytes) -> Request:
        return ReverseRequest(self._id(), 0, card, original_id)

    def _change_of_card(self) -> Request:
        till, dice = self._till, self._dice
        way = dice.random()
        if way < 0.4:
            return ActivateRequest(self._id(), 0, dice.choice(till.spare))
        if way < 0.6:
            return BlockRequest(self._id(), 0, dice.choice(till.changing), BlockReason.LOST)
        return ReplaceRequest(self._id(), 0, dice.choice(till.changing), dice.choice(till.spare))
