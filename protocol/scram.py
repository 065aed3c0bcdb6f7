"""SCRAM-SHA-256 without channel binding (RFC 5802, RFC 7677): both sides prove that they know the secret.

Nothing here reads a clock, a socket or a source of randomness: nonces and salts are parameters. SASLprep is not needed,
because names and secrets are printable ASCII, on which it changes nothing.
"""

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass, field
from typing import Final

ITERATIONS_MIN: Final = 4_096
ITERATIONS: Final = 15_000
"""What every terminal of an installation is given, and so its decoys too: another number would tell them apart."""

ITERATIONS_MAX: Final = 1_000_000
"""Beyond this a hostile server could keep a register computing for seconds."""

KEY_BYTES: Final = 32
SALT_BYTES: Final = 16
GS2_HEADER: Final = "n,,"
_CHANNEL_BINDING: Final = "c=biws"  # Base64 of the GS2 header

_SECRET = re.compile(r"[ -~]{1,128}")
_NONCE = re.compile(r"[!-+\--~]+")
_CLIENT_FIRST = re.compile(r"n,,(n=([^,=]+),r=([!-+\--~]+)(?:,[A-Za-ln-z]=[^,]*)*)")
_SERVER_FIRST = re.compile(r"r=([!-+\--~]+),s=([^,]+),i=([1-9][0-9]{0,7})(?:,[A-Za-ln-z]=[^,]*)*")
_CLIENT_FINAL = re.compile(r"(c=[^,]+,r=([!-+\--~]+)(?:,[A-Za-oq-z]=[^,]*)*),p=([^,]+)")
_SERVER_FINAL = re.compile(r"v=([^,]+)(?:,[A-Za-z]=[^,]*)*")


class AuthenticationFailed(Exception):  # noqa: N818 (the protocol's own word, as in GOODBYE 3)
    """The other side broke SCRAM's rules or could not prove itself; the message holds no secret."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a server stores about a terminal; nobody can log in with it."""

    salt: bytes
    iterations: int
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class SaltedKey:
    """What costs a client its time; kept in memory it makes the next connection cheap. As good as the secret."""

    salt: bytes
    iterations: int
    key: bytes = field(repr=False)


def _hmac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")


def _xor(left: bytes, right: bytes) -> bytes:
    return (int.from_bytes(left) ^ int.from_bytes(right)).to_bytes(len(left))


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


def _from_base64(value: str, what: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except ValueError:
        raise AuthenticationFailed(f"{what} is not Base64") from None


def _check_nonce(nonce: str) -> None:
    if not _NONCE.fullmatch(nonce):
        raise ValueError("a nonce is printable ASCII without comma")


def salted_key(secret: str, salt: bytes, iterations: int) -> SaltedKey:
    """Return SaltedPassword of RFC 5802: PBKDF2, 4,096 iterations take about 2 ms."""
    if not _SECRET.fullmatch(secret):
        raise ValueError("a secret is 1 to 128 printable ASCII characters")
    return SaltedKey(salt, iterations, hashlib.pbkdf2_hmac("sha256", secret.encode(), salt, iterations, KEY_BYTES))


def credentials(secret: str, salt: bytes, iterations: int) -> Credentials:
    """Return what to store for a terminal with this secret."""
    key = salted_key(secret, salt, iterations).key
    stored_key = hashlib.sha256(_hmac(key, b"Client Key")).digest()
    return Credentials(salt, iterations, stored_key, _hmac(key, b"Server Key"))


def decoy_credentials(terminal_id: str, server_secret: bytes, iterations: int) -> Credentials:
    """Return credentials for an unknown terminal: always the same ones, and no secret fits them.

    The handshake then looks like that of a known terminal with a wrong secret, so that terminals cannot be enumerated.
    Known terminals must have salts of SALT_BYTES and the same number of iterations.
    """
    name = terminal_id.encode()
    return Credentials(
        _hmac(server_secret, b"decoy salt " + name)[:SALT_BYTES],
        iterations,
        _hmac(server_secret, b"decoy stored key " + name),
        _hmac(server_secret, b"decoy server key " + name),
    )


class ServerExchange:
    """The server's half: construct with the client's first message, then `challenge`, then `verify`."""

    __slots__ = ("_bare", "_client_nonce", "_credentials", "_nonce", "_server_first", "username")

    def __init__(self, client_first: str) -> None:
        """Read the message; raises AuthenticationFailed when it is not SCRAM or asks for what is not offered."""
        found = _CLIENT_FIRST.fullmatch(client_first)
        if found is None:
            raise AuthenticationFailed("not a SCRAM client-first-message without channel binding")
        self._bare, self.username, self._client_nonce = found.groups()
        self._credentials: Credentials | None = None
        self._nonce = self._server_first = ""

    def challenge(self, known: Credentials, server_nonce: str) -> str:
        """Return the server-first-message; the nonce must be new and unguessable."""
        _check_nonce(server_nonce)
        self._credentials = known
        self._nonce = self._client_nonce + server_nonce
        self._server_first = f"r={self._nonce},s={_base64(known.salt)},i={known.iterations}"
        return self._server_first

    def verify(self, client_final: str) -> str:
        """Return the server-final-message if the proof is right, else raise AuthenticationFailed."""
        if self._credentials is None:
            raise RuntimeError("verify comes after challenge")
        found = _CLIENT_FINAL.fullmatch(client_final)
        if found is None or not client_final.startswith(_CHANNEL_BINDING + ","):
            raise AuthenticationFailed("not a SCRAM client-final-message without channel binding")
        without_proof, nonce, encoded_proof = found.groups()
        proof = _from_base64(encoded_proof, "the proof")
        if not hmac.compare_digest(nonce, self._nonce) or len(proof) != KEY_BYTES:
            raise AuthenticationFailed("the nonce or the proof is wrong")
        message = f"{self._bare},{self._server_first},{without_proof}".encode()
        client_key = _xor(proof, _hmac(self._credentials.stored_key, message))
        if not hmac.compare_digest(hashlib.sha256(client_key).digest(), self._credentials.stored_key):
            raise AuthenticationFailed("the nonce or the proof is wrong")
        return "v=" + _base64(_hmac(self._credentials.server_key, message))


class ClientExchange:
    """The client's half: send `client_first`, then `respond` to the challenge, then `verify` the server.

    `salted`, from an earlier exchange of the same secret, saves PBKDF2 when the server's salt and iterations are the
    same; the one in use is in the attribute `salted` after `respond`.
    """

    __slots__ = ("_bare", "_nonce", "_secret", "_server_signature", "salted")

    def __init__(self, username: str, secret: str, nonce: str, salted: SaltedKey | None = None) -> None:
        _check_nonce(nonce)
        if not _SECRET.fullmatch(username) or "," in username or "=" in username:
            raise ValueError("a user name is printable ASCII without comma and equals sign")
        self._nonce = nonce
        self._secret = secret
        self._bare = f"n={username},r={nonce}"
        self._server_signature: bytes | None = None
        self.salted = salted

    @property
    def client_first(self) -> str:
        """The client-first-message."""
        return GS2_HEADER + self._bare

    def respond(self, server_first: str) -> str:
        """Return the client-final-message; raises AuthenticationFailed when the challenge is not acceptable."""
        found = _SERVER_FIRST.fullmatch(server_first)
        if found is None:
            raise AuthenticationFailed("not a SCRAM server-first-message")
        nonce, encoded_salt, iterations = found[1], found[2], int(found[3])
        if not nonce.startswith(self._nonce) or len(nonce) == len(self._nonce):
            raise AuthenticationFailed("the server did not extend this client's nonce")
        if not ITERATIONS_MIN <= iterations <= ITERATIONS_MAX:
            raise AuthenticationFailed(f"iterations must be {ITERATIONS_MIN}..{ITERATIONS_MAX}")
        key = self._key(_from_base64(encoded_salt, "the salt"), iterations)
        without_proof = f"{_CHANNEL_BINDING},r={nonce}"
        message = f"{self._bare},{server_first},{without_proof}".encode()
        client_key = _hmac(key, b"Client Key")
        signature = _hmac(hashlib.sha256(client_key).digest(), message)
        self._server_signature = _hmac(_hmac(key, b"Server Key"), message)
        return f"{without_proof},p={_base64(_xor(client_key, signature))}"

    def _key(self, salt: bytes, iterations: int) -> bytes:
        if self.salted is None or (self.salted.salt, self.salted.iterations) != (salt, iterations):
            self.salted = salted_key(self._secret, salt, iterations)
        return self.salted.key

    def verify(self, server_final: str) -> None:
        """Return if the server proved that it knows the credentials, else raise AuthenticationFailed."""
        if self._server_signature is None:
            raise RuntimeError("verify comes after respond")
        found = _SERVER_FINAL.fullmatch(server_final)
        if found is None:
            raise AuthenticationFailed("not a SCRAM server-final-message")
        if not hmac.compare_digest(_from_base64(found[1], "the server's signature"), self._server_signature):
            raise AuthenticationFailed("the server's signature is wrong")
