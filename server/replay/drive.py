"""Sends the baskets: many households at once, each one's baskets strictly in their order, through its stores' tills."""

import asyncio
import time
from array import array
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush

from protocol.client import Client
from protocol.codes import Outcome
from protocol.requests import Card, Receipt
from protocol.ticket import Reply, Unanswered
from protocol.ticket_book import Timing
from server.errors import OperatorError
from server.replay.baskets import Basket
from server.replay.plan import Plan
from server.replay.town import CURRENCY, Town

_SOFTWARE = "tillwire replay"
# The server, its engines and all tills share one machine: patience costs nothing, an abandoned sale would be an error.
_TIMING = Timing(connect_ms=30_000, handshake_ms=30_000, pong_ms=30_000, patience_ms=60_000)
_OPENED_AT_ONCE = 64
_WRONG_SHOWN_MAX = 10

Tills = Mapping[int, Sequence[Client]]


@dataclass(slots=True)
class Sales:
    """What came of the baskets so far; points are minor units."""

    baskets: int = 0
    requests: int = 0
    earned: int = 0
    spent: int = 0
    balances: dict[int, int] = field(default_factory=dict)
    """Each household's available points, as the server told last."""
    latencies_us: "array[int]" = field(default_factory=lambda: array("Q"))
    elapsed_s: float = 0.0
    wrong_answers: int = 0
    wrong: list[str] = field(default_factory=list)
    """The first few wrong answers in words."""

    def complain(self, sentence: str) -> None:
        """Note a wrong answer."""
        self.wrong_answers += 1
        if len(self.wrong) < _WRONG_SHOWN_MAX:
            self.wrong.append(sentence)


class Queue:
    """Hands out baskets in the order of time, but never two of one household at once.

    Whoever finishes a basket takes the next one. When there is none, as many households as are left are being served,
    each by somebody else who will go on with it: so nobody ever has to wait.
    """

    def __init__(self, baskets: Sequence[Basket]) -> None:
        self._baskets = baskets
        self._later: dict[int, deque[int]] = {}
        for number, basket in enumerate(baskets):
            self._later.setdefault(basket.household, deque()).append(number)
        self._next = [numbers.popleft() for numbers in self._later.values()]
        heapify(self._next)

    def take(self) -> Basket | None:
        """Return the earliest basket whose household is free."""
        return self._baskets[heappop(self._next)] if self._next else None

    def done(self, basket: Basket) -> None:
        """Free the household of a basket."""
        later = self._later[basket.household]
        if later:
            heappush(self._next, later.popleft())


@asynccontextmanager
async def open_tills(host: str, port: int, town: Town) -> AsyncIterator[Tills]:
    """Sign every till on and see that it is answered. Raises OperatorError."""
    card = next(iter(town.cards.values()))
    gate = asyncio.Semaphore(_OPENED_AT_ONCE)

    async def opened(till: Client) -> None:
        async with gate:
            await stack.enter_async_context(till)
            await _answered(till.balance(card))

    async with AsyncExitStack() as stack:
        tills = {
            store: [Client(host, port, s.terminal, s.secret, software=_SOFTWARE, timing=_TIMING) for s in signs]
            for store, signs in town.tills.items()
        }
        await _together(opened(till) for till in _each(tills))
        yield tills


class Drive:
    """Sends baskets through open tills, `in_flight` at a time; `progress` is told after each one."""

    def __init__(self, tills: Tills, cards: Mapping[int, Card], plan: Plan, progress: Callable[[Sales], None]) -> None:
        self.sales = Sales()
        self._tills = tills
        self._cards = cards
        self._plan = plan
        self._progress = progress

    async def sell(self, baskets: Sequence[Basket], in_flight: int) -> None:
        """Send all baskets. Raises OperatorError when the server does not answer at all."""
        queue = Queue(baskets)
        began = time.perf_counter()
        await _together(self._serve(queue) for _ in range(in_flight))
        self.sales.elapsed_s = time.perf_counter() - began

    async def close_books(self, in_flight: int) -> None:
        """Ask every household's balance once more: it must be what the last answer said."""
        households = iter(sorted(self.sales.balances))
        tills = list(_each(self._tills))

        async def ask() -> None:
            for household in households:
                reply = await _answered(tills[household % len(tills)].balance(self._cards[household]))
                self._check_balance(reply, household, "at the end")

        await _together(ask() for _ in range(in_flight))

    async def _serve(self, queue: Queue) -> None:
        while (basket := queue.take()) is not None:
            await self._sell_one(basket)
            queue.done(basket)

    async def _sell_one(self, basket: Basket) -> None:
        sales, card = self.sales, self._cards[basket.household]
        tills = self._tills[basket.store]
        till = tills[basket.household % len(tills)]
        sales.balances.setdefault(basket.household, 0)
        reply = await self._timed(till.balance(card))
        available = self._check_balance(reply, basket.household, f"before basket {basket.basket}")
        # A basket that is worth nothing is no sale: there is nothing to pay and nothing to earn on.
        if basket.cents > 0:
            points = self._plan.spend(basket.cents, available)
            receipt = Receipt(basket.cents, CURRENCY, str(basket.basket))
            reply = await self._timed(till.sale(card, receipt, points))
            self._book(basket, points, available, reply)
        sales.baskets += 1
        self._progress(sales)

    async def _timed(self, request: Awaitable[Reply]) -> Reply:
        began = time.perf_counter_ns()
        reply = await _answered(request)
        self.sales.latencies_us.append((time.perf_counter_ns() - began) // 1_000)
        self.sales.requests += 1
        return reply

    def _check_balance(self, reply: Reply, household: int, when: str) -> int:
        expected = self.sales.balances[household]
        if reply.outcome != Outcome.APPROVED or reply.balance is None:
            self.sales.complain(f"household {household}, {when}: the balance was declined with {_name(reply.outcome)}")
            return expected
        if reply.balance != (expected, 0, 0, 0, 0, 0):
            self.sales.complain(
                f"household {household}, {when}: {expected} points should be available, is {reply.balance}"
            )
        self.sales.balances[household] = reply.balance.available
        return reply.balance.available

    def _book(self, basket: Basket, points: int, available: int, reply: Reply) -> None:
        sales = self.sales
        earned = self._plan.earn(basket.cents, points)
        balance = None if reply.balance is None else reply.balance.available
        expected = (Outcome.APPROVED, points, earned, available - points + earned)
        if (reply.outcome, reply.points, reply.earned, balance) != expected:
            sales.complain(
                f"household {basket.household}, basket {basket.basket} of {basket.cents} cents: should be APPROVED, "
                f"{points} spent, {earned} earned, {expected[3]} left; "
                f"is {_name(reply.outcome)}, {reply.points} spent, {reply.earned} earned, {balance} left"
            )
        if reply.approved:
            sales.spent += reply.points
            sales.earned += reply.earned
        if balance is not None:
            sales.balances[basket.household] = balance


async def _together(works: Iterable[Coroutine[None, None, None]]) -> None:
    """Do everything at once. The first error ends the rest and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            for work in works:
                group.create_task(work)
    except ExceptionGroup as several:
        raise several.exceptions[0] from None


async def _answered(request: Awaitable[Reply]) -> Reply:
    try:
        return await request
    except Unanswered as error:
        raise OperatorError(f"the server did not answer: request {error}") from error


def _each(tills: Tills) -> Iterator[Client]:
    for of_store in tills.values():
        yield from of_store


def _name(outcome: int) -> str:
    return Outcome(outcome).name if outcome in list(Outcome) else str(outcome)
