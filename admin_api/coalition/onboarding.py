"""Whole partners and stores in one step, with their terminals and their terminals' secrets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from pydantic import Field

from admin_api.coalition.coalition import Currency, Store, check_unbound, open_network, visible_store
from admin_api.coalition.terminal_secrets import NewSecret
from admin_api.coalition.terminals import Credentials, NewTerminal, open_terminals
from admin_api.fields import Asked, BodyId, Name, Told
from admin_api.office import Office
from admin_api.problem import invalid
from admin_api.programme.rules import RulesFields, visible_network
from admin_api.security.actor import Actor
from admin_api.security.auditing import audited
from admin_api.security.permissions import Permission
from ledger.registry import coalition
from ledger.registry.registry import Transaction

TERMINALS_AT_ONCE_MAX = 1_000
_STORES_AT_ONCE_MAX = 500


class StoreWithTerminals(Asked):
    """A store to open and the terminals in it."""

    name: Name
    terminals: list[NewTerminal] = Field(default_factory=list, max_length=TERMINALS_AT_ONCE_MAX)


class NewStore(StoreWithTerminals):
    """A store to add to a network that is there."""

    network_id: BodyId


class NetworkWithRules(Asked):
    """A network to open, with the rules that hold in it from the beginning."""

    name: Name
    currency: Currency
    rules: RulesFields = RulesFields()


class PartnerName(Asked):
    """A partner to take in."""

    name: Name


class Onboarding(Asked):
    """A partner with its network, stores and terminals: all of it comes in, or nothing."""

    partner: PartnerName
    network: NetworkWithRules
    stores: list[StoreWithTerminals] = Field(default_factory=list, max_length=_STORES_AT_ONCE_MAX)

    @property
    def terminals(self) -> list[NewTerminal]:
        """All terminals of all stores."""
        return [terminal for store in self.stores for terminal in store.terminals]


class OpenedStore(Told):
    """A store and its terminals' credentials, which are told here and nowhere else."""

    store_id: int
    name: str
    terminals: list[Credentials]


class Onboarded(Told):
    """What came in, with all ids and credentials."""

    partner_id: int
    network_id: int
    stores: list[OpenedStore]


def check_terminals(asked: Iterable[NewTerminal]) -> int:
    """Return how many terminals are asked for. Raises a Problem (422) for too many, or a code that comes twice."""
    codes = Counter(terminal.code for terminal in asked)
    if codes.total() > TERMINALS_AT_ONCE_MAX:
        raise invalid(f"at most {TERMINALS_AT_ONCE_MAX} terminals come in at once")
    twice = next((code for code, count in codes.items() if count > 1), None)
    if twice is not None:
        raise invalid(f"the terminal code {twice} comes twice")
    return codes.total()


async def onboard(office: Office, actor: Actor, asked: Onboarding, secrets: list[NewSecret]) -> Onboarded:
    """Take in a partner with everything, in one transaction; one new secret is needed for each terminal.

    Raises a Problem: 409 if a name or code is taken, 422 with `fields` for bad rules.
    """
    check_unbound(actor)
    check_terminals(asked.terminals)
    async with office.registry.writing() as transaction:
        partner_id = await coalition.add_partner(transaction, asked.partner.name)
        await audited(
            office, actor, transaction, "partner.add", f"partner:{partner_id}", partner_id=partner_id,
            detail={"name": asked.partner.name},
        )  # fmt: skip
        network = asked.network
        network_id = await open_network(
            office, actor, transaction, partner_id, network.name, network.currency, network.rules,
            field="network.rules.",
        )  # fmt: skip
        left = iter(secrets)
        stores = [await _open_store(office, actor, transaction, network_id, store, left) for store in asked.stores]
        return Onboarded(partner_id=partner_id, network_id=network_id, stores=stores)


async def add_store(office: Office, actor: Actor, asked: NewStore, secrets: list[NewSecret]) -> OpenedStore:
    """Add a store with its terminals to a network; one new secret is needed for each. Raises a Problem."""
    actor.check(Permission.COALITION_WRITE)
    check_terminals(asked.terminals)
    async with office.registry.writing() as transaction:
        await visible_network(transaction, actor, asked.network_id)
        return await _open_store(office, actor, transaction, asked.network_id, asked, iter(secrets))


async def _open_store(
    office: Office,
    actor: Actor,
    transaction: Transaction,
    network_id: int,
    asked: StoreWithTerminals,
    secrets: Iterator[NewSecret],
) -> OpenedStore:
    store_id = await coalition.add_store(transaction, network_id, asked.name)
    store = Store(**await visible_store(transaction, actor, store_id))
    await audited(
        office, actor, transaction, "store.add", f"store:{store_id}", partner_id=store.partner_id, store_id=store_id,
        detail={"name": store.name},
    )  # fmt: skip
    own = [next(secrets) for _ in asked.terminals]
    opened = await open_terminals(office, actor, transaction, store, asked.terminals, own)
    return OpenedStore(store_id=store_id, name=store.name, terminals=opened)
