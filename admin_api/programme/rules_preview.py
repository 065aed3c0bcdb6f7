"""What rules would do to an example receipt: decided by the ledger's own decision and printed by its own templates."""

from __future__ import annotations

from datetime import date, timedelta
from functools import cache

from pydantic import Field, StrictBool, StrictInt

from admin_api.fields import Asked, Told
from admin_api.office import Office
from admin_api.programme.rules import Change, RulesChange, bad_rules, changes, visible_network
from admin_api.security.actor import Actor
from admin_api.security.permissions import Permission
from ledger.decision import Decider
from ledger.operations import Operation, Outcome
from ledger.positional import positional
from ledger.programme import EPOCH, Programme, Rules
from ledger.registry import rules as registered
from ledger.rules_check import BadRules, check
from ledger.slip import SlipTemplates, TemplateError, calendar_day
from ledger.states import State
from ledger.submission import Refusal, Submission

_AMOUNT_MAX = 100_000_000_000
_YEAR_2000_MS, _YEAR_2100_MS = 946_684_800_000, 4_102_444_800_000
_ACTIVE = 1
_TOKEN = bytes(16)
_NO_DEADLINE_S = 0.0


class Example(Asked):
    """A sale: its receipt, the points to pay with, the member's balance, and when (since 1970; null is now)."""

    amount: StrictInt = Field(ge=0, le=_AMOUNT_MAX, description="Of the receipt, in minor units.")
    eligible: StrictInt | None = Field(
        default=None, ge=0, le=_AMOUNT_MAX, description="Part that earns; null is all of it."
    )
    points: StrictInt = Field(default=0, ge=0, le=_AMOUNT_MAX, description="Points to pay with.")
    partial: StrictBool = Field(default=False, description="Fewer points will do.")
    available: StrictInt = Field(default=0, ge=0, le=_AMOUNT_MAX, description="Points that the member may spend.")
    sale_ms: StrictInt | None = Field(default=None, ge=_YEAR_2000_MS, le=_YEAR_2100_MS)


class PreviewAsked(Asked):
    """Rules to try, as changes of those in force at the time of the sale, on an example."""

    rules: RulesChange = RulesChange()
    example: Example


class ShownBalance(Told):
    """A balance in minor points."""

    available: int
    held: int
    pending: int
    owed: int
    expiring: int
    expiring_on: date | None


class Effect(Told):
    """What a register would be answered to the example; `outcome` is the name in SPEC.md.

    What is earned can be spent from `spendable_from` to `expires_on`, days of the programme's time zone.
    """

    outcome: str
    spent: int
    earned: int
    spendable_from: date
    expires_on: date | None
    balance: ShownBalance
    slip: list[str]


class Preview(Told):
    """The same receipt under the rules to try and under those in force, and how these differ."""

    proposed: Effect
    in_force: Effect
    changes: list[Change]


async def preview(office: Office, actor: Actor, network_id: int, asked: PreviewAsked) -> Preview:
    """Return what would happen; nothing is saved. Raises a Problem: 422 with `fields` for bad rules."""
    actor.check(Permission.RULES_READ)
    example = asked.example
    at_ms = office.clock.now_ms() if example.sale_ms is None else example.sale_ms
    async with office.registry.reading() as transaction:
        await visible_network(transaction, actor, network_id)
        _, in_force = await registered.in_force(transaction, network_id, at_ms)
    proposed = asked.rules.applied(in_force, in_force.valid_from_ms)
    try:
        check(proposed)
    except BadRules as error:
        raise bad_rules(error, "rules.") from None
    return Preview(
        proposed=effect(office.programme, proposed, example, at_ms),
        in_force=effect(office.programme, in_force, example, at_ms),
        changes=changes(in_force, proposed),
    )


def effect(programme: Programme, rules: Rules, example: Example, at_ms: int) -> Effect:
    """Decide the example on a made-up account: its points never expire, neither it nor the terminal spent any today."""
    day = programme.day(at_ms)
    active_day, expiry_day = rules.earning_days(day)
    sale = Submission(
        op=int(Operation.SALE), request_id=_TOKEN, token=_TOKEN, terminal_id=0, partner_id=0, network_id=0,
        fingerprint=b"", terms=rules.terms, deadline=_NO_DEADLINE_S, reply_to=_Nobody(),
        points=example.points, amount=example.amount,
        eligible=-1 if example.eligible is None else example.eligible, partial=example.partial,
        terminal_room=rules.terminal_day_points_max if rules.terminal_day_points_max and example.points else -1,
        active_day=active_day, expiry_day=expiry_day,
    )  # fmt: skip
    lots = [(0, 0, example.available, 0)] if example.available else []
    state = State(1, balance=example.available, lots=lots, tokens={_TOKEN: _ACTIVE})
    result, _ = _decider().decide(state.packed(), positional(sale, at_ms, day), rules.terms)
    _, outcome, points, earned, balance, *_ = result
    available, held, pending, owed, expiring, expiring_day = balance
    shown = (available, held, pending, owed, expiring, calendar_day(expiring_day))
    return Effect(
        outcome=Outcome(outcome).name, spent=points, earned=earned, spendable_from=_date(active_day) or EPOCH,
        expires_on=_date(expiry_day),
        balance=ShownBalance(
            available=available, held=held, pending=pending, owed=owed, expiring=expiring,
            expiring_on=_date(expiring_day),
        ),
        slip=_templates(rules).lines(sale.op, outcome, points, earned, shown),
    )  # fmt: skip


def _templates(rules: Rules) -> SlipTemplates:
    """Return the templates, or none where registers get none either: somebody wrote the rules past every check."""
    try:
        return SlipTemplates(rules.slip)
    except TemplateError:
        return SlipTemplates(())


@cache
def _decider() -> Decider:
    return Decider()


def _date(day: int) -> date | None:
    """Return a day since 1970 as a date; 0 is none, and later than the year 9999 counts as its last day."""
    return EPOCH + timedelta(days=min(day, (date.max - EPOCH).days)) if day else None


class _Nobody:
    """An example is never answered."""

    def answer(self, request_id: bytes, body: bytes, *, replayed: bool) -> None:
        """Take nothing."""

    def refuse(self, request_id: bytes, refusal: Refusal, retry_after_ms: int) -> None:
        """Take nothing."""
