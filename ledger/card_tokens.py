"""How the ledger knows a card: not by its number."""

from __future__ import annotations

from hashlib import blake2b

#: Bytes of a card's keyed hash.
TOKEN_BYTES = 16


def token_hash(canonical: str, token_key: bytes) -> bytes:
    """Return the 16 bytes under which a card is known to the ledger: keyed, so that a dump reveals no card number."""
    return blake2b(canonical.encode(), digest_size=TOKEN_BYTES, key=token_key).digest()
