"""Changes of members: their data, their phone number as a card, and the end of both."""

from __future__ import annotations

from functools import partial

from admin_api.cards.card_numbers import ACTIVE, ISSUED
from admin_api.cards.cards import card_of, link
from admin_api.deeds import Deed, do, step
from admin_api.members.members import Changed, MemberChange, PhoneCard, fields_of, personal_data, tidy
from admin_api.office import Office
from admin_api.problem import Problem, conflict, invalid, not_found, unavailable
from admin_api.security.actor import Actor
from admin_api.security.auditing import audited
from admin_api.security.permissions import Permission
from admin_api.security.reach import check_reach
from ledger.registry import cards, deeds, members
from ledger.registry.personal import PersonalFields
from ledger.registry.registry import Row, Transaction
from ledger.registry.secrecy import Unreadable
from protocol.codes import CardKind

#: So often the phone numbers that are linked to a member who is being erased are taken away.
_ROUNDS = 8
_PHONE, _WORKING, _BLOCKED = CardKind.PHONE, (ISSUED, ACTIVE), 2


async def change(office: Office, actor: Actor, account: int, asked: MemberChange) -> Changed:
    """Change a member's data. Raises a Problem (404, 409 if somebody else changed them meanwhile, 422)."""
    check_reach(actor, Permission.MEMBERS_WRITE)
    return await changed(office, actor, account, asked)


async def changed(office: Office, actor: Actor, account: int, asked: MemberChange) -> Changed:
    """Change the data of a member for somebody who may do so.

    The phone card goes first: should the process die before the data are written, then the same change can be asked
    for again, and the ledger knows that it has done its part.
    """
    async with office.registry.reading() as transaction:
        row = _of_version(await members.member(transaction, account), account, asked.version)
        rows = await cards.of_accounts(transaction, [account])
    phone_tokens = [card["token"] for card in rows if card["kind"] == _PHONE and card["status"] in _WORKING]
    before = _readable(office, row)
    after = tidy(office, asked.applied_to(before))
    phone_card = None
    if after.phone != before.phone and phone_tokens:
        if actor.account is not None and after.phone is not None:
            # Whoever names a number here would be given it as a card, and nothing shows that it is his own.
            raise conflict("this number works as a card: whoever proved that the new one is the member's changes it")
        phone_card = await _move_phone(office, actor, account, phone_tokens, before, after, asked.version)
    async with office.registry.writing() as transaction:
        row = _of_version(await members.member_for_change(transaction, account), account, asked.version)
        version = await _write(office, actor, transaction, account, before, after, asked.store_id)
    return Changed(account_id=account, version=version, phone_card=phone_card)


async def _write(
    office: Office, actor: Actor, transaction: Transaction, account: int, before: PersonalFields,
    after: PersonalFields, store_id: int | None,
) -> int:  # fmt: skip
    data, now_ms = personal_data(office), office.clock.now_ms()
    fields = after.changed_from(before)
    stored = members.Stored(data.encrypt(account, after), data.greeting(account, after))
    version = await members.change(transaction, account, stored, now_ms)
    await members.swap_lookups(transaction, account, data.lookups(before), data.lookups(after))
    was = data.encrypt_values(account, {name: getattr(before, name) for name in fields})
    await members.note_change(transaction, account, members.Change(now_ms, actor.name, store_id, fields, was))
    await audited(
        office, actor, transaction, "member.change", f"member:{account}", account=account, store_id=store_id,
        detail={"fields": fields},
    )  # fmt: skip
    return version


async def _move_phone(
    office: Office, actor: Actor, account: int, tokens: list[bytes], before: PersonalFields, after: PersonalFields,
    version: int,
) -> PhoneCard:  # fmt: skip
    """Let the new number work as a card and take the old one from the account; return what became of it.

    Each is one request of its own, the new number first: whoever dies in between, the same change asked for again finds
    the number that works, and takes the old one away.
    """
    new = None if after.phone is None else card_of(office, "phone", after.phone)
    former = None if before.phone is None else card_of(office, "phone", before.phone).token
    about = (account.to_bytes(8, "big"), version.to_bytes(8, "big"))
    works = new is not None and new.token in tokens
    old = former if former in tokens else None if works else tokens[0]
    if new is not None and not works:
        try:
            await link(office, actor, account, new, step(b"phone", *about, new.token))
        except Problem as problem:
            # The number works for somebody else, or did for this member and was blocked: it is data now, and no card.
            if problem.body.get("outcome") != "CARD_IN_USE":
                raise
        else:
            works = True
    if old is None:
        return "kept"
    await _unlink_phone(office, actor, account, old, step(b"phone-off", *about, old))
    return "replaced" if works else "unlinked"


async def link_phone(office: Office, actor: Actor, account: int, request_id: bytes) -> None:
    """Let the phone number that a member told work as a card. Raises a Problem (404, 409)."""
    check_reach(actor, Permission.MEMBERS_WRITE)
    async with office.registry.reading() as transaction:
        row = _of_version(await members.member(transaction, account), account, None)
    phone = _readable(office, row).phone
    if phone is None:
        raise invalid("the member told no phone number")
    card = card_of(office, "phone", phone)
    async with office.registry.reading() as transaction:
        rows = await cards.by_tokens(transaction, [card.token])
        begun = await deeds.noted(transaction, request_id, "card.unblock") is not None
    blocked = any(row["account_id"] == account and row["status"] == _BLOCKED for row in rows)
    if not (blocked or begun):
        await link(office, actor, account, card, request_id)
        return
    # The member took it away and wants it back.
    deed = Deed("card.unblock", f"card:{card.token.hex()}", request_id, account)
    await do(office, actor, deed, partial(office.desk.unblock, request_id, card.token, "phone"))


async def erase(office: Office, actor: Actor, account: int, request_id: bytes) -> None:
    """Forget everything that a member told; account, balance and journal stay. Erasing again changes nothing.

    First the phone cards are taken from the account, which the ledger must do, so that the numbers may be anybody's;
    then everything else goes in one transaction. If the process dies in between, nothing has been forgotten that a
    repetition needs.
    """
    check_reach(actor, Permission.MEMBERS_ERASE)
    for turn in range(_ROUNDS):
        async with office.registry.writing() as transaction:
            row = await members.member_for_change(transaction, account)
            if row is None:
                raise not_found(f"member {account}")
            left = await members.phone_cards(transaction, account)
            if not left:
                if row["erased_ms"] is None:
                    await audited(
                        office, actor, transaction, "member.erase", f"member:{account}", account=account,
                        request_id=request_id,
                    )  # fmt: skip
                    made = members.Change(office.clock.now_ms(), actor.name, None, ["erased"], None)
                    await members.note_change(transaction, account, made)
                await members.erase(transaction, account, office.clock.now_ms())
                return
        for card in left:
            await _unlink_phone(office, actor, account, card["token"], step(request_id, card["token"], bytes((turn,))))
    raise unavailable("phone numbers keep being linked to this account; try again")


async def _unlink_phone(office: Office, actor: Actor, account: int, token: bytes, request_id: bytes) -> None:
    deed = Deed("card.unlink", f"card:{token.hex()}", request_id, account, detail={"reason": "phone"})
    try:
        await do(office, actor, deed, lambda: office.desk.unlink(request_id, account, token, "phone"))
    except Problem as problem:
        # Somebody else has taken it away meanwhile.
        if problem.body.get("outcome") != "UNKNOWN_CARD":
            raise


def _of_version(row: Row | None, account: int, version: int | None) -> Row:
    if row is None:
        raise not_found(f"member {account}")
    if row["erased_ms"] is not None:
        raise conflict("the member was erased on request")
    if version is not None and row["version"] != version:
        raise conflict("somebody changed the member meanwhile: look again", version=row["version"])
    return row


def _readable(office: Office, row: Row) -> PersonalFields:
    try:
        return fields_of(office, row)
    except Unreadable:
        raise conflict("the data were encrypted under another key and cannot be read") from None
