"""What a cut-off store sold: the same operations every time, so that the journal can be held against them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from ledger.operations import Operation as Op
from protocol.requests import EarnRequest, Receipt, Request, ReverseRequest, SaleRequest
from server.population.history import EARN_RATE_BP
from server.population.programme import CURRENCY
from server.programme_setup import numbered_card

_ALL_BP = 10_000
#: Money of which the points are whole: nothing is rounded, so nobody can round differently.
_AMOUNT_STEP = _ALL_BP // EARN_RATE_BP
_AMOUNT_STEPS_MAX = 600
_KINDS, _WEIGHTS = (Op.EARN, Op.SALE, Op.REVERSE), (80, 15, 5)
#: Registers that know that they are alone say so, with their own time.
_TIMED = 0.5
_STORE_BYTES, _NUMBER_BYTES = 4, 4


@dataclass(frozen=True, slots=True)
class Plan:
    """What all stores sell while they are cut off, `operations` each, on the cards `first_card` and `cards` more.

    `prefix` is the first 8 bytes of every request id; times are ms since 1970 UTC.
    """

    prefix: bytes
    operations: int
    first_card: int
    cards: int
    begins_ms: int
    lasts_ms: int

    def bounds(self) -> tuple[bytes, bytes]:
        """Return the least and the greatest id of all requests."""
        rest = _STORE_BYTES + _NUMBER_BYTES
        return self.prefix + bytes(rest), self.prefix + b"\xff" * rest


@dataclass(frozen=True, slots=True)
class Operation:
    """One request, when the register made it, and what must become of it.

    `timed` says that the register told that time itself; else it is the relay's, who takes many at once here.
    """

    request: Request
    op: Op
    card: int
    sale_ms: int
    earned: int = 0
    target: bytes | None = None
    timed: bool = False


def sales(plan: Plan, store: int) -> Iterator[Operation]:
    """Yield what one store sold, in its order."""
    dice = random.Random(f"{plan.prefix.hex()} {store}")  # noqa: S311 - it must be the same again
    standing: list[tuple[bytes, int]] = []
    for number in range(plan.operations):
        request_id = plan.prefix + store.to_bytes(_STORE_BYTES) + number.to_bytes(_NUMBER_BYTES)
        sale_ms = plan.begins_ms + plan.lasts_ms * number // plan.operations
        op = dice.choices(_KINDS, _WEIGHTS)[0]
        if op is Op.REVERSE and standing:
            target, card = standing.pop(dice.randrange(len(standing)))
            reverse = ReverseRequest(request_id, 0, numbered_card(card), target)
            yield Operation(reverse, op, card, sale_ms, target=target)
            continue
        card = plan.first_card + dice.randrange(plan.cards)
        amount = _AMOUNT_STEP * dice.randint(1, _AMOUNT_STEPS_MAX)
        receipt = Receipt(amount, CURRENCY, f"{store}-{number}")
        earned = amount * EARN_RATE_BP // _ALL_BP
        standing.append((request_id, card))
        if op is Op.SALE:
            yield Operation(SaleRequest(request_id, 0, numbered_card(card), receipt), op, card, sale_ms, earned)
        else:
            timed = dice.random() < _TIMED
            earn = EarnRequest(request_id, 0, numbered_card(card), receipt, None, sale_ms, offline=timed)
            yield Operation(earn, Op.EARN, card, sale_ms, earned, timed=timed)
