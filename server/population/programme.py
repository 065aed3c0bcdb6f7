"""The programme of a load test: one partner, network and store, and terminals that share one secret.

Beside that store there may be others, each with a relay and terminals of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from admin_api.coalition.terminal_secrets import NewSecret, new_secret
from ledger.journal.onboarding import Onboarding, onboarding
from ledger.programme import Rules
from protocol.codes import Message
from server.errors import OperatorError
from server.population.history import EARN_RATE_BP
from server.population.specimen import Origin
from server.programme_setup import add_relay

CURRENCY = "EUR"
TERMINAL_PREFIX = "load-"
RELAY_PREFIX = "relay-"
RELAY_TERMINAL_PREFIX = "store-"
_NAME = "Load"
_RULES = Rules(valid_from_ms=0, earn_rate_bp=EARN_RATE_BP)
_EVERYTHING = tuple(int(op) for op in Message if Message.BALANCE <= op <= Message.REPLACE)


@dataclass(frozen=True, slots=True)
class Founded:
    """Where the accounts have their past, the secret of all terminals, and the credential of each relay."""

    origin: Origin
    secret: str = field(repr=False)
    relays: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Relays:
    """Stores of their own with a relay and so many terminals each; `master` is `Secrets.relay_master`."""

    stores: int
    terminals: int
    master: bytes = field(repr=False)


def relay_terminal(store: int, number: int) -> str:
    """Return the code of a terminal behind the relay of a store, both counted from 0."""
    return f"{RELAY_TERMINAL_PREFIX}{store}-{number}"


async def found(postgres_url: str, terminals: int, relays: Relays | None = None) -> Founded:
    """Create the programme with so many terminals, all with one secret, and if wanted stores with relays.

    Raises OperatorError when anything is there already, NotOnboarded and JournalDown.
    """
    async with onboarding(postgres_url) as to:
        if not await to.is_empty():
            raise OperatorError("the programme is not empty: a population goes into a database of its own")
        partner_id = await to.partner(_NAME)
        network_id = await to.network(partner_id, _NAME, CURRENCY)
        await to.rules(network_id, _RULES)
        store_id = await to.store(network_id, _NAME)
        made = new_secret()
        ids = [
            await to.terminal(store_id, f"{TERMINAL_PREFIX}{number}", _EVERYTHING, made.credentials)
            for number in range(terminals)
        ]
        origin = Origin(ids[0], network_id, partner_id, CURRENCY, _RULES)
        return Founded(origin, made.secret, await _with_relays(to, network_id, relays, made) if relays else ())


async def _with_relays(to: Onboarding, network_id: int, relays: Relays, made: NewSecret) -> tuple[str, ...]:
    credentials = []
    for store in range(relays.stores):
        store_id = await to.store(network_id, f"{_NAME} {store}")
        credentials.append(await add_relay(to, relays.master, store_id, f"{RELAY_PREFIX}{store}"))
        for number in range(relays.terminals):
            await to.terminal(store_id, relay_terminal(store, number), _EVERYTHING, made.credentials)
    return tuple(credentials)
