"""One run of one process: warm up, measure, hear the last answers."""

from __future__ import annotations

import gc
import random
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterator

from loadtests.generator.closed_loop import ClosedLoop
from loadtests.generator.fleet import Fleet, Trouble
from loadtests.generator.frames import ANY_CARD, ANY_ID, RequestIds, Template
from loadtests.generator.hearing import Hearing
from loadtests.generator.load import Load, Work
from loadtests.generator.open_loop import OpenLoop
from loadtests.generator.outcome import Outcome
from loadtests.generator.schedule import poisson
from loadtests.generator.target import Target
from loadtests.generator.work import POINT, HotCard, Mix, OneKind, Plan
from protocol.codes import AMOUNT_MAX, ErrorCode, Message
from protocol.requests import BalanceRequest, EarnRequest, Receipt, RedeemRequest

_PATIENCE_S = 60.0
#: Requests a second for which frames are made before they are needed; what a faster server asks is made on the way.
_PREPARED_PER_S = 30_000
_MICRO = 1e6


def plan_of(load: Load, target: Target, ids: RequestIds, share: int, shares: int) -> Plan:
    """Return what the registers of one share of a load ask for."""
    ttl_ms = load.deadline_ms
    seed = load.seed * shares + share
    cards = cards_of(load, target)
    if load.work is Work.MIX:
        return Mix(target.population.currency, ttl_ms, ids, _drawn(target, cards, seed), seed)
    if load.work is Work.SWEEP:
        balance = Template(BalanceRequest(ANY_ID, ttl_ms, ANY_CARD))
        return OneKind(balance, Message.BALANCE, ids, _in_turn(target, cards, share, shares, 1))
    redeem = Template(RedeemRequest(ANY_ID, ttl_ms, ANY_CARD, POINT, Receipt(0, target.population.currency)))
    if load.work is Work.HOT:
        earn = EarnRequest(ANY_ID, ttl_ms, ANY_CARD, Receipt(AMOUNT_MAX, target.population.currency), None, 0)
        return HotCard(redeem, Template(earn), ids, target.card(0))
    if load.work is Work.SPEND:
        return OneKind(redeem, Message.REDEEM, ids, _in_turn(target, cards, share, shares, load.rounds))
    return OneKind(redeem, Message.REDEEM, ids, _drawn(target, cards, seed))


def cards_of(load: Load, target: Target) -> int:
    """Return how many cards a load uses."""
    return min(load.cards or target.population.accounts, target.population.accounts)


def _drawn(target: Target, cards: int, seed: int) -> Iterator[bytes]:
    """Yield cards, each as likely as every other, without end."""
    dice = random.Random(seed)  # noqa: S311 - whose card it is is no secret
    while True:
        yield target.card(int(dice.random() * cards))


def _in_turn(target: Target, cards: int, share: int, shares: int, rounds: int) -> Iterator[bytes]:
    for _ in range(rounds):
        for number in range(share, cards, shares):
            yield target.card(number)


class Measuring:
    """A fleet that is signed on, and the load for it; `share` of `shares` processes."""

    def __init__(self, fleet: Fleet, load: Load, prefix: bytes, share: int = 0, shares: int = 1) -> None:
        self._fleet, self._load = fleet, load
        self._prefix = prefix
        self._share, self._shares = share, shares
        self._plan = plan_of(load, fleet.target, RequestIds(prefix, share), share, shares)
        self._hearing = Hearing(fleet, self._plan.approved)
        if load.work in (Work.SWEEP, Work.SPEND):
            self._plan.prepare(cards_of(load, fleet.target) * load.rounds // shares + 1)
        else:
            rate_per_s = min(load.rate_per_s or _PREPARED_PER_S, _PREPARED_PER_S * 4) / shares
            self._plan.prepare(int(rate_per_s * (load.warm_up_s + load.seconds) * 1.1))

    def run(self, begun: Callable[[], None], ended: Callable[[], None]) -> Outcome:
        """Run; `begun` and `ended` are called at both ends of what is measured. Raises Trouble."""
        self._open()
        # Nothing that was made so far will ever be garbage, and the loops make no cycles.
        gc.collect()
        gc.freeze()
        gc.disable()
        begins_s = time.monotonic()
        loop = self._loop(begins_s)
        loop.begin()
        if self._load.warm_up_s:
            loop.until(begins_s + self._load.warm_up_s)
        outcome = self._measured(loop, begun, ended)
        loop.end()
        loop.until(time.monotonic() + self._load.deadline_ms / 1000 + 1.0)
        gc.enable()
        hearing = self._hearing
        outcome.doubtful = hearing.doubtful + len(hearing.under_way)
        outcome.effects = self._plan.effects(hearing.approvals)
        return outcome

    def _open(self) -> None:
        for frame in self._plan.opening():
            opening = ClosedLoop(self._fleet, _Once(frame, self._plan), self._hearing, 1)
            opening.begin()
            opening.until(time.monotonic() + _PATIENCE_S)
            if self._hearing.under_way:
                raise Trouble(f"the first request had no answer within {_PATIENCE_S} s")

    def _loop(self, begins_s: float) -> ClosedLoop | OpenLoop:
        load, limits = self._load, self._fleet.limits
        assert limits is not None  # noqa: S101 - the fleet is signed on
        allowed = limits.in_flight_max
        if load.rate_per_s is None:
            return ClosedLoop(self._fleet, self._plan, self._hearing, min(load.at_once or 1, allowed))
        schedule = poisson(load.rate_per_s / self._shares, begins_s, load.seed * self._shares + self._share)
        at_once = min(load.at_once or allowed, allowed)
        return OpenLoop(self._fleet, self._plan, self._hearing, schedule, at_once, load.deadline_ms / 1000)

    def _measured(self, loop: ClosedLoop | OpenLoop, begun: Callable[[], None], ended: Callable[[], None]) -> Outcome:
        hearing = self._hearing
        approvals, answers, errors = hearing.approvals, hearing.answers, hearing.errors.copy()
        first = len(hearing.latencies_s)
        due, given_up = _waiting(loop)
        begun()
        began_s, cpu_s = time.monotonic(), time.process_time()
        self._beat(loop, began_s + self._load.seconds if self._load.seconds else float("inf"))
        outcome = Outcome(
            registers=len(self._fleet.numbers),
            seconds=time.monotonic() - began_s,
            cpu_s=time.process_time() - cpu_s,
            approved=hearing.approvals - approvals,
            declined=hearing.answers - answers - (hearing.approvals - approvals),
            prefix=self._prefix.hex(),
        )
        ended()
        outcome.errors.update({_error(code): n for code, n in (hearing.errors - errors).items()})
        outcome.due, outcome.given_up = (now - then for now, then in zip(_waiting(loop), (due, given_up), strict=True))
        outcome.latencies_us = array("I", [int(took_s * _MICRO) for took_s in hearing.latencies_s[first:]])
        return outcome

    def _beat(self, loop: ClosedLoop | OpenLoop, ends_s: float) -> None:
        """Run until then, with a sign of life from every register as often as the server wants one."""
        assert self._fleet.limits is not None  # noqa: S101 - the fleet is signed on
        beat_s = self._fleet.limits.heartbeat_ms / 1000
        while (now_s := time.monotonic()) < ends_s:
            loop.until(min(ends_s, now_s + beat_s))
            if time.monotonic() < min(ends_s, now_s + beat_s):
                return
            if time.monotonic() < ends_s:
                self._fleet.ping_all()


class _Once(Plan):
    """One request of the first register, on behalf of a plan."""

    def __init__(self, frame: bytes, plan: Plan) -> None:
        frames = iter((frame,))
        self.next_frame = lambda _register: next(frames, None)
        self.approved = plan.approved
        self._plan = plan

    def effects(self, approvals: int) -> Counter[str]:
        return self._plan.effects(approvals)


def _waiting(loop: ClosedLoop | OpenLoop) -> tuple[int, int]:
    return (loop.due, loop.given_up) if isinstance(loop, OpenLoop) else (0, 0)


def _error(code: int) -> str:
    try:
        return ErrorCode(code).name
    except ValueError:
        return str(code)
