"""How each operation is dispatched: one row per operation of SPEC.md."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ledger.submission import Submission
from protocol.codes import BlockReason, Message
from protocol.requests import REQUESTS

Fill = Callable[[Any, Submission], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """How one operation is dispatched: its code, its own fields, and which checks concern it."""

    op: int
    fill: Fill
    receipt: bool = False
    spends: bool = False
    credits: bool = False


def _card_only(request: Any, submission: Submission) -> None:
    """Nothing beyond the card."""


def _redeem(request: Any, submission: Submission) -> None:
    submission.points = request.points
    submission.partial = request.allow_partial


def _hold(request: Any, submission: Submission) -> None:
    submission.points = request.points
    submission.partial = request.allow_partial
    submission.hold_ms = request.hold_ms


def _capture(request: Any, submission: Submission) -> None:
    submission.target = request.hold_id
    submission.points = request.points


def _release(request: Any, submission: Submission) -> None:
    submission.target = request.hold_id


def _earn(request: Any, submission: Submission) -> None:
    submission.eligible = -1 if request.eligible_amount is None else request.eligible_amount


def _sale(request: Any, submission: Submission) -> None:
    submission.points = request.points
    submission.partial = request.allow_partial
    submission.eligible = -1 if request.eligible_amount is None else request.eligible_amount


def _original(request: Any, submission: Submission) -> None:
    submission.target = request.original_id


def _block(request: Any, submission: Submission) -> None:
    # The journal has no field for it, and whoever is asked why a card was blocked looks at the reference.
    submission.reference = BlockReason(request.reason).name.lower() if request.reason in _REASONS else "other"


_REASONS = frozenset(BlockReason)
_PLANS = {
    int(op): Plan(int(op), fill, **checks)
    for op, fill, checks in (
        (Message.BALANCE, _card_only, {}),
        (Message.REDEEM, _redeem, {"receipt": True, "spends": True}),
        (Message.HOLD, _hold, {"receipt": True, "spends": True}),
        (Message.CAPTURE, _capture, {"receipt": True}),
        (Message.RELEASE, _release, {}),
        (Message.EARN, _earn, {"receipt": True, "credits": True}),
        (Message.SALE, _sale, {"receipt": True, "spends": True, "credits": True}),
        (Message.REFUND, _original, {"receipt": True, "credits": True}),
        (Message.REVERSE, _original, {"credits": True}),
        (Message.STATUS, _original, {}),
        (Message.ACTIVATE, _card_only, {}),
        (Message.BLOCK, _block, {}),
        (Message.REPLACE, _card_only, {}),
    )
}
# By class, because that is what a request carries at no cost; a missing operation fails at import, not at a till.
PLAN_OF = {request: _PLANS[int(request.op)] for request in REQUESTS}
