"""Batches of cards for the printer: made at once, and their numbers kept only as what they can be made from again."""

from __future__ import annotations

import asyncio
import csv
import io
import secrets
from collections.abc import AsyncIterator, Sequence
from typing import Any, Literal

import orjson
from pydantic import BaseModel, Field, model_validator

from admin_api.cards.card_numbers import ACTIVE, ISSUED, Series, grouped, new_card
from admin_api.cards.cards import KINDS, KindName, Prefix, check_prefix
from admin_api.fields import Asked, Line
from admin_api.office import Office
from admin_api.paging import Page, Position
from admin_api.problem import conflict, invalid, not_found, unavailable
from admin_api.security.actor import Actor
from admin_api.security.auditing import audited
from admin_api.security.permissions import Permission
from admin_api.security.reach import check_reach
from ledger.journal.enrolment import NewCard
from ledger.registry import cards
from ledger.registry.registry import Row
from ledger.registry.secrecy import Cipher, Unreadable, derived_key
from protocol.codes import CardKind

_SEED_BYTES = 16
_BIGGEST_ID = 2**31 - 2
#: Lines of the file for the printer that are made in one go.
_LINES_AT_ONCE = 1_000
_HEADER = ("number", "printed", "check_digit", "batch", "sequence")


class BatchAsked(Asked):
    """A batch to make: the digits behind the prefix count from `first`, or are scattered for nobody to guess."""

    name: Line
    kind: Literal["ean13", "pan", "virtual"]
    count: int = Field(ge=1)
    prefix: Prefix
    order: Literal["sequence", "scattered"] = "scattered"
    first: int = Field(0, ge=0, le=10**15)
    active: bool = False

    @model_validator(mode="after")
    def _fits(self) -> BatchAsked:
        kind = CardKind[self.kind.upper()]
        check_prefix(kind, self.prefix)
        if kind == CardKind.VIRTUAL and (self.order == "sequence" or self.first):
            raise ValueError("virtual numbers have no sequence")
        if self.count > Series(kind, self.prefix, self.first, scattered=False, seed=b"").size:
            raise ValueError("there are not so many numbers with this prefix from this one on")
        return self


class BatchView(BaseModel):
    """A batch, and how many of its cards have which status now."""

    batch_id: int
    name: str
    kind: KindName
    count: int
    made_ms: int
    made_by: str
    issued: int
    active: int
    blocked: int
    replaced: int

    @classmethod
    def of(cls, row: Row) -> BatchView:
        """Return the view of a row of ledger.registry.cards."""
        names = ("batch_id", "name", "count", "made_ms", "made_by", "issued", "active", "blocked", "replaced")
        return cls(kind=KINDS[row["kind"]], **{name: row[name] for name in names})


async def make_batch(office: Office, actor: Actor, asked: BatchAsked, request_id: bytes) -> BatchView:
    """Make a batch with an account for each card, all or none. Raises a Problem (409, 422)."""
    check_reach(actor, Permission.CARDS_WRITE)
    if asked.count > office.limits.batch_cards_max:
        raise invalid(f"a batch has at most {office.limits.batch_cards_max} cards")
    kind = CardKind[asked.kind.upper()]
    scattered = asked.order == "scattered"
    series = Series(kind, asked.prefix, asked.first, scattered, secrets.token_bytes(_SEED_BYTES))
    now_ms = office.clock.now_ms()
    async with office.registry.writing() as transaction:
        series, made = await _free(office, transaction, series, asked)
        status = ACTIVE if asked.active else ISSUED
        batch = cards.NewBatch(asked.name, int(kind), asked.count, status, now_ms, actor.name)
        batch_id = await cards.add_batch(transaction, batch)
        await cards.set_series(transaction, batch_id, _encrypted(office, batch_id, series))
        await cards.add(transaction, made, batch_id, now_ms)
        detail = {"name": asked.name, "kind": asked.kind, "count": asked.count, "active": asked.active}
        await audited(
            office, actor, transaction, "card_batch.make", f"card_batch:{batch_id}", request_id=request_id,
            detail=detail,
        )  # fmt: skip
        row = await cards.batch(transaction, batch_id)
    if row is None:
        raise unavailable("the batch was not found again")
    return BatchView.of(row)


async def batch_of(office: Office, actor: Actor, batch_id: int) -> BatchView:
    """Return a batch. Raises a Problem (404)."""
    check_reach(actor, Permission.CARDS_READ)
    return BatchView.of(await _row(office, batch_id))


async def batches(office: Office, actor: Actor, position: Position) -> Page[BatchView]:
    """Return batches, newest first."""
    check_reach(actor, Permission.CARDS_READ)
    async with office.registry.reading() as transaction:
        rows = await cards.batches(transaction, position.number(_BIGGEST_ID), position.rows_max)
    return position.page(rows, BatchView.of, lambda row: (row["batch_id"],))


async def printed(office: Office, actor: Actor, batch_id: int) -> AsyncIterator[str]:
    """Return the file for the printer, in pieces: every number of a batch. Raises a Problem (404, 409)."""
    check_reach(actor, Permission.CARDS_WRITE)
    row = await _row(office, batch_id)
    try:
        series = _decrypted(office, batch_id, row["numbers"])
    except Unreadable:
        raise conflict("the batch was made under another key; its numbers cannot be made again") from None
    async with office.registry.writing() as transaction:
        await audited(office, actor, transaction, "card_batch.export", f"card_batch:{batch_id}")
    return _lines(row, series)


async def _lines(row: Row, series: Series) -> AsyncIterator[str]:
    yield _csv([_HEADER])
    places = series.places()
    for start in range(0, row["count"], _LINES_AT_ONCE):
        count = min(_LINES_AT_ONCE, row["count"] - start)
        yield await asyncio.to_thread(_piece, row, series, [next(places) for _ in range(count)], start)


def _piece(row: Row, series: Series, places: Sequence[int], start: int) -> str:
    numbers = [series.number(place) for place in places]
    has_check_digit = series.kind != CardKind.VIRTUAL
    return _csv(
        [
            (n, grouped(series.kind, n), n[-1] if has_check_digit else "", row["batch_id"], start + i + 1)
            for i, n in enumerate(numbers)
        ]
    )


def _csv(lines: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(lines)
    return text.getvalue()


async def _free(office: Office, transaction: Any, series: Series, asked: BatchAsked) -> tuple[Series, list[NewCard]]:
    """Return the series without the places whose numbers are cards already, and the cards."""
    made: list[NewCard] = []
    skipped: set[int] = set()
    at = 0
    while len(made) < asked.count:
        places = list(range(at, min(at + asked.count - len(made), series.size)))
        if not places:
            raise conflict("too many of these numbers are cards already")
        at = places[-1] + 1
        some = await asyncio.to_thread(_cards, office.keys.token_key, series, places, asked.active)
        taken = await cards.known(transaction, [card.token for card in some])
        if taken and not series.scattered:
            raise conflict(f"{len(taken)} of these numbers are cards already")
        skipped.update(place for place, card in zip(places, some, strict=True) if card.token in taken)
        made += [card for card in some if card.token not in taken]
    kept = Series(series.kind, series.prefix, series.first, series.scattered, series.seed, frozenset(skipped))
    return kept, made


def _cards(token_key: bytes, series: Series, places: Sequence[int], active: bool) -> list[NewCard]:
    return [new_card(series.kind, series.number(place), token_key, active=active) for place in places]


async def _row(office: Office, batch_id: int) -> Row:
    async with office.registry.reading() as transaction:
        row = await cards.batch(transaction, batch_id)
    if row is None:
        raise not_found(f"batch {batch_id}")
    return row


def _cipher(office: Office) -> Cipher:
    return Cipher(derived_key(office.keys.token_key, b"card batches"))


def _encrypted(office: Office, batch_id: int, series: Series) -> bytes:
    told = [int(series.kind), series.prefix, series.first, series.scattered, series.seed.hex(), sorted(series.skipped)]
    return _cipher(office).encrypt(orjson.dumps(told), batch_id.to_bytes(8, "big"))


def _decrypted(office: Office, batch_id: int, stored: bytes) -> Series:
    kind, prefix, first, scattered, seed, skipped = orjson.loads(
        _cipher(office).decrypt(stored, batch_id.to_bytes(8, "big"))
    )
    return Series(CardKind(kind), prefix, first, scattered, bytes.fromhex(seed), frozenset(skipped))
