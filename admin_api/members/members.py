"""Members: who stands behind an account. Personal data are encrypted, each look and each change is written down."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from admin_api.accounts.accounts import own_state
from admin_api.cards.cards import CardView, KindName, card_of, hashes_for, link
from admin_api.deeds import step
from admin_api.fields import Asked
from admin_api.office import Office
from admin_api.problem import Problem, conflict, invalid, not_found
from admin_api.security.actor import Actor
from admin_api.security.auditing import audited
from admin_api.security.permissions import Permission
from admin_api.security.reach import check_reach
from ledger.journal.enrolment import NewCard
from ledger.registry import cards, deeds, members
from ledger.registry.personal import FIELDS, PersonalData, PersonalFields, tidied
from ledger.registry.registry import Row, Transaction
from ledger.registry.secrecy import Unreadable
from ledger.states import CLOSED

CHANGES_MAX = 200
_FOUND_MAX = 50
_CREATE = "member.create"
_TEXT_MAX = 400

AccountId = Annotated[int, Field(ge=1, le=2**48 - 1)]
StoreId = Annotated[int, Field(ge=1, le=2**31 - 1, description="The store in which it happened.")]
PhoneCard = Literal["replaced", "unlinked", "kept"]
Text = Annotated[str, Field(max_length=_TEXT_MAX)]


class PersonalGiven(Asked):
    """What a member tells. What is left out stays as it is; null takes it away."""

    given_name: Text | None = None
    family_name: Text | None = None
    phone: Text | None = Field(None, description='E.164, as in "+4915112345678"; separators are taken out.')
    email: Text | None = None
    birthday: Text | None = Field(None, description='As in "1990-12-31".')
    language: Text | None = Field(None, description='As in "en" or "pt-BR".')
    consents: dict[Text, bool | None] = Field({}, max_length=64, description='As in {"marketing": true}.')
    attributes: dict[Text, Text | None] = Field({}, max_length=64, description="Whatever else is kept of members.")

    def applied_to(self, before: PersonalFields) -> PersonalFields:
        """Return the fields with what is given. Of consents and attributes only those named change."""
        values = {name: getattr(before, name) for name in FIELDS}
        for name in self.model_fields_set & set(FIELDS):
            given = getattr(self, name)
            if isinstance(given, dict):
                merged = {**values[name], **given}
                given = {key: value for key, value in merged.items() if value is not None}
            values[name] = given
        return PersonalFields(**values)


class MemberCard(Asked):
    """A card that the member has in hand."""

    kind: KindName
    number: str = Field(max_length=256)


class MemberAsked(Asked):
    """A member to register: with an account that is there, with that of one of the cards, or with a new one."""

    personal: PersonalGiven
    cards: list[MemberCard] = Field([], max_length=16)
    phone_as_card: bool = Field(False, description="Let the phone number work as a card.")
    account_id: AccountId | None = None
    store_id: StoreId | None = None


class MemberChange(PersonalGiven):
    """A change of personal data, made by somebody who has seen this version of them."""

    version: int = Field(ge=1)
    store_id: StoreId | None = None


class MemberView(BaseModel):
    """What is known of a member. `readable` is false for data that were encrypted under another key."""

    account_id: int
    version: int
    created_ms: int
    changed_ms: int
    erased_ms: int | None
    readable: bool
    given_name: str | None
    family_name: str | None
    phone: str | None
    email: str | None
    birthday: str | None
    language: str | None
    consents: dict[str, bool]
    attributes: dict[str, str]


class Created(BaseModel):
    """A registered member. `not_linked` are cards that somebody else's account got first, with the ledger's reason."""

    account_id: int
    version: int
    cards: list[CardView]
    not_linked: list[str]


class Changed(BaseModel):
    """A changed member. `phone_card` says what became of the phone number as a card, if it was one.

    "replaced": the new number works instead of the old one; "unlinked": the old one works no more, and the new one, if
    there is any, is somebody else's; "kept": the new number worked before.
    """

    account_id: int
    version: int
    phone_card: PhoneCard | None


class ChangeView(BaseModel):
    """One change: who, when, in which store, which fields, and what they were (null once erased)."""

    at_ms: int
    actor: str
    actor_name: str | None
    store_id: int | None
    store: str | None
    fields: list[str]
    before: dict[str, Any] | None


class Found(BaseModel):
    """An account that was found. Without the right to see members there is no name, and a search by cards only."""

    account_id: int
    given_name: str | None
    family_name: str | None
    erased: bool
    cards: list[CardView]


def personal_data(office: Office) -> PersonalData:
    """Return the way to personal data."""
    return PersonalData(office.keys.personal_key)


def tidy(office: Office, given: PersonalFields) -> PersonalFields:
    """Return the fields as they are stored. Raises a Problem (422) that names the wrong ones and repeats no value."""
    today = datetime.fromtimestamp(office.clock.now_ms() / 1000, UTC).date()
    fields, faults = tidied(given, today)
    if faults:
        raise invalid("; ".join(f"{name} {what}" for name, what in faults), *faults)
    return fields


def fields_of(office: Office, row: Row) -> PersonalFields:
    """Return the personal data of a row. Raises Unreadable."""
    data = personal_data(office)
    account, stored, greeting = row["account_id"], row["data"], row["greeting"]
    if stored is not None:
        return data.decrypt(account, stored)
    return PersonalFields(given_name=None if greeting is None else data.greeted(account, greeting))


async def member_of(office: Office, actor: Actor, account: int) -> MemberView:
    """Return what is known of a member; the look is written down. Raises a Problem (404)."""
    check_reach(actor, Permission.MEMBERS_READ)
    return await seen(office, actor, account)


async def seen(office: Office, actor: Actor, account: int) -> MemberView:
    """Return what is known of a member to somebody who may see it; the look is written down."""
    async with office.registry.writing() as transaction:
        row = await members.member(transaction, account)
        if row is None:
            raise not_found(f"member {account}")
        await audited(office, actor, transaction, "member.look", f"member:{account}", account=account)
    readable, fields = True, PersonalFields()
    try:
        fields = fields_of(office, row)
    except Unreadable:
        readable = False
    return MemberView(
        readable=readable,
        **{name: row[name] for name in ("account_id", "version", "created_ms", "changed_ms", "erased_ms")},
        **{name: getattr(fields, name) for name in FIELDS},
    )


async def changes_of(office: Office, actor: Actor, account: int) -> list[ChangeView]:
    """Return the last changes of a member, newest first; the look is written down."""
    check_reach(actor, Permission.MEMBERS_READ)
    data = personal_data(office)
    async with office.registry.writing() as transaction:
        rows = await members.changes(transaction, account, CHANGES_MAX)
        await audited(office, actor, transaction, "member.look_changes", f"member:{account}", account=account)
    return [_change_view(data, account, row) for row in rows]


def _change_view(data: PersonalData, account: int, row: Row) -> ChangeView:
    before = None
    if row["before"] is not None:
        try:
            before = data.decrypt_values(account, row["before"])
        except Unreadable:
            before = None
    names = ("at_ms", "actor", "actor_name", "store_id", "fields")
    return ChangeView(before=before, store=row["store_name"], **{name: row[name] for name in names})


async def search(office: Office, actor: Actor, text: str) -> list[Found]:
    """Return accounts that somebody may mean by a card, a phone number, an e-mail address or a name."""
    check_reach(actor, Permission.CARDS_READ)
    personal = actor.may(Permission.MEMBERS_READ)
    async with office.registry.writing() as transaction:
        rows = await cards.by_tokens(transaction, hashes_for(office, text))
        accounts = [row["account_id"] for row in rows]
        hashes = personal_data(office).lookup_for(text) if personal else []
        if hashes:
            accounts += await members.find(transaction, hashes, _FOUND_MAX)
        accounts = list(dict.fromkeys(accounts))[:_FOUND_MAX]
        people = {row["account_id"]: row for row in await members.members(transaction, accounts)} if personal else {}
        theirs = await cards.of_accounts(transaction, accounts)
        if people:
            await audited(
                office, actor, transaction, "member.search", "members", detail={"accounts": sorted(people)}
            )  # fmt: skip
    return [_found(office, account, people.get(account), theirs) for account in accounts]


def _found(office: Office, account: int, row: Row | None, rows: list[Row]) -> Found:
    fields = PersonalFields()
    if row is not None:
        try:
            fields = fields_of(office, row)
        except Unreadable:
            fields = PersonalFields()
    return Found(
        account_id=account,
        given_name=fields.given_name,
        family_name=fields.family_name,
        erased=row is not None and row["erased_ms"] is not None,
        cards=[CardView.of(card) for card in rows if card["account_id"] == account],
    )


async def create(office: Office, actor: Actor, asked: MemberAsked, request_id: bytes) -> Created:
    """Register a member. Repeated under the same request id, it goes on where it stopped."""
    check_reach(actor, Permission.MEMBERS_WRITE)
    fields = tidy(office, asked.personal.applied_to(PersonalFields()))
    wanted = [card_of(office, card.kind, card.number) for card in asked.cards]
    if asked.phone_as_card:
        if fields.phone is None:
            raise invalid("phone_as_card needs a phone")
        wanted.append(card_of(office, "phone", fields.phone))
    async with office.registry.writing() as transaction:
        account = await deeds.noted_alone(transaction, request_id, _CREATE)
        if account is None:
            account = await _register(office, actor, transaction, asked, fields, wanted, request_id)
    not_linked = await _link_all(office, actor, account, wanted, request_id)
    async with office.registry.reading() as transaction:
        rows = await cards.of_accounts(transaction, [account])
    return Created(account_id=account, version=1, cards=[CardView.of(row) for row in rows], not_linked=not_linked)


async def _register(
    office: Office, actor: Actor, transaction: Transaction, asked: MemberAsked, fields: PersonalFields,
    wanted: list[NewCard], request_id: bytes,
) -> int:  # fmt: skip
    now_ms = office.clock.now_ms()
    account = await _home(transaction, asked.account_id, wanted, now_ms)
    data = personal_data(office)
    stored = members.Stored(data.encrypt(account, fields), data.greeting(account, fields))
    if not await members.add(transaction, account, stored, now_ms):
        raise conflict(f"account {account} has a member already, or had one who was erased")
    await members.swap_lookups(transaction, account, [], data.lookups(fields))
    made = members.Change(now_ms, actor.name, asked.store_id, sorted(fields.told()), None)
    await members.note_change(transaction, account, made)
    await audited(
        office, actor, transaction, _CREATE, f"member:{account}", account=account, store_id=asked.store_id,
        request_id=request_id, detail={"fields": sorted(fields.told()), "cards": len(wanted)},
    )  # fmt: skip
    return account


async def _home(transaction: Transaction, named: int | None, wanted: list[NewCard], now_ms: int) -> int:
    """Return the account that the member gets. Raises a Problem (404, 409)."""
    rows = await cards.by_tokens(transaction, [card.token for card in wanted])
    if named is not None and (await own_state(transaction, named)).state.status == CLOSED:
        raise conflict(f"account {named} is part of another one")
    foreign = [row for row in rows if row["account_id"] != named]
    if any(row["taken"] for row in foreign):
        raise conflict("one of the cards belongs to another member")
    # A card that was issued and never used comes along; one that has been used has an account of its own.
    used = {row["account_id"] for row in foreign if row["status"] or not row["pristine"]}
    if len(used) > (named is None):
        raise conflict("the cards belong to different accounts: register one of them, then merge the others into it")
    if named is not None:
        return named
    if used:
        return int(used.pop())
    if rows:
        return int(rows[0]["account_id"])
    return await cards.open_account(transaction, wanted[0] if wanted else None, now_ms)


async def _link_all(office: Office, actor: Actor, account: int, wanted: list[NewCard], request_id: bytes) -> list[str]:
    """Let all cards work on the account; return those that did not come, masked, with the reason."""
    not_linked = []
    for card in wanted:
        async with office.registry.reading() as transaction:
            rows = await cards.by_tokens(transaction, [card.token])
        if rows and rows[0]["account_id"] == account and rows[0]["status"]:
            continue
        try:
            await link(office, actor, account, card, step(request_id, card.token))
        except Problem as problem:
            if "outcome" not in problem.body:
                raise
            not_linked.append(f"{card.masked} {problem.body['outcome']}")
    return not_linked
