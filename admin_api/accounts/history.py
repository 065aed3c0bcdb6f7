"""The journal of an account, in such words that somebody can read it aloud: what happened, when, where, and by whom."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any, Literal

import orjson
from fastapi import Query
from pydantic import BaseModel

from admin_api.accounts.accounts import check_account
from admin_api.cards.cards import StatusName, status_name
from admin_api.fields import INTEGER_MAX
from admin_api.office import Office
from admin_api.paging import Page, Position
from admin_api.problem import invalid, not_found
from admin_api.security.actor import Actor
from admin_api.security.auditing import audited
from admin_api.security.permissions import Permission
from admin_api.security.reach import check_reach
from ledger.hot_store import unpack
from ledger.operations import Operation
from ledger.registry import accounts, cards
from ledger.registry.accounts import EntryFilter
from ledger.registry.registry import Row, Transaction
from ledger.states import CARD_GONE
from ledger.truth import Standing
from protocol.answers import Answer
from protocol.codes import Outcome

_ROWS_AT_ONCE = 1_000
_BEGINNING = 2**62
_MS_MAX = 2**53

#: What an entry can be: the operations that leave one.
OperationName = Literal[
    "redeem", "hold", "capture", "release", "earn", "sale", "refund", "reverse", "activate", "block", "replace",
    "expire_lots", "expire_hold", "tombstone", "adjust", "unblock", "link", "unlink", "merge_out", "merge_in",
    "block_account", "unblock_account",
]  # fmt: skip
#: What an entry makes of a card.
ChangeName = Literal[StatusName, "gone"]
_NOT_FOUND = (
    "no entry: the request never arrived, or was declined, which leaves no trace in the journal; what was declined by "
    "the minute and store the figures tell"
)


class Wanted:
    """The filters of a list of entries, as they stand in an address."""

    @staticmethod
    def of_query(
        from_ms: Annotated[int | None, Query(ge=0, le=_MS_MAX, description="Not before this moment.")] = None,
        to_ms: Annotated[int | None, Query(ge=0, le=_MS_MAX, description="Before this moment.")] = None,
        operation: Annotated[OperationName | None, Query(description="Only entries of this operation.")] = None,
        store_id: Annotated[int | None, Query(ge=1, le=INTEGER_MAX)] = None,
        terminal_id: Annotated[int | None, Query(ge=1, le=INTEGER_MAX)] = None,
        request_id: Annotated[str | None, Query(pattern=r"^[0-9a-fA-F]{32}$")] = None,
        reference: Annotated[
            str | None, Query(min_length=1, max_length=64, description="Part of the receipt's reference.")
        ] = None,
    ) -> EntryFilter:
        """Return the filter of a query."""
        if reference is not None and not reference.isprintable():
            raise invalid("reference: it has characters that cannot be shown")
        return EntryFilter(
            from_ms, to_ms, None if operation is None else int(Operation[operation.upper()]), store_id, terminal_id,
            None if request_id is None else bytes.fromhex(request_id), reference,
        )  # fmt: skip


class CardChange(BaseModel):
    """What an entry made of a card; "gone": it leads here no more. `masked` is null for one that nobody has."""

    card: str
    masked: str | None
    status: ChangeName


class Asker(BaseModel):
    """The operator who asked for an entry, and why."""

    actor: str
    name: str
    action: str
    reason: str | None


class EntryView(BaseModel):
    """One entry. Points are what changed; the three `..._after` what was there then.

    `standing` is what became of it: stands, reversed, refunded, held, captured, released or expired; null for what no
    request asked for.
    """

    account_id: int
    seq: int
    operation: str
    at_ms: int
    sale_ms: int
    request_id: str | None
    refers_to: str | None
    standing: str | None
    partner: str | None
    network_id: int | None
    network: str | None
    store_id: int | None
    store: str | None
    terminal_id: int | None
    terminal: str | None
    amount: int
    currency: str
    reference: str
    points: int
    spent: int
    earned: int
    expired: int
    held: int
    owed: int
    balance_after: int
    held_after: int
    owed_after: int
    hold_until_ms: int | None
    cards: list[CardChange]
    by: Asker | None


class AnswerView(BaseModel):
    """What the register was told."""

    outcome: str
    points: int
    earned: int
    available: int | None
    slip: list[str]


class RequestView(BaseModel):
    """What became of a request. Without an entry `found` is false and `note` says what that means."""

    request_id: str
    found: bool
    note: str
    standing: str | None = None
    account_id: int | None = None
    entry: EntryView | None = None
    answer: AnswerView | None = None
    family: list[EntryView] = []


async def entries_of(
    office: Office, actor: Actor, account: int, wanted: EntryFilter, position: Position
) -> Page[EntryView]:
    """Return entries of an account, newest first. Raises a Problem (404)."""
    check_reach(actor, Permission.ACCOUNTS_READ)
    return await page_of(office, account, wanted, position, with_askers=True)


async def page_of(
    office: Office, account: int, wanted: EntryFilter, position: Position, *, with_askers: bool
) -> Page[EntryView]:
    """Return entries to somebody who may see them; to a member without the operators' names. Raises a Problem (404)."""
    async with office.registry.reading() as transaction:
        if not await cards.has_account(transaction, account):
            raise not_found(f"account {account}")
        rows = await accounts.entries(transaction, account, wanted, position.number(_BEGINNING), position.rows_max)
        views = await _views(office, transaction, rows, with_askers=with_askers)
    seen = list(zip(rows, views, strict=True))
    return position.page(seen, lambda pair: pair[1], lambda pair: (pair[0]["seq"],))


async def exported(office: Office, actor: Actor, account: int, wanted: EntryFilter) -> AsyncIterator[str]:
    """Return the entries as CSV, in pieces, newest first; the export is written down. Raises a Problem (404)."""
    check_reach(actor, Permission.ACCOUNTS_READ)
    await check_account(office, account)
    async with office.registry.writing() as transaction:
        await audited(office, actor, transaction, "account.export", f"account:{account}", account=account)
    return _lines(office, account, wanted)


async def _lines(office: Office, account: int, wanted: EntryFilter) -> AsyncIterator[str]:
    names = [name for name in EntryView.model_fields if name not in ("cards", "by")]
    yield _csv([[*names, "by", "reason"]])
    before = _BEGINNING
    while True:
        async with office.registry.reading() as transaction:
            rows = await accounts.entries(transaction, account, wanted, before, _ROWS_AT_ONCE)
            views = await _views(office, transaction, rows, with_askers=True)
        if not rows:
            return
        before = rows[-1]["seq"]
        yield _csv(
            [
                [*(_cell(getattr(view, name)) for name in names), *_cells_of(view.by)]
                for view in views
            ]
        )  # fmt: skip


def _cells_of(asker: Asker | None) -> tuple[Any, Any]:
    return ("", "") if asker is None else (_cell(asker.name), _cell(asker.reason))


def _cell(value: Any) -> Any:
    # A spreadsheet would take such a text, which may come from a register, for a formula.
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def _csv(lines: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(lines)
    return text.getvalue()


async def request_of(office: Office, actor: Actor, request_id: bytes) -> RequestView:
    """Return what became of a request, whatever became of it."""
    check_reach(actor, Permission.ACCOUNTS_READ)
    async with office.registry.reading() as transaction:
        family = (await accounts.families(transaction, [request_id])).get(request_id)
        if not family:
            return RequestView(request_id=request_id.hex(), found=False, note=_NOT_FOUND)
        views = []
        for row in family:
            found = await accounts.entries(
                transaction, row["account_id"], EntryFilter(request_id=row["request_id"]), None, 1
            )
            views += await _views(office, transaction, found, with_askers=True)
            if row["request_id"] == request_id:
                answer = found[0]["answer"]
    original = next(view for view in views if view.request_id == request_id.hex())
    return RequestView(
        request_id=request_id.hex(),
        found=True,
        note="",
        standing=original.standing,
        account_id=original.account_id,
        entry=original,
        answer=None if answer is None else _answer_view(Answer.from_body(answer)),
        family=[view for view in views if view is not original],
    )


def _answer_view(answer: Answer) -> AnswerView:
    known = {int(outcome): outcome.name for outcome in Outcome}
    return AnswerView(
        outcome=known.get(answer.outcome, str(answer.outcome)).lower(),
        points=answer.points,
        earned=answer.earned,
        available=None if answer.balance is None else answer.balance.available,
        slip=list(answer.slip),
    )


async def _views(
    office: Office, transaction: Transaction, rows: Sequence[Row], *, with_askers: bool
) -> list[EntryView]:
    ids = [row["request_id"] for row in rows if row["request_id"] is not None]
    standings = await accounts.standings(transaction, ids, office.clock.now_ms()) if ids else {}
    by = await accounts.askers(transaction, ids) if ids and with_askers else {}
    changes = {row["seq"]: unpack(row["cards"]) for row in rows if row["cards"] is not None}
    tokens = list({token for flat in changes.values() for token in flat[::2]})
    masked = {card["token"]: card["masked"] for card in await cards.by_tokens(transaction, tokens)} if tokens else {}
    return [
        _view(
            row,
            standings.get(row["request_id"]),
            _changes(changes.get(row["seq"], []), masked),
            _asker(by.get(row["request_id"])),
        )
        for row in rows
    ]


def _view(row: Row, standing: Standing | None, changes: list[CardChange], by: Asker | None) -> EntryView:
    op = Operation(row["op"])
    places = ("partner", "network", "store_id", "store", "terminal_id", "terminal")
    numbers = (
        "account_id", "seq", "at_ms", "sale_ms", "amount", "currency", "reference", "points", "earned", "held", "owed",
        "balance_after", "held_after", "owed_after",
    )  # fmt: skip
    return EntryView(
        operation=op.name.lower(),
        request_id=None if row["request_id"] is None else row["request_id"].hex(),
        refers_to=None if row["target"] is None else row["target"].hex(),
        standing=None if standing is None else standing.name.lower(),
        network_id=row["network_id"] or None,
        spent=row["spent"],
        expired=-row["points"] if op == Operation.EXPIRE_LOTS else 0,
        hold_until_ms=row["until_ms"] or None,
        cards=changes,
        by=by,
        **{name: row[name] for name in (*places, *numbers)},
    )


def _changes(flat: Sequence[Any], masked: dict[bytes, str]) -> list[CardChange]:
    return [
        CardChange(
            card=token.hex(),
            masked=masked[token].partition(":")[2] if token in masked else None,
            status="gone" if status == CARD_GONE else status_name(status),
        )
        for token, status in zip(flat[::2], flat[1::2], strict=True)
    ]


def _asker(row: Row | None) -> Asker | None:
    if row is None:
        return None
    reason = orjson.loads(row["detail"]).get("reason")
    return Asker(actor=row["actor"], name=row["actor_name"], action=row["action"], reason=reason)
