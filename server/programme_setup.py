"""New terminals as the command line and the demo make them: with secrets that exist in clear only once."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable

from ledger.journal.onboarding import Credentials, Onboarding
from protocol import scram, tokens
from protocol.codes import CardKind
from protocol.requests import Card

_SECRET_BYTES = 24


def new_secret() -> str:
    """Return a secret for a terminal: 192 random bits in printable ASCII."""
    return secrets.token_urlsafe(_SECRET_BYTES)


def credentials_of(secret: str) -> Credentials:
    """Return what the server keeps of a secret."""
    made = scram.credentials(secret, os.urandom(scram.SALT_BYTES), scram.ITERATIONS)
    return Credentials(made.salt, made.iterations, made.stored_key, made.server_key)


async def add_terminal(onboarding: Onboarding, store_id: int, code: str, permitted: Iterable[int]) -> str:
    """Add a terminal and return its secret, which is kept nowhere."""
    secret = new_secret()
    await onboarding.terminal(store_id, code, permitted, credentials_of(secret))
    return secret


def numbered_card(number: int) -> Card:
    """Return the card of a number below 10^11: an EAN-13 of the range 2, which GS1 leaves to the stores themselves."""
    first12 = f"2{number:011d}"
    return Card(CardKind.EAN13, first12 + tokens.ean13_check_digit(first12))
