"""New terminals, relays and cards as the command line, the demo and load tests make them."""

from __future__ import annotations

from collections.abc import Iterable

from admin_api.coalition.relay_credentials import ALLOWANCE_MS, PERMITTED, credential_line, nobodys_credentials
from admin_api.coalition.terminal_secrets import new_secret
from ledger.journal.onboarding import Onboarding
from protocol import tokens
from protocol.codes import CardKind
from protocol.requests import Card


async def add_terminal(onboarding: Onboarding, store_id: int, code: str, permitted: Iterable[int]) -> str:
    """Add a terminal and return its secret, which is kept nowhere."""
    made = new_secret()
    await onboarding.terminal(store_id, code, permitted, made.credentials)
    return made.secret


async def add_relay(
    onboarding: Onboarding,
    master: bytes,
    store_id: int,
    code: str,
    *,
    allowance_points: int = 0,
    allowance_ms: int = ALLOWANCE_MS,
) -> str:
    """Give a store its relay and return its credential, which is kept nowhere.

    `master` is `Secrets.relay_master`. Raises Conflict, and LookupError if there is no such store.
    """
    network_id = await onboarding.network_of(store_id)
    if network_id is None:
        raise LookupError(f"there is no store {store_id}")
    await onboarding.relay(
        store_id, code, PERMITTED, nobodys_credentials(), allowance_points=allowance_points, allowance_ms=allowance_ms
    )
    return credential_line(master, network_id, store_id, code, generation=1)


def numbered_card(number: int) -> Card:
    """Return the card of a number below 10^11: an EAN-13 of the range 2, which GS1 leaves to the stores themselves."""
    first12 = f"2{number:011d}"
    return Card(CardKind.EAN13, first12 + tokens.ean13_check_digit(first12))
