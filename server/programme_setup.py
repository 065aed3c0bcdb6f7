"""New terminals and cards as the command line, the demo and load tests make them."""

from __future__ import annotations

from collections.abc import Iterable

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


def numbered_card(number: int) -> Card:
    """Return the card of a number below 10^11: an EAN-13 of the range 2, which GS1 leaves to the stores themselves."""
    first12 = f"2{number:011d}"
    return Card(CardKind.EAN13, first12 + tokens.ean13_check_digit(first12))
