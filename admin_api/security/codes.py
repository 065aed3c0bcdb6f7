"""The second proof: codes of an authenticator (TOTP, RFC 6238) with the parameters that every such app knows."""

from __future__ import annotations

import hashlib
import hmac
import io

import segno
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.totp import TOTP

from ledger.registry.secrecy import Cipher, Unreadable, derived_key

STEP_S = 30
DIGITS = 6
_SECRET_BYTES = 20
#: A clock may be one step off, and a code may be typed as its time runs out.
_DRIFT_STEPS = 1
_ISSUER = "Tillwire"


class Codes:
    """Makes and checks codes; keeps secrets of TOTP under a key derived from the personal key."""

    def __init__(self, personal_key: bytes) -> None:
        self._cipher = Cipher(derived_key(personal_key, b"totp secrets"))
        self._link_key = derived_key(personal_key, b"totp secrets of invitations")

    def secret_of(self, invitation: str) -> bytes:
        """Return the secret that comes with an invitation: the same at each look, and stored nowhere before it is used.

        It cannot be found from a dump of the database, nor by somebody who has nothing but the link's hash.
        """
        return hashlib.blake2b(invitation.encode(), key=self._link_key, digest_size=_SECRET_BYTES).digest()

    def sealed(self, user_id: int, secret: bytes) -> bytes:
        """Return a secret as it is stored."""
        return self._cipher.encrypt(secret, user_id.to_bytes(8, "big"))

    def step(self, user_id: int, sealed: bytes | None, code: str, now_ms: int) -> int | None:
        """Return the step whose code this is, or None; takes as long where there is no secret."""
        try:
            secret = self._cipher.decrypt(sealed or b"", user_id.to_bytes(8, "big"))
        except Unreadable:
            matching_step(bytes(_SECRET_BYTES), code, now_ms)
            return None
        return matching_step(secret, code, now_ms)


def matching_step(secret: bytes, code: str, now_ms: int) -> int | None:
    """Return the step whose code this is, if it is the present one or a neighbour."""
    now = now_ms // 1_000 // STEP_S
    given = "".join(code.split()).encode()
    found = None
    for step in range(max(0, now - _DRIFT_STEPS), now + _DRIFT_STEPS + 1):
        if hmac.compare_digest(code_at(secret, step), given):
            found = step
    return found


def code_at(secret: bytes, step: int) -> bytes:
    """Return the code of a step, as digits."""
    return _totp(secret).generate(step * STEP_S)


def provisioning_uri(secret: bytes, email: str) -> str:
    """Return what an authenticator reads from a QR code."""
    return _totp(secret).get_provisioning_uri(email, _ISSUER)


def qr_svg(uri: str) -> str:
    """Return a QR code as an SVG element without styles, dark on light whatever the page's colours are."""
    drawn = io.BytesIO()
    segno.make(uri, error="m", micro=False).save(
        drawn,
        kind="svg",
        xmldecl=False,
        svgns=True,
        light="#fff",
        dark="#000",
        scale=6,
        svgclass=None,
        lineclass=None,
        omitsize=True,
    )
    return drawn.getvalue().decode()


def _totp(secret: bytes) -> TOTP:
    # SHA-1 is what authenticators can do; as a keyed hash it is as good as ever.
    return TOTP(secret, DIGITS, SHA1(), STEP_S)  # noqa: S303
