"""What helps somebody to find the way in a history: the stores it happened in, and the entries that others refer to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from admin_api.office import Office
from admin_api.security.actor import Actor
from admin_api.security.permissions import Permission
from admin_api.security.reach import check_reach
from ledger.operations import Operation
from ledger.registry import accounts, names


class Moment(NamedTuple):
    """Where a request stands in the journal."""

    account: int
    operation: str
    at_ms: int


class Visited(NamedTuple):
    """A store in which something happened on an account."""

    store_id: int
    store: str
    network: str


async def stores_of(office: Office, actor: Actor, account: int) -> list[Visited]:
    """Return the stores that an account was used in, by name."""
    check_reach(actor, Permission.ACCOUNTS_READ)
    async with office.registry.reading() as transaction:
        rows = await accounts.stores(transaction, account)
    return [Visited(row["store_id"], row["store"], row["network"]) for row in rows]


async def moments_of(office: Office, actor: Actor, request_ids: Iterable[str]) -> dict[str, Moment]:
    """Return what and when requests were, by their ids in hexadecimal; those without an entry are left out."""
    check_reach(actor, Permission.ACCOUNTS_READ)
    async with office.registry.reading() as transaction:
        rows = await accounts.requests(transaction, [bytes.fromhex(each) for each in request_ids])
    return {
        request_id.hex(): Moment(row["account_id"], Operation(row["op"]).name.lower(), row["at_ms"])
        for request_id, row in rows.items()
    }


async def names_of(office: Office, actors: Iterable[str | None]) -> dict[str, str]:
    """Return what people and programs are called; those without a name are called as they are stored."""
    wanted = {actor for actor in actors if actor is not None}
    async with office.registry.reading() as transaction:
        found = await names.of_actors(transaction, wanted)
    return {actor: found.get(actor, actor) for actor in wanted}
