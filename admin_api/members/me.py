"""What a member sees and does with the chain's site or app: one account, its own."""

from __future__ import annotations

from pydantic import Field

from admin_api.accounts import accounts
from admin_api.accounts.accounts import BalanceView, Expiring
from admin_api.accounts.history import EntryView, page_of
from admin_api.cards.cards import CardView, Reason, block_row
from admin_api.members.member_changes import changed
from admin_api.members.members import MemberChange, MemberView, PersonalGiven, seen
from admin_api.office import Office
from admin_api.paging import Page, Position
from admin_api.problem import not_found
from admin_api.security.actor import Actor
from admin_api.security.reach import check_own
from ledger.registry import cards
from ledger.registry.accounts import EntryFilter


class OwnChange(PersonalGiven):
    """A change of one's own data, made by somebody who has seen this version of them."""

    version: int = Field(ge=1)


async def own_data(office: Office, actor: Actor) -> MemberView:
    """Return what is known of the member. Raises a Problem (403, 404)."""
    return await seen(office, actor, check_own(actor))


async def change_own_data(office: Office, actor: Actor, asked: OwnChange) -> MemberView:
    """Change the member's data and return them. Raises a Problem (403, 404, 409, 422)."""
    account = check_own(actor)
    await changed(office, actor, account, MemberChange(**asked.model_dump(exclude_unset=True)))
    return await seen(office, actor, account)


async def own_balance(office: Office, actor: Actor) -> BalanceView:
    """Return the member's balance."""
    account = check_own(actor)
    async with office.registry.reading() as transaction:
        own = await accounts.own_state(transaction, account)
    return accounts.balance_now(office, own)


async def own_expiring(office: Office, actor: Actor) -> list[Expiring]:
    """Return what expires when, soonest first."""
    account = check_own(actor)
    async with office.registry.reading() as transaction:
        own = await accounts.own_state(transaction, account)
    return accounts.expiring_of(office, own)


async def own_entries(office: Office, actor: Actor, wanted: EntryFilter, position: Position) -> Page[EntryView]:
    """Return what happened, newest first, without the names of the operators."""
    return await page_of(office, check_own(actor), wanted, position, with_askers=False)


async def own_cards(office: Office, actor: Actor) -> list[CardView]:
    """Return the member's cards."""
    account = check_own(actor)
    async with office.registry.reading() as transaction:
        return [CardView.of(row) for row in await cards.of_accounts(transaction, [account])]


async def block_own_card(office: Office, actor: Actor, ref: str, request_id: bytes, reason: Reason) -> CardView:
    """Stop one of the member's cards. Raises a Problem (403, 404)."""
    account = check_own(actor)
    async with office.registry.reading() as transaction:
        rows = await cards.by_tokens(transaction, [bytes.fromhex(ref)])
    if not rows or rows[0]["account_id"] != account:
        raise not_found("such card")
    return await block_row(office, actor, rows[0], request_id, reason)
