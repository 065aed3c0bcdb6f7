"""Sessions of people: a random secret in a cookie, and what stands behind it."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlsplit

from fastapi import Request, Response

from admin_api.office import Office
from admin_api.security.actor import Actor
from admin_api.security.devices import DEVICE_S
from admin_api.security.permissions import ROLES, Role
from ledger.registry import sessions
from ledger.registry.registry import Row
from ledger.registry.tokens import hashed

#: A sign of life is noted at most so often.
_SEEN_EVERY_MS = 60_000
CSRF_HEADER = "x-csrf-token"
CSRF_FIELD = "csrf"


@dataclass(frozen=True, slots=True)
class Session:
    """A person at a browser. `secret` is what the cookie holds; everything else is as it was a moment ago."""

    secret: str = field(repr=False)
    user_id: int
    email: str
    name: str
    role: Role
    partner_id: int | None
    language: str
    created_ms: int
    expires_ms: int

    @classmethod
    def of(cls, secret: str, user: Row, *, created_ms: int, expires_ms: int) -> Self:
        """Return the session of a user whose row this is, or who is part of it."""
        of_user = {name: user[name] for name in ("user_id", "email", "name", "partner_id", "language")}
        return cls(secret=secret, role=Role(user["role"]), created_ms=created_ms, expires_ms=expires_ms, **of_user)

    @property
    def hash(self) -> bytes:
        """What the database knows of it."""
        return hashed(self.secret)

    def actor(self, address: str) -> Actor:
        """Return who is asking when this session asks from an address."""
        return Actor(f"user:{self.user_id}", self.name, ROLES[self.role], partner_id=self.partner_id, address=address)


def csrf_of(session: Session) -> str:
    """Return what every request of a session that is no GET carries, in a header or as a field of its form.

    Another site's page can make a browser send the cookie, but cannot read it, so it cannot know this.
    """
    return hashlib.blake2b(key=session.secret.encode(), person=b"csrf", digest_size=32).hexdigest()


def csrf_is_right(session: Session, given: str) -> bool:
    """Return whether a request comes from a page of this session."""
    return hmac.compare_digest(csrf_of(session).encode(), given.encode())


async def session_of(office: Office, secret: str) -> Session | None:
    """Return the session whose cookie this is, if it is in force, and note a sign of life."""
    now_ms = office.clock.now_ms()
    async with office.registry.reading() as transaction:
        row = await sessions.by_secret(transaction, secret, now_ms, idle_s=office.limits.session_idle_s)
    if row is None:
        return None
    if row["seen_ms"] < now_ms - _SEEN_EVERY_MS:
        async with office.registry.writing() as transaction:
            await sessions.touch(transaction, secret, now_ms)
    return Session.of(secret, row, created_ms=row["created_ms"], expires_ms=row["expires_ms"])


# ---- cookies


def secret_in(office: Office, request: Request) -> str | None:
    """Return what the session's cookie of a request holds."""
    return request.cookies.get(_name(_secure(office, request), "tillwire"))


def device_in(office: Office, request: Request) -> str:
    """Return what the device's cookie of a request holds, or nothing."""
    return request.cookies.get(_name(_secure(office, request), "tillwire-device"), "")


def set_cookies(office: Office, request: Request, response: Response, session: Session, device: str) -> None:
    """Give a browser the session and what shows that its user signed in from here."""
    secure = _secure(office, request)
    _set(response, secure, "tillwire", session.secret, office.limits.session_s)
    _set(response, secure, "tillwire-device", device, DEVICE_S)


def clear_cookie(office: Office, request: Request, response: Response) -> None:
    """Take the session's cookie away."""
    _set(response, _secure(office, request), "tillwire", "", 0)


def _set(response: Response, secure: bool, name: str, value: str, age_s: int) -> None:
    response.set_cookie(
        _name(secure, name), value, max_age=age_s, path="/", secure=secure, httponly=True, samesite="lax"
    )


def _name(secure: bool, name: str) -> str:
    # With this prefix browsers take the cookie from this very host over TLS only, and no other host can overwrite it.
    return f"__Host-{name}" if secure else name


def _secure(office: Office, request: Request) -> bool:
    """Return whether cookies travel over TLS alone: always, unless the console is plain HTTP and on this machine.

    Whoever calls such a console by another name of the machine gets a cookie that his browser does not keep.
    """
    parts = urlsplit(office.console_url)
    return parts.scheme != "http" or not _loopback(parts.hostname) or not _loopback(request.url.hostname)


def _loopback(host: str | None) -> bool:
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return host == "localhost"
