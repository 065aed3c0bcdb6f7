"""The coalition as operators see and change it: partners, their networks, those networks' stores."""

from __future__ import annotations

from typing import Annotated

from pydantic import StrictBool, StringConstraints

from admin_api.fields import Asked, BodyId, Name, Told
from admin_api.office import Office
from admin_api.paging import Page, Position
from admin_api.problem import forbidden, not_found
from admin_api.programme.rules import RulesFields, bad_rules, visible_network
from admin_api.security.actor import Actor
from admin_api.security.auditing import audited
from admin_api.security.permissions import Permission
from ledger.registry import coalition, rules
from ledger.registry.registry import Row, Transaction
from ledger.rules_check import BadRules

Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]


class Partner(Told):
    """A legal entity of the coalition, and how much belongs to it. While it is not active, nothing of it works."""

    partner_id: int
    name: str
    active: bool
    networks: int
    stores: int
    terminals: int


class Network(Told):
    """A partner's chain of stores; it `works` if it is active and so is the partner."""

    network_id: int
    partner_id: int
    partner: str
    name: str
    currency: str
    active: bool
    works: bool
    stores: int
    terminals: int


class Store(Told):
    """A shop; it `works` if it is active and so is everything above it."""

    store_id: int
    network_id: int
    network: str
    partner_id: int
    name: str
    active: bool
    works: bool
    terminals: int


class NewPartner(Asked):
    """A partner to add."""

    name: Name


class NewNetwork(Asked):
    """A network to add, with the ISO 4217 code of its money and the rules that hold in it from the beginning."""

    partner_id: BodyId
    name: Name
    currency: Currency
    rules: RulesFields = RulesFields()


class CoalitionChange(Asked):
    """What to change: another name, or whether it takes part. Null stays as it is."""

    name: Name | None = None
    active: StrictBool | None = None


async def list_partners(office: Office, actor: Actor, position: Position, *, name: str | None = None) -> Page[Partner]:
    """Return partners by id, those with a part of a name. Raises a Problem."""
    actor.check(Permission.COALITION_READ)
    async with office.registry.reading() as transaction:
        rows = await coalition.partners(
            transaction, after=position.number(0), rows_max=position.rows_max, name=name, partner_id=actor.partner_id
        )
    return position.page(rows, lambda row: Partner(**row), lambda row: (row["partner_id"],))


async def list_networks(
    office: Office, actor: Actor, position: Position, *, name: str | None = None, partner_id: int | None = None
) -> Page[Network]:
    """Return networks by id, those of a partner, those with a part of a name. Raises a Problem."""
    actor.check(Permission.COALITION_READ)
    async with office.registry.reading() as transaction:
        rows = await coalition.networks(
            transaction, after=position.number(0), rows_max=position.rows_max, name=name,
            partner_id=seen_partner(actor, partner_id),
        )  # fmt: skip
    return position.page(rows, lambda row: Network(**row), lambda row: (row["network_id"],))


async def list_stores(
    office: Office,
    actor: Actor,
    position: Position,
    *,
    name: str | None = None,
    partner_id: int | None = None,
    network_id: int | None = None,
) -> Page[Store]:
    """Return stores by id, those of a partner or network, those with a part of a name. Raises a Problem."""
    actor.check(Permission.COALITION_READ)
    async with office.registry.reading() as transaction:
        rows = await coalition.stores(
            transaction, after=position.number(0), rows_max=position.rows_max, name=name,
            partner_id=seen_partner(actor, partner_id), network_id=network_id,
        )  # fmt: skip
    return position.page(rows, lambda row: Store(**row), lambda row: (row["store_id"],))


async def get_partner(office: Office, actor: Actor, partner_id: int) -> Partner:
    """Return a partner. Raises a Problem."""
    actor.check(Permission.COALITION_READ)
    async with office.registry.reading() as transaction:
        return Partner(**await visible_partner(transaction, actor, partner_id))


async def get_network(office: Office, actor: Actor, network_id: int) -> Network:
    """Return a network. Raises a Problem."""
    actor.check(Permission.COALITION_READ)
    async with office.registry.reading() as transaction:
        return Network(**await visible_network(transaction, actor, network_id))


async def get_store(office: Office, actor: Actor, store_id: int) -> Store:
    """Return a store. Raises a Problem."""
    actor.check(Permission.COALITION_READ)
    async with office.registry.reading() as transaction:
        return Store(**await visible_store(transaction, actor, store_id))


async def add_partner(office: Office, actor: Actor, asked: NewPartner) -> Partner:
    """Add a partner. Raises a Problem: 409 for a name that is taken."""
    check_unbound(actor)
    async with office.registry.writing() as transaction:
        partner_id = await coalition.add_partner(transaction, asked.name)
        await audited(
            office, actor, transaction, "partner.add", f"partner:{partner_id}", partner_id=partner_id,
            detail={"name": asked.name},
        )  # fmt: skip
        return Partner(**await visible_partner(transaction, actor, partner_id))


async def add_network(office: Office, actor: Actor, asked: NewNetwork) -> Network:
    """Add a network with its first rules. Raises a Problem: 422 with `fields` for bad rules."""
    actor.check(Permission.COALITION_WRITE)
    async with office.registry.writing() as transaction:
        await visible_partner(transaction, actor, asked.partner_id)
        network_id = await open_network(
            office, actor, transaction, asked.partner_id, asked.name, asked.currency, asked.rules
        )
        return Network(**await visible_network(transaction, actor, network_id))


async def open_network(
    office: Office,
    actor: Actor,
    transaction: Transaction,
    partner_id: int,
    name: str,
    currency: str,
    first: RulesFields,
    *,
    field: str = "rules.",
) -> int:
    """Add a network and its first rules, which hold since ever; `field` is where they stand in the request."""
    network_id = await coalition.add_network(transaction, partner_id, name, currency)
    try:
        await rules.add(
            transaction, network_id, first.rules(0), note="", now_ms=office.clock.now_ms(), made_by=actor.name
        )
    except BadRules as error:
        raise bad_rules(error, field) from None
    await audited(
        office, actor, transaction, "network.add", f"network:{network_id}", partner_id=partner_id,
        detail={"name": name, "currency": currency},
    )  # fmt: skip
    return network_id


async def change_partner(office: Office, actor: Actor, partner_id: int, asked: CoalitionChange) -> Partner:
    """Rename a partner, suspend it with everything that belongs to it, or let it work again. Raises a Problem."""
    check_unbound(actor)
    async with office.registry.writing() as transaction:
        await visible_partner(transaction, actor, partner_id)
        await coalition.change_partner(transaction, partner_id, name=asked.name, active=asked.active)
        await audited(
            office, actor, transaction, "partner.change", f"partner:{partner_id}", partner_id=partner_id,
            detail=asked.model_dump(exclude_none=True),
        )  # fmt: skip
        return Partner(**await visible_partner(transaction, actor, partner_id))


async def change_network(office: Office, actor: Actor, network_id: int, asked: CoalitionChange) -> Network:
    """Rename, suspend or resume a network. Raises a Problem."""
    actor.check(Permission.COALITION_WRITE)
    async with office.registry.writing() as transaction:
        before = await visible_network(transaction, actor, network_id)
        await coalition.change_network(transaction, network_id, name=asked.name, active=asked.active)
        await audited(
            office, actor, transaction, "network.change", f"network:{network_id}", partner_id=before["partner_id"],
            detail=asked.model_dump(exclude_none=True),
        )  # fmt: skip
        return Network(**await visible_network(transaction, actor, network_id))


async def change_store(office: Office, actor: Actor, store_id: int, asked: CoalitionChange) -> Store:
    """Rename, suspend or resume a store. Raises a Problem."""
    actor.check(Permission.COALITION_WRITE)
    async with office.registry.writing() as transaction:
        before = await visible_store(transaction, actor, store_id)
        await coalition.change_store(transaction, store_id, name=asked.name, active=asked.active)
        await audited(
            office, actor, transaction, "store.change", f"store:{store_id}", partner_id=before["partner_id"],
            store_id=store_id, detail=asked.model_dump(exclude_none=True),
        )  # fmt: skip
        return Store(**await visible_store(transaction, actor, store_id))


async def visible_partner(transaction: Transaction, actor: Actor, partner_id: int) -> Row:
    """Return a partner that is this actor's business. Raises a Problem (404)."""
    rows = await coalition.partners(transaction, rows_max=1, partner_id=partner_id)
    if not rows or not actor.sees_partner(partner_id):
        raise not_found(f"partner {partner_id}")
    return rows[0]


async def visible_store(transaction: Transaction, actor: Actor, store_id: int) -> Row:
    """Return a store that is this actor's business. Raises a Problem (404)."""
    rows = await coalition.stores(transaction, rows_max=1, store_id=store_id)
    if not rows or not actor.sees_partner(rows[0]["partner_id"]):
        raise not_found(f"store {store_id}")
    return rows[0]


def seen_partner(actor: Actor, asked: int | None) -> int | None:
    """Return the partner to filter by: a partner's people see their own, so another one has nothing for them."""
    if asked is not None and not actor.sees_partner(asked):
        raise not_found(f"partner {asked}")
    return asked if actor.partner_id is None else actor.partner_id


def check_unbound(actor: Actor) -> None:
    """Raise a Problem (403) unless this actor may decide who takes part at all."""
    actor.check(Permission.COALITION_WRITE)
    if actor.partner_id is not None:
        raise forbidden("who is bound to a partner does not decide about partners")
