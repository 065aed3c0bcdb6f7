"""The one place that encrypts: AES-GCM under keys that are derived for one purpose each, bound to what they belong to.

The greeting alone is under the personal key itself.
"""

from __future__ import annotations

import hashlib
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_KEY_BYTES = 32
_NONCE_BYTES = 12


class Unreadable(ValueError):  # noqa: N818 - it says what is the matter
    """What is stored was encrypted under another key, belongs to something else, or was altered."""


def derived_key(key: bytes, purpose: bytes) -> bytes:
    """Return a 32-byte key for one purpose; it tells nothing about `key` or about those of other purposes."""
    return hashlib.blake2b(purpose, digest_size=_KEY_BYTES, key=key).digest()


class Cipher:
    """Encrypts and decrypts under one key."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def encrypt(self, plain: bytes, bound_to: bytes) -> bytes:
        """Return nonce and ciphertext, which can be decrypted only for the same thing."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, plain, bound_to)

    def decrypt(self, stored: bytes, bound_to: bytes) -> bytes:
        """Return what was encrypted. Raises Unreadable."""
        try:
            return self._cipher.decrypt(stored[:_NONCE_BYTES], stored[_NONCE_BYTES:], bound_to)
        except (InvalidTag, ValueError) as error:
            raise Unreadable("it cannot be decrypted") from error
