"""The keys of a relay's line, and what is sealed with them (SPEC.md, MQTT: keys and seals).

A relay and its headquarters share one key of 32 bytes. Everything else is derived from it by HKDF-SHA-256 (RFC 5869),
and sealed by AES-256-GCM (NIST SP 800-38D): whoever carries the bytes can neither read nor alter nor make them.
"""

import base64
import binascii
import re
from dataclasses import dataclass, field
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from protocol.session import TERMINAL_ID

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 16
"""Bytes of the random values that both ends put into a session."""
SEAL_NONCE_BYTES: Final = 12

_CREDENTIAL: Final = "tillwire-relay-1"
_CREDENTIAL_PARTS: Final = 6
_GENERATION: Final = re.compile("[0-9]{1,9}")
_SEQUENCE_BYTES: Final = 8


class NotGenuine(ValueError):  # noqa: N818 - it says what is the matter
    """Sealed bytes that were altered, or made without the key."""


def derived(key: bytes, purpose: str, salt: bytes = b"") -> bytes:
    """Return 32 bytes that are good for one purpose and tell nothing about `key`."""
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=salt, info=purpose.encode()).derive(key)


def relay_key(master: bytes, code: str, generation: int) -> bytes:
    """Return the key of a relay, which headquarters need not store: its next generation has another one."""
    return derived(master, f"tillwire relay {generation} {code}")


@dataclass(frozen=True, slots=True)
class RelayCredential:
    """What a relay is given once: who it is, where its topics are, its key and which generation of it that is."""

    network: str
    store: str
    code: str
    generation: int
    key: bytes = field(repr=False)

    def __str__(self) -> str:
        """Return the one line that an operator copies."""
        key = base64.urlsafe_b64encode(self.key).rstrip(b"=").decode()
        return f"{_CREDENTIAL}/{self.network}/{self.store}/{self.code}/{self.generation}/{key}"

    @classmethod
    def parse(cls, line: str) -> Self:
        """Read what `str` gave. Raises ValueError that names what is wrong and does not quote the key."""
        parts = line.strip().split("/")
        if len(parts) != _CREDENTIAL_PARTS or parts[0] != _CREDENTIAL:
            raise ValueError(
                f"a relay's credential is one line that begins with {_CREDENTIAL}/ and has five more parts"
            )
        _, network, store, code, generation, packed = parts
        for name, value in (("network", network), ("store", store), ("relay", code)):
            if not TERMINAL_ID.fullmatch(value):
                raise ValueError(f"the {name} in the relay's credential must be 1..64 of A-Z a-z 0-9 . _ : -")
        try:
            key = base64.b64decode(packed + "=" * (-len(packed) % 4), altchars=b"-_", validate=True)
        except binascii.Error:
            key = b""
        if not _GENERATION.fullmatch(generation) or len(key) != KEY_BYTES:
            raise ValueError("the end of the relay's credential is damaged: copy the whole line")
        return cls(network, store, code, int(generation), key)

    @property
    def topic(self) -> str:
        """The topic under which everything of this relay lies."""
        return f"tillwire/1/{self.network}/{self.store}/{self.code}"


class Seal:
    """One key in use. Not for two directions: a nonce must never be used twice with one key."""

    __slots__ = ("_cipher",)

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def close_once(self, plain: bytes, bound_to: bytes, nonce: bytes) -> bytes:
        """Return sealed bytes that begin with `nonce`, 12 random bytes."""
        return nonce + self._cipher.encrypt(nonce, plain, bound_to)

    def open_once(self, sealed: bytes, bound_to: bytes) -> bytes:
        """Return what `close_once` was given. Raises NotGenuine."""
        return self._open(sealed[:SEAL_NONCE_BYTES], sealed[SEAL_NONCE_BYTES:], bound_to)

    def close(self, sequence: int, plain: bytes, bound_to: bytes) -> bytes:
        """Return sealed bytes; `sequence` must never come twice with this key."""
        return self._cipher.encrypt(_nonce(sequence), plain, bound_to)

    def open(self, sequence: int, sealed: bytes, bound_to: bytes) -> bytes:
        """Return what `close` was given. Raises NotGenuine."""
        return self._open(_nonce(sequence), sealed, bound_to)

    def _open(self, nonce: bytes, sealed: bytes, bound_to: bytes) -> bytes:
        try:
            return self._cipher.decrypt(nonce, sealed, bound_to)
        except (InvalidTag, ValueError) as error:
            # A nonce that is too short is a ValueError of the library.
            raise NotGenuine("altered, or sealed with another key") from error


def _nonce(sequence: int) -> bytes:
    return sequence.to_bytes(_SEQUENCE_BYTES).rjust(SEAL_NONCE_BYTES, b"\0")


@dataclass(frozen=True, slots=True)
class SessionKeys:
    """The seals of one session: what the relay sends, and what the bridge sends."""

    up: Seal
    down: Seal

    @classmethod
    def of(cls, key: bytes, relay_nonce: bytes, session_id: bytes) -> Self:
        """Derive them from the relay's key and what both ends threw in."""
        salt = relay_nonce + session_id
        return cls(Seal(derived(key, "tillwire session up", salt)), Seal(derived(key, "tillwire session down", salt)))
