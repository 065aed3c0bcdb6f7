"""New terminals and cards as the command line, the demo and load tests make them."""

from __future__ import annotations

from collections.abc import Iterable

from admin_api.coalition.terminal_secrets import new_secret
from ledger.journal.onboarding import Onboarding
from protocol import tokens
from protocol.codes import CardKind, Message
from protocol.relay_keys import RelayCredential, relay_key
from protocol.requests import Card

RELAY_PERMITTED = (int(Message.HOLD), int(Message.RELEASE))
"""What a relay may do in its own name: reserve, and let go."""
ALLOWANCE_MS = 86_400_000


async def add_terminal(onboarding: Onboarding, store_id: int, code: str, permitted: Iterable[int]) -> str:
    """Add a terminal and return its secret, which is kept nowhere."""
    made = new_secret()
    await onboarding.terminal(store_id, code, permitted, made.credentials)
    return made.secret


async def add_relay(
    onboarding: Onboarding,
    network_id: int,
    store_id: int,
    code: str,
    master: bytes,
    *,
    allowance_points: int = 0,
    allowance_ms: int = ALLOWANCE_MS,
) -> RelayCredential:
    """Add a relay to a store and return its credential; `master` is `Secrets.relay_master`."""
    # A secret that is thrown away at once: nobody signs on as a relay.
    terminal_id = await onboarding.terminal(store_id, code, RELAY_PERMITTED, new_secret().credentials)
    generation = await onboarding.relay(terminal_id, allowance_points, allowance_ms)
    key = relay_key(master, code, generation)
    return RelayCredential(str(network_id), str(store_id), code, generation, key)


def numbered_card(number: int) -> Card:
    """Return the card of a number below 10^11: an EAN-13 of the range 2, which GS1 leaves to the stores themselves."""
    first12 = f"2{number:011d}"
    return Card(CardKind.EAN13, first12 + tokens.ean13_check_digit(first12))
