"""What is asked of a server in one run."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Work(StrEnum):
    """What the registers ask for."""

    REDEEM = "redeem"
    """One point of a card that is drawn anew for every request."""

    HOT = "hot"
    """One point of one and the same card, which is given points enough beforehand."""

    MIX = "mix"
    """60 % BALANCE, 25 % SALE, 10 % HOLD and its CAPTURE, 5 % REVERSE of an earlier sale of the same register."""

    SWEEP = "sweep"
    """One BALANCE of each card in turn, until all have been asked for: afterwards no account is cold."""

    SPEND = "spend"
    """One point of each card in turn, `rounds` times over."""

    HOLD = "hold"
    """Nothing: the registers stay signed on, and come back when they lose their connection."""


@dataclass(frozen=True, slots=True)
class Load:
    """One run: closed loop unless `rate_per_s` is given, then requests are due at times that no answer can delay.

    Only what happens in the `seconds` after the first `warm_up_s` is measured. `at_once` is how many requests one
    register may have under way; 0 is one in a closed loop and as many as the server allows in an open one. Only the
    first `cards` of the population are used, 0 is all. A request that waited longer than `deadline_ms` for a register
    is given up; the server gets the same number as its deadline.
    """

    registers: int
    seconds: float
    work: Work = Work.REDEEM
    rate_per_s: float | None = None
    warm_up_s: float = 0.0
    at_once: int = 0
    rounds: int = 1
    cards: int = 0
    deadline_ms: int = 5_000
    seed: int = 1

    def __post_init__(self) -> None:
        if self.rate_per_s is not None and self.work in (Work.SWEEP, Work.SPEND, Work.HOLD):
            raise ValueError(f"an open loop cannot {self.work}")
        if self.registers < 1 or self.seconds < 0 or (self.rate_per_s is not None and self.rate_per_s <= 0):
            raise ValueError("a run needs registers, a time and a rate above 0")
