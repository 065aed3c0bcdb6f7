"""What a relay that cannot ask headquarters may answer (SPEC.md, section 25.10). Pure: all that decides is given."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final, NamedTuple

from protocol.answers import encode_body, provisional_detail
from protocol.codes import CardKind, ErrorCode, Message, Outcome
from protocol.messages import encode
from protocol.relay_messages import RedeemRules, Roster, RosterTerminal
from protocol.requests import Card, EarnRequest, RedeemRequest, Request
from server.registers.dispatch import ALL_BP, ALWAYS_PERMITTED
from server.relay.store_rows import Allowance, AllowanceState, KnownBalance

_LENGTH_BYTES: Final = 4
_KIND_OF: Final = {
    "ean13": CardKind.EAN13,
    "pan": CardKind.PAN,
    "phone": CardKind.PHONE,
    "virtual": CardKind.VIRTUAL,
}
_ADVICES: Final = frozenset({int(Message.EARN), int(Message.REVERSE), int(Message.RELEASE)})
_APPROVED: Final = encode_body(Outcome.APPROVED, 0, 0, None)


class Alone(NamedTuple):
    """What a lone relay knows. `time_ms` is the best it has for the time of day, `server_now_ms` headquarters' time.

    The latter is None where it is not known well enough to trust an allowance. All in ms since 1970 UTC.
    """

    roster: Roster
    terminal: RosterTerminal
    time_ms: int
    server_now_ms: int | None
    known: KnownBalance | None
    allowance: Allowance | None


class Told(NamedTuple):
    """An answer that leaves no trace: a decline, or a balance."""

    body: bytes


class Approved(NamedTuple):
    """An answer that must be stored before it is given, and what headquarters is to be told."""

    body: bytes
    sale_ms: int
    hold_id: bytes | None = None


class Refused(NamedTuple):
    """An ERROR."""

    code: ErrorCode
    text: str


Verdict = Told | Approved | Refused


def decide(request: Request, alone: Alone, amount_max: int) -> Verdict:
    """Return what the relay answers; the precedence is that of SPEC.md, section 11."""
    op = int(request.op)
    permitted = op in alone.terminal.permitted or op in ALWAYS_PERMITTED
    if request.card.token is None:
        return declined(Outcome.BAD_CARD if permitted else Outcome.NOT_PERMITTED)
    too_much = _too_much(request, amount_max)
    if too_much is not None:
        return Refused(ErrorCode.MALFORMED, f"{too_much}: must not exceed {amount_max}")
    if not permitted:
        return declined(Outcome.NOT_PERMITTED)
    new_card: Card | None = getattr(request, "new_card", None)
    if new_card is not None and new_card.token is None:
        return declined(Outcome.BAD_CARD)
    receipt = getattr(request, "receipt", None)
    if receipt is not None and receipt.currency != alone.roster.currency:
        return declined(Outcome.WRONG_CURRENCY)
    if is_advice(request):
        return Approved(_APPROVED, _sale_ms(request, alone))
    if isinstance(request, RedeemRequest):
        return _redeem(request, alone)
    if op == Message.BALANCE:
        return _balance(alone)
    return declined(Outcome.OFFLINE)


def declined(outcome: Outcome) -> Told:
    """Return a decline."""
    return Told(encode_body(outcome, 0, 0, None))


def is_advice(request: Any) -> bool:
    """Whether it needs nobody's leave: EARN, REVERSE, RELEASE, and a SALE that spends nothing."""
    op = int(request.op)
    return op in _ADVICES or (op == Message.SALE and not request.points)


def stored_message(request: Request) -> bytes:
    """Return the request as it is kept: its MessagePack without a length, and of a track no more than the PAN."""
    token = request.card.token
    return encode(request if token is None else replace(request, card=canonical_card(token)))[_LENGTH_BYTES:]


def canonical_card(token: str) -> Card:
    """Return a card that has this canonical token."""
    scheme, _, value = token.partition(":")
    return Card(_KIND_OF[scheme], value)


def _too_much(request: Any, amount_max: int) -> str | None:
    receipt = getattr(request, "receipt", None)
    if receipt is not None and receipt.amount > amount_max:
        return "receipt.amount"
    if getattr(request, "points", 0) > amount_max:
        return "points"
    return "eligible_amount" if (getattr(request, "eligible_amount", None) or 0) > amount_max else None


def _sale_ms(request: Request, alone: Alone) -> int:
    """Return when the sale was: a register that was alone itself knows better, else it is just now."""
    if isinstance(request, EarnRequest) and request.offline:
        return request.sale_time_ms
    return alone.time_ms


def _redeem(request: RedeemRequest, alone: Alone) -> Verdict:
    allowance = alone.allowance
    if (
        allowance is None
        or allowance.state is not AllowanceState.GRANTED
        or not alone.roster.allowance_points
        or alone.server_now_ms is None
        or not allowance.from_ms <= alone.server_now_ms < allowance.until_ms
        or request.points > allowance.points
    ):
        return declined(Outcome.OFFLINE)
    against = _against_the_rules(request, alone.roster.rules)
    if against is not None:
        return declined(against)
    return Approved(encode_body(Outcome.APPROVED, request.points, 0, None), alone.time_ms, allowance.hold_id)


def _against_the_rules(request: RedeemRequest, rules: RedeemRules) -> Outcome | None:
    """Return why the rules would not let so much be spent at once; the precedence is that of SPEC.md, section 11."""
    amount, points = request.receipt.amount, request.points
    if points < rules.points_min:
        return Outcome.BELOW_MINIMUM
    if rules.points_max and points > rules.points_max:
        return Outcome.ABOVE_MAXIMUM
    # Where points may pay all of a receipt, one without an amount sets no bound.
    if (amount or rules.share_bp < ALL_BP) and points > amount * rules.share_bp // ALL_BP:
        return Outcome.ABOVE_SHARE
    return None


def _balance(alone: Alone) -> Verdict:
    known = alone.known
    if known is None:
        return declined(Outcome.OFFLINE)
    age_ms = None if alone.server_now_ms is None else max(0, alone.server_now_ms - known.at_ms)
    return Told(encode_body(Outcome.APPROVED, 0, 0, known.balance, (), provisional_detail(age_ms)))
