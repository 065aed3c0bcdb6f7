"""Cards: found by whatever is shown, issued, and changed through the ledger. No number is stored, logged or told back.

A card goes by its reference, the keyed hash of its number in hexadecimal: it says nothing to whoever has not the key.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from enum import StrEnum
from functools import partial
from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, model_validator

from admin_api.cards.card_numbers import DIGITS, Series, new_card
from admin_api.deeds import Deed, do
from admin_api.fields import Asked
from admin_api.office import Office
from admin_api.problem import conflict, invalid, not_found
from admin_api.security.actor import Actor
from admin_api.security.auditing import audited
from admin_api.security.permissions import Permission
from admin_api.security.reach import check_reach
from ledger.card_tokens import token_hash
from ledger.journal.enrolment import NewCard
from ledger.operator_desk import Decided
from ledger.registry import cards, deeds
from ledger.registry.registry import Row
from ledger.registry.secrecy import derived_key
from protocol.codes import BlockReason, CardKind
from protocol.tokens import BadCard, canonical

KindName = Literal["ean13", "pan", "phone", "virtual"]
StatusName = Literal["issued", "active", "blocked", "replaced"]
Prefix = Annotated[str, Field(max_length=20, pattern=r"^[A-Za-z0-9_-]*$")]
Ref = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$", description="A card's reference: 32 hexadecimal digits.")]

_STATUSES: tuple[StatusName, ...] = ("issued", "active", "blocked", "replaced")
#: The names of the kinds that are stored.
KINDS: dict[int, KindName] = {1: "ean13", 2: "pan", 4: "phone", 5: "virtual"}
_TYPED = re.compile(r"[\s\-\u00a0\u2010-\u2015().]+")
_RUSSIAN_DIGITS = 11
_ATTEMPTS = 16


class Reason(StrEnum):
    """Why a card is blocked (SPEC.md, BLOCK)."""

    OTHER = BlockReason.OTHER.name.lower()
    LOST = BlockReason.LOST.name.lower()
    STOLEN = BlockReason.STOLEN.name.lower()
    DAMAGED = BlockReason.DAMAGED.name.lower()
    FRAUD = BlockReason.FRAUD.name.lower()


def status_name(status: int) -> StatusName:
    """Return the name of a card's status."""
    return _STATUSES[status]


class CardView(BaseModel):
    """A card as operators and members see it; `masked` is the number with its middle hidden."""

    card: str
    account_id: int
    kind: KindName
    masked: str
    status: StatusName
    made_ms: int
    batch_id: int | None
    batch: str | None

    @classmethod
    def of(cls, row: Row) -> Self:
        """Return the view of a row of ledger.registry.cards."""
        return cls(
            card=row["token"].hex(),
            account_id=row["account_id"],
            kind=KINDS[row["kind"]],
            masked=row["masked"].partition(":")[2],
            status=_STATUSES[row["status"]],
            made_ms=row["made_ms"],
            batch_id=row["batch_id"],
            batch=row["batch_name"],
        )


class NumberAsked(Asked):
    """A card to take: its number, or only what the number that is to be drawn begins with."""

    kind: KindName
    number: str | None = Field(None, max_length=256)
    prefix: Prefix | None = None

    @model_validator(mode="after")
    def _either(self) -> Self:
        if (self.number is None) == (self.prefix is None):
            raise ValueError("give either number or prefix")
        if self.prefix is not None:
            check_prefix(CardKind[self.kind.upper()], self.prefix)
        return self


class IssueAsked(Asked):
    """A card to issue: to an account, where it works at once, or free, with an account of its own."""

    card: NumberAsked
    account_id: int | None = Field(None, ge=1, le=2**48 - 1)
    active: bool = True


class Issued(BaseModel):
    """An issued card; `number` is told once, if it was drawn."""

    card: CardView
    number: str | None


def check_prefix(kind: CardKind, prefix: str) -> None:
    """Raise ValueError unless numbers of this kind can begin so."""
    if kind == CardKind.PHONE:
        raise ValueError("phone numbers are not drawn")
    if kind in DIGITS and not (prefix.isdigit() and len(prefix) < DIGITS[kind]):
        raise ValueError(f"the prefix of this kind is 1 to {DIGITS[kind] - 1} digits")


def tokens_for(text: str) -> list[str]:
    """Return the canonical tokens that a text may be: somebody typed it, swiped it or read it out."""
    typed = _TYPED.sub("", text)
    tries = [
        (CardKind.EAN13, typed), (CardKind.PAN, typed), (CardKind.TRACK, text), (CardKind.PHONE, typed),
        (CardKind.PHONE, f"+{typed}"), (CardKind.VIRTUAL, text.strip()),
    ]  # fmt: skip
    if typed.startswith("00"):
        tries.append((CardKind.PHONE, f"+{typed[2:]}"))
    if len(typed) == _RUSSIAN_DIGITS and typed.startswith("8"):
        tries.append((CardKind.PHONE, f"+7{typed[1:]}"))
    found = []
    for kind, value in tries:
        try:
            found.append(canonical(kind, value))
        except BadCard:
            continue
    return list(dict.fromkeys(found))


def hashes_for(office: Office, text: str) -> list[bytes]:
    """Return the keyed hashes of those tokens."""
    return [token_hash(token, office.keys.token_key) for token in tokens_for(text)]


def card_of(office: Office, kind: KindName, number: str) -> NewCard:
    """Return an active card of a number. Raises a Problem (422), which does not repeat the number."""
    try:
        return new_card(CardKind[kind.upper()], number.strip(), office.keys.token_key, active=True)
    except BadCard as error:
        raise invalid(error.reason, ("card.number", error.reason)) from None


async def find_cards(office: Office, actor: Actor, text: str) -> list[CardView]:
    """Return the cards that somebody may mean by what was typed or swiped."""
    check_reach(actor, Permission.CARDS_READ)
    async with office.registry.reading() as transaction:
        return [CardView.of(row) for row in await cards.by_tokens(transaction, hashes_for(office, text))]


async def card_by_ref(office: Office, actor: Actor, ref: str) -> CardView:
    """Return one card. Raises a Problem (404)."""
    check_reach(actor, Permission.CARDS_READ)
    return CardView.of(await _row(office, ref))


async def cards_of(office: Office, actor: Actor, account: int) -> list[CardView]:
    """Return the cards of an account, oldest first."""
    check_reach(actor, Permission.CARDS_READ)
    async with office.registry.reading() as transaction:
        return [CardView.of(row) for row in await cards.of_accounts(transaction, [account])]


async def issue(office: Office, actor: Actor, asked: IssueAsked, request_id: bytes) -> Issued:
    """Issue one card. Raises a Problem (404, 409, 422)."""
    check_reach(actor, Permission.CARDS_WRITE)
    card, number = await _taken(office, asked.card, request_id, asked.account_id)
    if asked.account_id is None:
        free = card if asked.active else NewCard(card.token, card.kind, card.masked, 0)
        async with office.registry.writing() as transaction:
            account = await cards.open_account(transaction, free, office.clock.now_ms())
            await audited(
                office, actor, transaction, "card.issue", f"card:{card.token.hex()}", account=account,
                request_id=request_id, detail={"kind": asked.card.kind, "active": asked.active},
            )  # fmt: skip
    else:
        await link(office, actor, asked.account_id, card, request_id)
    return Issued(card=CardView.of(await _row(office, card.token.hex())), number=number)


async def link(office: Office, actor: Actor, account: int, card: NewCard, request_id: bytes) -> None:
    """Let a card lead to an account; one of the account's own that was issued only begins to work."""
    async with office.registry.reading() as transaction:
        if not await cards.has_account(transaction, account):
            raise not_found(f"account {account}")
        rows = await cards.by_tokens(transaction, [card.token])
        begun = await deeds.noted(transaction, request_id, "card.activate") is not None
    issued = any(row["account_id"] == account and row["status"] == 0 for row in rows)
    deed = partial(Deed, subject=f"card:{card.token.hex()}", request_id=request_id, account=account)
    if issued or begun:
        await do(office, actor, deed("card.activate"), lambda: office.desk.activate(request_id, card.token))
    else:
        await do(office, actor, deed("card.link"), lambda: office.desk.link(request_id, account, card))


async def activate(office: Office, actor: Actor, ref: str, request_id: bytes) -> CardView:
    """Let an issued card begin to work."""
    return await _change(office, actor, "card.activate", ref, request_id, office.desk.activate)


async def block(office: Office, actor: Actor, ref: str, request_id: bytes, reason: Reason) -> CardView:
    """Stop a card."""
    return await _change(office, actor, "card.block", ref, request_id, office.desk.block, reason)


async def unblock(office: Office, actor: Actor, ref: str, request_id: bytes) -> CardView:
    """Let a blocked card work again."""
    return await _change(office, actor, "card.unblock", ref, request_id, office.desk.unblock)


async def unlink(office: Office, actor: Actor, ref: str, request_id: bytes) -> None:
    """Take a card from its account, which lives on, so that any account may get it."""
    check_reach(actor, Permission.CARDS_WRITE)
    async with office.registry.reading() as transaction:
        account = await deeds.noted(transaction, request_id, "card.unlink")
    # Once it is done there is no card any more to tell which account it was.
    account = (await _row(office, ref))["account_id"] if account is None else account
    deed = Deed("card.unlink", f"card:{ref}", request_id, account)
    await do(office, actor, deed, lambda: office.desk.unlink(request_id, account, bytes.fromhex(ref)))


async def replace(
    office: Office, actor: Actor, ref: str, asked: NumberAsked, request_id: bytes, reason: Reason
) -> Issued:
    """Put a new card in the place of an old one; account, balance and history stay."""
    check_reach(actor, Permission.CARDS_WRITE)
    old = await _row(office, ref)
    new, number = await _taken(office, asked, request_id, old["account_id"])
    detail = {"reason": reason.value, "new": new.token.hex()}
    deed = Deed("card.replace", f"card:{ref}", request_id, old["account_id"], detail=detail)
    await do(office, actor, deed, lambda: office.desk.replace(request_id, old["token"], new, reason.value))
    return Issued(card=CardView.of(await _row(office, new.token.hex())), number=number)


async def _change(
    office: Office,
    actor: Actor,
    action: str,
    ref: str,
    request_id: bytes,
    ask: Callable[[bytes, bytes, str], Awaitable[Decided]],
    reason: Reason | None = None,
) -> CardView:
    check_reach(actor, Permission.CARDS_WRITE)
    return await _changed(office, actor, action, await _row(office, ref), request_id, ask, reason)


async def block_row(office: Office, actor: Actor, row: Row, request_id: bytes, reason: Reason) -> CardView:
    """Stop a card for somebody who may do so."""
    return await _changed(office, actor, "card.block", row, request_id, office.desk.block, reason)


async def _changed(
    office: Office,
    actor: Actor,
    action: str,
    row: Row,
    request_id: bytes,
    ask: Callable[[bytes, bytes, str], Awaitable[Decided]],
    reason: Reason | None,
) -> CardView:
    ref = row["token"].hex()
    detail = {} if reason is None else {"reason": reason.value}
    deed = Deed(action, f"card:{ref}", request_id, row["account_id"], detail=detail)
    await do(office, actor, deed, lambda: ask(request_id, row["token"], "" if reason is None else reason.value))
    return CardView.of(await _row(office, ref))


async def _row(office: Office, ref: str) -> Row:
    async with office.registry.reading() as transaction:
        rows = await cards.by_tokens(transaction, [bytes.fromhex(ref)])
    if not rows:
        raise not_found("such card")
    return rows[0]


async def _taken(
    office: Office, asked: NumberAsked, request_id: bytes, account: int | None
) -> tuple[NewCard, str | None]:
    """Return the card that is asked for, and its number if it was drawn: for the same request always the same one."""
    if asked.number is not None:
        return card_of(office, asked.kind, asked.number), None
    seed = derived_key(office.keys.token_key, b"drawn" + request_id)
    series = Series(CardKind[asked.kind.upper()], asked.prefix or "", 0, scattered=True, seed=seed)
    for place in range(min(_ATTEMPTS, series.size)):
        number = series.number(place)
        card = card_of(office, asked.kind, number)
        async with office.registry.reading() as transaction:
            rows = await cards.by_tokens(transaction, [card.token])
        # A card of this very account, which nobody else can have drawn: this request has been under way before.
        if not rows or (account is not None and rows[0]["account_id"] == account):
            return card, number
    raise conflict("no free number was found; give a shorter prefix")
