"""Keys of the office's own, derived from the personal key, and encryption with them."""

from __future__ import annotations

import hashlib
import os
from enum import Enum

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_KEY_BYTES = 32
_NONCE_BYTES = 12


class Purpose(Enum):
    """What a derived key is for; the values are part of the derivation and at most 16 bytes."""

    ANSWERS = b"office-answers"
    TOTP = b"office-totp"
    FINGERPRINTS = b"office-asked"


class NotReadable(Exception):  # noqa: N818 - it is a state
    """It was encrypted with another key, or for something else, or is damaged."""


def derived(personal_key: bytes, purpose: Purpose) -> bytes:
    """Return the key for a purpose, 32 bytes, which tells nothing of the others."""
    return hashlib.blake2b(key=personal_key, person=purpose.value, digest_size=_KEY_BYTES).digest()


def sealed(personal_key: bytes, purpose: Purpose, plain: bytes, bound_to: str) -> bytes:
    """Return nonce and ciphertext of AES-GCM, which open only for what they are bound to."""
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + AESGCM(derived(personal_key, purpose)).encrypt(nonce, plain, bound_to.encode())


def opened(personal_key: bytes, purpose: Purpose, blob: bytes, bound_to: str) -> bytes:
    """Return what was sealed. Raises NotReadable."""
    try:
        return AESGCM(derived(personal_key, purpose)).decrypt(
            blob[:_NONCE_BYTES], blob[_NONCE_BYTES:], bound_to.encode()
        )
    except (InvalidTag, ValueError):
        raise NotReadable from None
