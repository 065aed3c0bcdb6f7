"""The programme of a load test: one partner, network and store, and terminals that share one secret."""

from __future__ import annotations

from dataclasses import dataclass, field

from admin_api.coalition.terminal_secrets import new_secret
from ledger.journal.onboarding import onboarding
from ledger.programme import Rules
from protocol.codes import Message
from server.errors import OperatorError
from server.population.history import EARN_RATE_BP
from server.population.specimen import Origin

CURRENCY = "EUR"
TERMINAL_PREFIX = "load-"
_NAME = "Load"
_RULES = Rules(valid_from_ms=0, earn_rate_bp=EARN_RATE_BP)
_EVERYTHING = tuple(int(op) for op in Message if Message.BALANCE <= op <= Message.REPLACE)


@dataclass(frozen=True, slots=True)
class Founded:
    """Where the accounts have their past, and the secret of all terminals."""

    origin: Origin
    secret: str = field(repr=False)


async def found(postgres_url: str, terminals: int) -> Founded:
    """Create the programme with so many terminals.

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
        return Founded(Origin(ids[0], network_id, partner_id, CURRENCY, _RULES), made.secret)
