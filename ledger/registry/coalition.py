"""The coalition: partners, their networks, those networks' stores, and the time zone in which all of them live."""

from __future__ import annotations

from ledger.registry.registry import Row, Transaction, taken
from ledger.registry.statements import statements


async def add_partner(transaction: Transaction, name: str) -> int:
    """Add a partner, a legal entity of the coalition; return its id. Raises Conflict."""
    with taken(f"the name {name!r}"):
        return int(await transaction.fetchval(statements("coalition")["add_partner"], name))


async def add_network(transaction: Transaction, partner_id: int, name: str, currency: str) -> int:
    """Add a partner's network with the ISO 4217 code of its money; return its id. Raises Conflict."""
    with taken(f"the name {name!r}"):
        return int(await transaction.fetchval(statements("coalition")["add_network"], partner_id, name, currency))


async def add_store(transaction: Transaction, network_id: int, name: str) -> int:
    """Add a store to a network; return its id. Raises Conflict."""
    with taken(f"the name {name!r}"):
        return int(await transaction.fetchval(statements("coalition")["add_store"], network_id, name))


async def partners(
    transaction: Transaction, *, after: int = 0, rows_max: int, name: str | None = None, partner_id: int | None = None
) -> list[Row]:
    """Return partners by id: partner_id, name, active, and how many networks, stores, terminals they have."""
    return list(await transaction.fetch(statements("coalition")["partners"], after, rows_max, name, partner_id))


async def networks(
    transaction: Transaction,
    *,
    after: int = 0,
    rows_max: int,
    name: str | None = None,
    partner_id: int | None = None,
    network_id: int | None = None,
) -> list[Row]:
    """Return networks by id.

    Fields: network_id, partner_id, partner, name, currency, active, works (so is what is above it), stores, terminals.
    """
    statement = statements("coalition")["networks"]
    return list(await transaction.fetch(statement, after, rows_max, name, partner_id, network_id))


async def stores(
    transaction: Transaction,
    *,
    after: int = 0,
    rows_max: int,
    name: str | None = None,
    partner_id: int | None = None,
    network_id: int | None = None,
    store_id: int | None = None,
) -> list[Row]:
    """Return stores by id: store_id, network_id, network, partner_id, name, active, works, terminals."""
    statement = statements("coalition")["stores"]
    return list(await transaction.fetch(statement, after, rows_max, name, partner_id, network_id, store_id))


async def change_partner(transaction: Transaction, partner_id: int, *, name: str | None, active: bool | None) -> None:
    """Rename a partner, suspend it with all that is below, or let it work again; None leaves it. Raises Conflict."""
    with taken(f"the name {name!r}"):
        await transaction.execute(statements("coalition")["change_partner"], partner_id, name, active)


async def change_network(transaction: Transaction, network_id: int, *, name: str | None, active: bool | None) -> None:
    """Rename, suspend or resume a network; None leaves it. Raises Conflict."""
    with taken(f"the name {name!r}"):
        await transaction.execute(statements("coalition")["change_network"], network_id, name, active)


async def change_store(transaction: Transaction, store_id: int, *, name: str | None, active: bool | None) -> None:
    """Rename, suspend or resume a store; None leaves it. Raises Conflict."""
    with taken(f"the name {name!r}"):
        await transaction.execute(statements("coalition")["change_store"], store_id, name, active)


async def partner_named(transaction: Transaction, name: str) -> int | None:
    """Return a partner's id."""
    found: int | None = await transaction.fetchval(statements("coalition")["partner_named"], name)
    return found


async def network_named(transaction: Transaction, name: str) -> int | None:
    """Return a network's id."""
    found: int | None = await transaction.fetchval(statements("coalition")["network_named"], name)
    return found


async def time_zone(transaction: Transaction) -> str:
    """Return the IANA name of the time zone in which days begin and end."""
    return str(await transaction.fetchval(statements("coalition")["time_zone"]))


async def set_time_zone(transaction: Transaction, name: str) -> None:
    """Set it; whoever calls has made sure that there is such a time zone."""
    await transaction.execute(statements("coalition")["set_time_zone"], name)
