"""A cash register of the simulation: the product's own client, a cashier who does everything the protocol allows, and
a plug that can be pulled at any time. What it has to keep survives in its store.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random

from protocol.client import Client
from protocol.codes import BlockReason, Outcome
from protocol.requests import (
    ActivateRequest,
    BalanceRequest,
    BlockRequest,
    CaptureRequest,
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
from protocol.retry import GIVING_UP, Backoff, GivingUp, as_advice, has_effect
from protocol.ticket import InDoubt, Refused, Unanswered
from protocol.ticket_book import Timing
from tests.simulator.loop import Loop, Process
from tests.simulator.programme import Till, card
from tests.simulator.tap import Asked, Note, gave_up


def _timing(patience_ms: int) -> Timing:
    return Timing(
        connect_ms=800,
        handshake_ms=1_500,
        answer_margin_ms=300,
        pong_ms=500,
        patience_ms=patience_ms,
        reversal_patience_ms=patience_ms,
        stop_ms=2_000,
        backoff=Backoff(first_ms=50, cap_ms=800),
    )


HOST, PORT = "tillwire", 7411
_DAY_MS = 86_400_000
#: Customers that one register serves at once, now and then.
_QUEUE = 7


class Store:
    """What a register keeps through a power cut."""

    def __init__(self) -> None:
        self.kept: dict[bytes, Request] = {}

    def put(self, request: Request) -> None:
        """Keep a request."""
        self.kept[request.request_id] = request

    def replace(self, original: Request, reversal: Request) -> None:
        """Keep the reversal instead of its original."""
        self.kept.pop(original.request_id, None)
        self.kept[reversal.request_id] = reversal

    def done(self, request_id: bytes) -> None:
        """Forget a request."""
        self.kept.pop(request_id, None)


@dataclass
class Town:
    """What all registers share: the cards, and what was asked for each of them."""

    asked: Asked
    note: Note
    wrong: Callable[[str], None]
    active: int
    issued: int
    history: dict[int, list[Request]] = field(default_factory=dict)
    holds: dict[int, list[Request]] = field(default_factory=dict)
    #: Requests of which a client said that they had no effect, and which register that was.
    untouched: dict[bytes, str] = field(default_factory=dict)


class SimulatedRegister:
    """One till of one shop."""

    def __init__(
        self, number: int, till: Till, loop: Loop, dice: Random, town: Town, wall_ms: Callable[[], int]
    ) -> None:
        self.name = f"register-{number}"
        self.store = Store()
        self.busy = True
        self._till = till
        self._loop = loop
        self._dice = dice
        self._town = town
        self._wall_ms = wall_ms
        self._process: Process | None = None
        self._clients: list[Client] = []
        self._open: dict[bytes, Request] = {}
        self._left = 0
        self._timing = _timing(dice.choice((1_000, 2_000, 4_000)))
        self._approved: list[RedeemRequest] = []
        self._times: Counter[bytes] = Counter()

    @property
    def process(self) -> Process:
        """The process that this register is at the moment."""
        assert self._process is not None
        return self._process

    def plug_in(self, requests: int | None = None) -> None:
        """Start, take up what is stored, and go on with the day's requests."""
        if requests is not None:
            self._left = requests
        self._process = Process(self._loop, self.name, slack_s=0.002)
        self._process.start(self._live(), f"{self.name} lives")

    def pull_plug(self) -> None:
        """Lose everything but the store."""
        self.process.kill()
        self._clients = []
        for request_id, request in list(self._open.items()):
            kept = request_id in self.store.kept
            if not kept or GIVING_UP[request.op] is not GivingUp.KEEP:
                self._give_up(request_id)
        self._open.clear()

    async def _live(self) -> None:
        self._clients = [self._client() for _ in range(self._dice.choice((1, 1, 2)))]
        for client in self._clients:
            await client.__aenter__()
        await self._take_up_store()
        while self._left:
            self._left -= 1
            await self._serve_customer()
            if self._dice.random() < 0.5:
                await asyncio.sleep(self._dice.random() * 0.4)
        self.busy = False

    async def settle(self) -> None:
        """Bring everything in doubt to its end, then ask what has become of it all."""
        await self._take_up_store()
        cards = self._town.active + self._town.issued
        for number in self._dice.sample(range(cards), min(2, cards)):
            await self._insist(BalanceRequest(self._id(), 0, card(number)))
            requests = self._town.history.get(number)
            if requests:
                original = self._dice.choice(requests)
                await self._insist(StatusRequest(self._id(), 0, card(number), original.request_id))
        for client in self._clients:
            await client.close()

    # ---- the customers

    async def _serve_customer(self) -> None:
        request = self._choose()
        dice = self._dice.random()
        if dice < 0.12 and len(self._clients) > 1:
            # The same copy over two lines at once.
            await asyncio.gather(self._ask(request, 0), self._again(request, 1))
        elif dice < 0.18:
            # The customer walks away in the middle of it.
            asking = asyncio.ensure_future(self._ask(request, 0))
            await asyncio.sleep(self._dice.random() ** 3 * 0.3)
            await self._ask(ReverseRequest(self._id(), 0, request.card, request.request_id), -1)
            await asking
        elif dice < 0.24:
            # So impatient that the question follows at once.
            asked = StatusRequest(self._id(), 0, request.card, request.request_id)
            await asyncio.gather(self._ask(request, 0), self._ask(asked, 0))
        elif dice < 0.4:
            await asyncio.gather(self._ask(request, 0), self._ask(self._choose(), -1))
        elif dice < 0.5 and self._town.active > _QUEUE:
            # A whole queue of customers at once, so that a batch has many accounts.
            queue = [request, *(self._choose() for _ in range(_QUEUE))]
            await asyncio.gather(*(self._ask(each, 0) for each in queue))
            cards = dict.fromkeys(each.card for each in queue)
            await asyncio.gather(*(self._ask(BalanceRequest(self._id(), 0, each), 0) for each in cards))
        else:
            await self._ask(request, 0)
        # A copy that follows its card to another account is told another decline than the tombstone's: a known gap.
        if self._dice.random() < 0.15 and not self._town.asked.movable(request):
            await self._again(request, -1)
        if self._approved and self._dice.random() < 0.05:
            await self._reuse(self._dice.choice(self._approved))
        elif len(self._clients) > 1 and self._town.active > 1 and self._dice.random() < 0.04:
            await self._collide()

    async def _reuse(self, request: RedeemRequest) -> None:
        """Send something else under the id of an earlier request: it must be refused."""
        if self._town.asked.under_way[request.request_id]:
            # An answer that is still to come would be taken for the answer to this one.
            return
        self._town.asked.reused.add(request.request_id)
        try:
            reply = await self._clients[-1].request(replace(request, points=request.points + 1))
        except (Unanswered, ValueError):
            return
        finally:
            self.store.done(request.request_id)
        if reply.reversal_id is None:
            self._town.wrong(f"{self.name}: {request.request_id.hex()[:12]} was accepted with other content: {reply}")

    async def _collide(self) -> None:
        """Send two requests under one id at once, for two cards: one of them must be refused."""
        request_id, receipt = self._id(), Receipt(1_000, "EUR")
        self._town.asked.reused.add(request_id)
        cards = self._dice.sample(range(self._town.active), 2)
        earns = [EarnRequest(request_id, 0, card(number), receipt, None, self._wall_ms()) for number in cards]
        await asyncio.gather(
            *(client.request(earn) for client, earn in zip(self._clients, earns, strict=True)), return_exceptions=True
        )
        self.store.done(request_id)
        self._town.asked.add(earns[0])
        self._give_up(request_id)

    async def _again(self, request: Request, client: int) -> None:
        """Send the same once more."""
        await asyncio.sleep(self._dice.random() ** 3 * 0.2)
        if request.request_id not in self._open or client > 0:
            await self._ask(request, client)

    async def _ask(self, request: Request, client: int) -> None:
        request_id = request.request_id
        self._times[request_id] += 1
        self._town.untouched.pop(request_id, None)
        self._open[request_id] = request
        self._town.asked.add(request)
        try:
            reply = await self._clients[client].request(request)
        except InDoubt:
            # What is to be kept stays in the store, and comes to its end later.
            if request_id not in self.store.kept:
                self._forget(request_id)
        except Unanswered:
            if self._times[request_id] == 1 and has_effect(request) and request_id not in self.store.kept:
                # The client is sure that nothing happened, and has nobody else's copy to think of.
                self._town.untouched[request_id] = self.name
            self._forget(request_id)
        except ValueError:
            # It is under way over this line already.
            return
        else:
            if reply.outcome == Outcome.REVERSED and reply.reversal_id is not None:
                self._forget(request_id)
            self._open.pop(request_id, None)
            if reply.outcome <= Outcome.APPROVED_PARTIAL and isinstance(request, RedeemRequest):
                self._approved.append(request)

    def _forget(self, request_id: bytes) -> None:
        if request_id in self._open:
            self._give_up(request_id)
            del self._open[request_id]

    def _give_up(self, request_id: bytes) -> None:
        if request_id in self._town.asked.requests:
            self._town.note(gave_up(self._town.asked, self._wall_ms(), self.name, request_id))

    async def _insist(self, request: Request) -> None:
        """Ask until there is an answer."""
        self._town.asked.add(request)
        while True:
            try:
                await self._clients[0].request(request)
            except Refused as refused:
                if refused.final:
                    return
            except Unanswered:
                pass
            else:
                return
            await asyncio.sleep(0.05)

    async def _take_up_store(self) -> None:
        for request in list(self.store.kept.values()):
            if GIVING_UP[request.op] is GivingUp.KEEP:
                taken_up = as_advice(request)
            else:
                taken_up = ReverseRequest(self._id(), 0, request.card, request.request_id)
                self.store.replace(request, taken_up)
            self._open[taken_up.request_id] = taken_up
            await self._insist(taken_up)
            self._open.pop(taken_up.request_id, None)
            self.store.done(taken_up.request_id)

    # ---- what they want

    def _choose(self) -> Request:
        dice, town = self._dice, self._town
        number = min(int(dice.random() ** 1.7 * town.active), town.active - 1)
        if town.issued and dice.random() < 0.06:
            number = town.active + dice.randrange(town.issued)
        presented, ttl_ms = card(number), dice.choice((0, 0, 0, 300, 1_500))
        history = town.history.setdefault(number, [])
        holds = town.holds.setdefault(number, [])
        new, kind = self._id(), dice.random()
        receipt = Receipt(dice.choice((100, 1_000, 5_000, 20_000)), "EUR", "")
        points = dice.choice((1, 10, 50, 100, 500, 1_000))
        if not history and number < town.active and kind < 0.8:
            # The first thing that anybody does is to shop.
            return self._kept(
                history, EarnRequest(new, ttl_ms, presented, Receipt(20_000, "EUR"), None, self._wall_ms())
            )
        if kind < 0.05:
            return BalanceRequest(new, ttl_ms, presented)
        if holds and kind < 0.19:
            hold = holds[-1] if dice.random() < 0.85 else dice.choice(holds)
            if dice.random() < 0.7:
                return self._kept(
                    history,
                    CaptureRequest(new, ttl_ms, presented, hold.request_id, dice.choice((0, 0, 1, 10)), receipt),
                )
            return self._kept(history, ReleaseRequest(new, ttl_ms, presented, hold.request_id))
        if history and kind < 0.37:
            target = history[-1] if dice.random() < 0.5 else dice.choice(history)
            what = dice.random()
            if what < 0.4:
                return self._kept(
                    history,
                    RefundRequest(
                        new, ttl_ms, presented, target.request_id, Receipt(dice.choice((0, 0, 100, 1_000)), "EUR")
                    ),
                )
            if what < 0.8:
                return ReverseRequest(new, ttl_ms, presented, target.request_id)
            return StatusRequest(new, ttl_ms, presented, target.request_id)
        if kind < 0.57:
            return self._kept(history, RedeemRequest(new, ttl_ms, presented, points, receipt, dice.random() < 0.3))
        if kind < 0.70:
            request = HoldRequest(
                new, ttl_ms, presented, points, receipt, dice.random() < 0.3, dice.choice((0, 400, 1_500))
            )
            holds.append(request)
            return self._kept(history, request)
        if kind < 0.80:
            return self._kept(
                history, SaleRequest(new, ttl_ms, presented, receipt, dice.choice((0, points)), dice.random() < 0.5)
            )
        if kind < 0.97:
            offline = dice.random() < 0.3
            sale_ms = self._wall_ms() - (dice.choice((0, 1, 2)) * _DAY_MS if offline else 0)
            return self._kept(history, EarnRequest(new, ttl_ms, presented, receipt, None, sale_ms, offline))
        if town.issued:
            other = card(town.active + dice.randrange(town.issued))
            return dice.choice(
                (
                    ActivateRequest(new, ttl_ms, other),
                    ActivateRequest(new, ttl_ms, other),
                    ReplaceRequest(new, ttl_ms, presented, other),
                    BlockRequest(new, ttl_ms, other, BlockReason.LOST),
                )
            )
        return BalanceRequest(new, ttl_ms, presented)

    def _kept(self, history: list[Request], request: Request) -> Request:
        assert has_effect(request)
        history.append(request)
        return request

    def _id(self) -> bytes:
        return self._dice.randbytes(16)

    def _client(self) -> Client:
        client = Client(
            HOST,
            PORT,
            self._till.code,
            self._till.secret,
            timing=self._timing,
            store=self.store,
            dice=self._dice.random,
            random_bytes=self._dice.randbytes,
            now_ms=self._wall_ms,
        )
        # As if it had connected before: a client remembers what PBKDF2 took it so long to work out.
        client._register._salted = self._till.salted
        return client
