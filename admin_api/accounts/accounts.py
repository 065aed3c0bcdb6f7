"""Accounts as they stand: balance, lots, open holds, cards; and what operators do to a whole account."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import date
from functools import cache
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel

from admin_api.cards.cards import CardView
from admin_api.deeds import Deed, do
from admin_api.fields import Asked, Line
from admin_api.office import Office
from admin_api.problem import not_found
from admin_api.security.actor import Actor
from admin_api.security.permissions import Permission
from admin_api.security.reach import check_reach
from ledger.decision import Decider
from ledger.operations import Operation
from ledger.operator_desk import Decided
from ledger.positional import positional
from ledger.registry import accounts, cards
from ledger.registry.registry import Row, Transaction
from ledger.states import State
from ledger.submission import Refusal, Submission

EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_NO_TERMS = (0,) * 9
_NO_CARD = bytes(16)
_STATUSES: tuple[Literal["active", "blocked", "closed"], ...] = ("active", "blocked", "closed")

#: Why something is done; it is kept, so it holds no personal data.
ReasonText = Line


class Because(Asked):
    """Why something is done to an account."""

    reason: ReasonText


class BalanceView(BaseModel):
    """What a register would be told now, in minor points; `expiring_on` is the last day of those that expire next."""

    available: int
    held: int
    pending: int
    owed: int
    expiring: int
    expiring_on: str | None


class LotView(BaseModel):
    """Points that become spendable on one day and expire after another (null: never)."""

    from_day: str
    until_day: str | None
    free: int
    held: int


class HoldView(BaseModel):
    """Points set aside, since when, until when, and where; null where the journal does not say."""

    hold_id: str
    points: int
    amount: int
    until_ms: int
    since_ms: int | None
    network: str | None
    store: str | None
    terminal: str | None


class AccountView(BaseModel):
    """An account. After it was merged into another one it is closed and empty, and that one has everything."""

    account_id: int
    status: Literal["active", "blocked", "closed"]
    merged_into: int | None
    entries: int
    balance: BalanceView
    lots: list[LotView]
    holds: list[HoldView]
    cards: list[CardView]


class Expiring(BaseModel):
    """Points whose last day this is."""

    on: str
    points: int


class Own(NamedTuple):
    """An account's head with its state unpacked, as of one moment."""

    row: Row
    state: State


def iso_day(day: int) -> str:
    """Return a day since 1970 as an ISO date."""
    return date.fromordinal(EPOCH_ORDINAL + day).isoformat()


def iso_end(day: int) -> str | None:
    """Return the last day of points; 0 stands for no end."""
    return iso_day(day) if day else None


def day_of(iso: str) -> int:
    """Return days since 1970 of an ISO date. Raises ValueError."""
    return date.fromisoformat(iso).toordinal() - EPOCH_ORDINAL


async def account_of(office: Office, actor: Actor, account: int) -> AccountView:
    """Return an account as it stands. Raises a Problem (404)."""
    check_reach(actor, Permission.ACCOUNTS_READ)
    async with office.registry.reading() as transaction:
        own = await own_state(transaction, account)
        theirs = await cards.of_accounts(transaction, [account])
        holds = await accounts.places(transaction, [hold[0] for hold in own.state.holds])
    row, state = own
    return AccountView(
        account_id=account,
        status=_STATUSES[state.status],
        merged_into=row["merged_into"],
        entries=row["seq"],
        balance=balance_now(office, own),
        lots=[
            LotView(from_day=iso_day(start), until_day=iso_end(until), free=free, held=held)
            for start, until, free, held in state.lots
        ],
        holds=[_hold(hold, holds.get(hold[0])) for hold in state.holds],
        cards=[CardView.of(card) for card in theirs],
    )


def _hold(hold: list[Any], place: Row | None) -> HoldView:
    hold_id, until_ms, amount, alloc = hold[:4]
    return HoldView(
        hold_id=hold_id.hex(),
        points=sum(part[2] for part in alloc),
        amount=amount,
        until_ms=until_ms,
        since_ms=None if place is None else place["at_ms"],
        **{name: None if place is None else place[name] for name in ("network", "store", "terminal")},
    )


async def own_state(transaction: Transaction, account: int) -> Own:
    """Return an account's head. Raises a Problem (404)."""
    row = await accounts.head(transaction, account)
    if row is None:
        raise not_found(f"account {account}")
    return Own(row, State.unpacked(row["state"]))


def balance_now(office: Office, own: Own) -> BalanceView:
    """Return the balance as the decision itself measures it, with what is due to expire by now."""
    # A decline (no card was shown) tells the balance all the same.
    result = decided(office, own.row["state"], Operation.BALANCE)
    available, held, pending, owed, expiring, expiring_day = result[4]
    return BalanceView(
        available=available, held=held, pending=pending, owed=owed, expiring=expiring,
        expiring_on=iso_end(expiring_day),
    )  # fmt: skip


def decided(
    office: Office, state: bytes, op: Operation, terms: tuple[int, ...] = _NO_TERMS, **fields: Any
) -> list[Any]:
    """Return what a request would be decided now, without any effect; `fields` are those of a Submission."""
    now_ms = office.clock.now_ms()
    question = Submission(
        op=int(op), request_id=bytes(16), token=fields.pop("token", _NO_CARD), terminal_id=0, partner_id=0,
        network_id=0, fingerprint=b"", terms=terms, deadline=0.0, reply_to=_Nobody(), **fields,
    )  # fmt: skip
    result, _ = _decider().decide(state, positional(question, now_ms, office.programme.day(now_ms)), terms)
    return result


def expiring_of(office: Office, own: Own) -> list[Expiring]:
    """Return what expires when, soonest first, as far as it is free and not expired yet."""
    today = office.programme.day(office.clock.now_ms())
    days: dict[int, int] = {}
    for _, until, free, _ in own.state.lots:
        if until >= today and free:
            days[until] = days.get(until, 0) + free
    return [Expiring(on=iso_day(day), points=points) for day, points in sorted(days.items())]


async def release(office: Office, actor: Actor, account: int, hold_id: bytes, request_id: bytes, reason: str) -> None:
    """Free what a hold holds."""
    detail = {"reason": reason, "hold": hold_id.hex()}
    await _do(office, actor, Deed("hold.release", f"account:{account}", request_id, account, detail=detail),
              lambda: office.desk.release(request_id, account, hold_id, "office"))  # fmt: skip


async def block(office: Office, actor: Actor, account: int, request_id: bytes, reason: str) -> None:
    """Stop an account with all its cards."""
    deed = Deed("account.block", f"account:{account}", request_id, account, detail={"reason": reason})
    await _do(office, actor, deed, lambda: office.desk.block_account(request_id, account, "office"))


async def unblock(office: Office, actor: Actor, account: int, request_id: bytes, reason: str) -> None:
    """Let a blocked account work again."""
    deed = Deed("account.unblock", f"account:{account}", request_id, account, detail={"reason": reason})
    await _do(office, actor, deed, lambda: office.desk.unblock_account(request_id, account, "office"))


async def _do(office: Office, actor: Actor, deed: Deed, ask: Callable[[], Awaitable[Decided]]) -> None:
    check_reach(actor, Permission.ACCOUNTS_WRITE)
    await check_account(office, deed.account or 0)
    await do(office, actor, deed, ask)


async def check_account(office: Office, account: int) -> None:
    """Raise a Problem (404) unless there is such an account."""
    async with office.registry.reading() as transaction:
        if not await cards.has_account(transaction, account):
            raise not_found(f"account {account}")


@cache
def _decider() -> Decider:
    # The process has one event loop, and so one thread that decides.
    return Decider()


class _Nobody:
    """Hears no answer: the question never leaves this process."""

    def answer(self, request_id: bytes, body: bytes, *, replayed: bool) -> None:
        """Hear nothing."""

    def refuse(self, request_id: bytes, refusal: Refusal, retry_after_ms: int) -> None:
        """Hear nothing."""
