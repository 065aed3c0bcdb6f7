"""Relays as operators see and change them; a credential is told once, in the answer to the request that made it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StrictInt

from admin_api.coalition.coalition import Store, seen_partner, visible_store
from admin_api.coalition.relay_credentials import (
    ALLOWANCE_MS,
    ALLOWANCE_MS_MAX,
    ALLOWANCE_MS_MIN,
    PERMITTED,
    credential_line,
    nobodys_credentials,
)
from admin_api.coalition.terminals import Code, State
from admin_api.fields import Asked, BodyId, Told
from admin_api.office import Office
from admin_api.paging import Page, Position
from admin_api.problem import Problem, conflict, not_found
from admin_api.security.actor import Actor
from admin_api.security.auditing import audited
from admin_api.security.permissions import Permission
from ledger.registry import relays
from ledger.registry.registry import Row, Transaction
from protocol.codes import AMOUNT_MAX

#: A relay that was not heard for so long is alone, or gone: it says something every few seconds.
SILENT_AFTER_MS = 60_000

Line = Literal["up", "silent", "never"]
AllowancePoints = Annotated[
    StrictInt,
    Field(
        ge=0,
        le=AMOUNT_MAX,
        description="Minor points that the relay may set aside for a card beforehand, to be spent while it has no "
        "line; 0: nothing is spent then.",
    ),
]
AllowanceMs = Annotated[
    StrictInt,
    Field(ge=ALLOWANCE_MS_MIN, le=ALLOWANCE_MS_MAX, description="How long those points may be spent without a line."),
]


class Relay(Told):
    """A store's own computer, which speaks to its registers and, over MQTT, to here.

    `line` is up if it was heard within a minute, and never if it was not heard at all. What it last told of itself:
    its software, how many requests wait in it, since when the oldest of them waits, and since when it was alone.
    `conflicts` counts those that nobody has settled.
    """

    relay_id: int
    code: str
    store_id: int
    store: str
    network_id: int
    network: str
    partner_id: int
    state: State
    works: bool
    revoked_ms: int | None
    generation: int
    allowance_points: int
    allowance_ms: int
    line: Line
    heard_ms: int | None
    software: str
    queued: int | None
    oldest_ms: int | None
    offline_since_ms: int | None
    conflicts: int


class RelayCredentials(Told):
    """By what a relay is known. The credential is kept nowhere: copy the whole line now, or make a new one."""

    relay_id: int
    code: str
    generation: int
    credential: str


class NewRelay(Asked):
    """A relay to give to a store: its code, which no other terminal may have or have had, and its allowances."""

    store_id: BodyId
    code: Code
    allowance_points: AllowancePoints = 0
    allowance_ms: AllowanceMs = ALLOWANCE_MS


class RelayChange(Asked):
    """Other allowances. Null stays as it is."""

    allowance_points: AllowancePoints | None = None
    allowance_ms: AllowanceMs | None = None


async def list_relays(
    office: Office,
    actor: Actor,
    position: Position,
    *,
    partner_id: int | None = None,
    network_id: int | None = None,
    store_id: int | None = None,
    text: str | None = None,
    silent: bool = False,
) -> Page[Relay]:
    """Return relays by id, those that pass all filters; `silent` are those that should work and are not heard.

    `text` is a part of the code or of the store's name. Raises a Problem.
    """
    actor.check(Permission.COALITION_READ)
    now_ms = office.clock.now_ms()
    async with office.registry.reading() as transaction:
        rows = await relays.find(
            transaction, after=position.number(0), rows_max=position.rows_max,
            partner_id=seen_partner(actor, partner_id), network_id=network_id, store_id=store_id, text=text,
            silent_since_ms=now_ms - SILENT_AFTER_MS if silent else None,
        )  # fmt: skip
    return position.page(rows, lambda row: _shown(row, now_ms), lambda row: (row["relay_id"],))


async def get_relay(office: Office, actor: Actor, relay_id: int) -> Relay:
    """Return a relay. Raises a Problem."""
    actor.check(Permission.COALITION_READ)
    async with office.registry.reading() as transaction:
        return _shown(await _visible(transaction, actor, relay_id), office.clock.now_ms())


async def add_relay(office: Office, actor: Actor, asked: NewRelay) -> RelayCredentials:
    """Give a store its relay; return its credential. Raises a Problem: 409 if the store has one that is not revoked."""
    actor.check(Permission.TERMINALS_WRITE)
    async with office.registry.writing() as transaction:
        store = Store(**await visible_store(transaction, actor, asked.store_id))
        relay_id = await relays.give_to_store(
            transaction, store.store_id, asked.code, PERMITTED, nobodys_credentials(),
            allowance_points=asked.allowance_points, allowance_ms=asked.allowance_ms,
        )  # fmt: skip
        row = await _visible(transaction, actor, relay_id)
        allowances: dict[str, object] = {"allowance_points": asked.allowance_points, "allowance_ms": asked.allowance_ms}
        await _audited(office, actor, transaction, "relay.add", row, allowances)
    return _credentials(office, row, row["generation"])


async def change_relay(office: Office, actor: Actor, relay_id: int, asked: RelayChange) -> Relay:
    """Set what a relay may reserve for a card, and for how long. Raises a Problem: 409 for one that is revoked."""
    actor.check(Permission.TERMINALS_WRITE)
    async with office.registry.writing() as transaction:
        before = await _visible(transaction, actor, relay_id)
        points, allowance_ms = asked.allowance_points, asked.allowance_ms
        if not await relays.set_allowance(transaction, relay_id, points, allowance_ms):
            raise _revoked(before)
        await _audited(office, actor, transaction, "relay.change", before, asked.model_dump(exclude_none=True))
        return _shown(await _visible(transaction, actor, relay_id), office.clock.now_ms())


async def rotate_relay(office: Office, actor: Actor, relay_id: int) -> RelayCredentials:
    """Give a relay a new key; the old one opens nothing any more. Raises a Problem: 409 for one that is revoked."""
    actor.check(Permission.TERMINALS_WRITE)
    async with office.registry.writing() as transaction:
        before = await _visible(transaction, actor, relay_id)
        generation = await relays.rotate(transaction, relay_id)
        if generation is None:
            raise _revoked(before)
        await _audited(office, actor, transaction, "relay.rotate", before, {"generation": generation})
    return _credentials(office, before, generation)


async def _visible(transaction: Transaction, actor: Actor, relay_id: int) -> Row:
    rows = await relays.find(transaction, rows_max=1, relay_id=relay_id)
    if not rows or not actor.sees_partner(rows[0]["partner_id"]):
        raise not_found(f"relay {relay_id}")
    return rows[0]


def _shown(row: Row, now_ms: int) -> Relay:
    heard_ms = row["heard_ms"]
    line: Line = "never" if heard_ms is None else "up" if now_ms - heard_ms < SILENT_AFTER_MS else "silent"
    return Relay(**row, line=line)


def _credentials(office: Office, row: Row, generation: int) -> RelayCredentials:
    line = credential_line(office.keys.relay_master, row["network_id"], row["store_id"], row["code"], generation)
    return RelayCredentials(relay_id=row["relay_id"], code=row["code"], generation=generation, credential=line)


def _revoked(row: Row) -> Problem:
    return conflict(f"relay {row['code']} is revoked, for ever; give the store another one")


async def _audited(
    office: Office, actor: Actor, transaction: Transaction, action: str, row: Row, detail: dict[str, object]
) -> None:
    await audited(
        office, actor, transaction, action, f"relay:{row['relay_id']}", partner_id=row["partner_id"],
        store_id=row["store_id"], detail=detail,
    )  # fmt: skip
