"""What registers would be told of an account now, by the decision itself: declines leave no trace to look up."""

from __future__ import annotations

from typing import NamedTuple

from admin_api.accounts.accounts import decided, own_state
from admin_api.cards.cards import CardView
from admin_api.office import Office
from admin_api.security.actor import Actor
from admin_api.security.permissions import Permission
from admin_api.security.reach import check_reach
from ledger.operations import Operation
from ledger.registry import cards
from protocol.codes import AMOUNT_MAX, Outcome


class AtNetwork(NamedTuple):
    """How many minor points could be spent at once at a network on a large receipt; `outcome` if none could.

    `least` is the fewest that can be spent at once, `share_bp` the part of a receipt that points may pay (10,000: all).
    """

    network: str
    points: int
    outcome: str | None
    least: int
    share_bp: int


class AtRegister(NamedTuple):
    """The outcome that each card meets now, and what could be spent with one that works, by network."""

    cards: list[tuple[CardView, str]]
    networks: list[AtNetwork]


async def at_register(office: Office, actor: Actor, account: int) -> AtRegister:
    """Return what registers would be told now. Raises a Problem (404)."""
    check_reach(actor, Permission.ACCOUNTS_READ)
    async with office.registry.reading() as transaction:
        own = await own_state(transaction, account)
        rows = await cards.of_accounts(transaction, [account])
    state = own.row["state"]
    told = []
    working = b""
    for row in rows:
        outcome = decided(office, state, Operation.BALANCE, token=row["token"])[1]
        told.append((CardView.of(row), Outcome(outcome).name.lower()))
        if outcome == Outcome.APPROVED:
            working = row["token"]
    return AtRegister(told, _at_networks(office, state, working) if working else [])


def _at_networks(office: Office, state: bytes, token: bytes) -> list[AtNetwork]:
    now_ms = office.clock.now_ms()
    found = []
    for network in sorted(office.programme.networks.values(), key=lambda each: each.name):
        rules = network.rules_at(now_ms)
        _, outcome, points, *_ = decided(
            office, state, Operation.REDEEM, rules.terms, token=token, points=AMOUNT_MAX, amount=AMOUNT_MAX,
            partial=True,
        )  # fmt: skip
        declined = outcome > Outcome.APPROVED_PARTIAL
        found.append(
            AtNetwork(
                network.name, 0 if declined else points, Outcome(outcome).name.lower() if declined else None,
                rules.redeem_min, rules.share_bp,
            )
        )  # fmt: skip
    return found
