"""Signing in and out, and accepting an invitation: what the JSON endpoints and the pages both call."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from pydantic import BaseModel

from admin_api.office import Office
from admin_api.problem import Problem, invalid, not_found, unauthenticated
from admin_api.security.actor import Actor
from admin_api.security.auditing import audited
from admin_api.security.codes import matching_step, provisioning_uri, qr_svg
from admin_api.security.passwords import PASSWORD_CHARACTERS_MAX, objection
from admin_api.security.permissions import Role
from admin_api.security.sessions import Session, csrf_of, session_of
from ledger.registry import sessions, users
from ledger.registry.registry import Row, Transaction

__all__ = [
    "Browser",
    "Invitation",
    "SignedIn",
    "accept_invitation",
    "csrf_of",
    "invitation",
    "session_actor",
    "sign_in",
    "sign_out",
]

_NOBODY = 0
_WRONG = (
    "e-mail, password or code is wrong, the code was used before, or there were too many attempts: then wait a quarter "
    "of an hour"
)


@dataclass(frozen=True, slots=True)
class Browser:
    """Where somebody signs in: the address, what the browser calls itself, and its device's cookie if it has one."""

    address: str
    agent: str = ""
    device: str = ""


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A new session, and the cookie by which the browser is known as one of its user's."""

    session: Session
    device: str


class Invitation(BaseModel):
    """Whom a link is for, and what the authenticator needs: as an otpauth address, and as a QR code in SVG."""

    email: str
    name: str
    role: Role
    language: str
    expires_ms: int
    uri: str
    qr_svg: str


async def sign_in(office: Office, browser: Browser, *, email: str, password: str, code: str) -> SignedIn:
    """Begin a session. Raises a Problem: 401 with one sentence whatever was wrong, 429.

    What is wrong is not told, neither by words nor by time: an unknown e-mail takes the same steps as a known one.
    """
    guard, clock = office.guard, office.clock
    guard.count_sign_in(browser.address)
    begun_s = clock.monotonic_s()
    async with office.registry.reading() as transaction:
        user = await users.by_email(transaction, email)
    allowed = await _attempt_allowed(office, browser, user)
    stored: str | None = user["password_hash"] if user else None
    right = len(password) <= PASSWORD_CHARACTERS_MAX and await guard.passwords.verified(stored, password)
    user_id = user["user_id"] if user else _NOBODY
    step = guard.codes.step(user_id, user["totp_secret"] if user else None, code, clock.now_ms())
    if user is not None and stored is not None and right and allowed and step is not None:
        fresh_hash = await guard.passwords.hashed(password) if guard.passwords.outdated(stored) else stored
        signed_in = await _begun(office, browser, user, step, fresh_hash)
        if signed_in is not None:
            return signed_in
    await _failed(office, browser, user_id)
    await asyncio.sleep(max(0.0, begun_s + office.limits.sign_in_failed_s - clock.monotonic_s()))
    raise unauthenticated(_WRONG)


async def sign_out(office: Office, session: Session, address: str) -> None:
    """End a session."""
    async with office.registry.writing() as transaction:
        await sessions.end(transaction, session.hash)
        await audited(office, session.actor(address), transaction, "session.end", f"user:{session.user_id}")


async def session_actor(office: Office, secret: str, address: str) -> tuple[Session, Actor] | None:
    """Return the session whose cookie this is, and who asks by it; None when it is not in force (any more)."""
    session = await session_of(office, secret)
    return None if session is None else (session, session.actor(address))


async def invitation(office: Office, token: str) -> Invitation:
    """Return what the page behind a link shows; looking changes nothing. Raises a Problem (404)."""
    async with office.registry.reading() as transaction:
        row = await users.invitation(transaction, token, office.clock.now_ms())
    if row is None:
        raise _no_link()
    uri = provisioning_uri(office.guard.codes.secret_of(token), row["email"])
    return Invitation(
        email=row["email"],
        name=row["name"],
        role=Role(row["role"]),
        language=row["language"],
        expires_ms=row["expires_ms"],
        uri=uri,
        qr_svg=qr_svg(uri),
    )


async def accept_invitation(office: Office, browser: Browser, token: str, *, password: str, code: str) -> SignedIn:
    """Use a link up: set the password and the authenticator, end all older sessions of the user, begin one.

    Raises a Problem: 404 when the link does not work (any more), 422 when the password will not do or the code is not
    that of the secret shown, 429. After a 422 the link can be tried again. Should the answer be lost, the user can sign
    in.
    """
    office.guard.count_sign_in(browser.address)
    shown = await invitation(office, token)
    wrong = objection(password, shown.email)
    if wrong is not None:
        raise invalid(wrong, ("password", wrong))
    secret = office.guard.codes.secret_of(token)
    step = matching_step(secret, code, office.clock.now_ms())
    if step is None:
        wrong = "the code is not the one that the authenticator shows now"
        raise invalid(wrong, ("code", wrong))
    password_hash = await office.guard.passwords.hashed(password)
    async with office.registry.writing() as transaction:
        user_id = await users.use_invitation(transaction, token, office.clock.now_ms())
        user = None if user_id is None else await users.by_id(transaction, user_id, to_change=True)
        if user_id is None or user is None:
            raise _no_link()
        await users.set_credentials(
            transaction,
            user_id,
            password_hash=password_hash,
            totp_secret=office.guard.codes.sealed(user_id, secret),
            step=step,
        )
        await sessions.end_all(transaction, user_id)
        session = await _session(office, browser, transaction, user)
        await audited(office, session.actor(browser.address), transaction, "invitation.accept", f"user:{user_id}")
    return SignedIn(session, office.guard.devices.cookie({"user_id": user_id, "password_hash": password_hash}))


async def _attempt_allowed(office: Office, browser: Browser, user: Row | None) -> bool:
    """Count an attempt before it is looked at, so that many at once cannot outrun the count."""
    if browser.device and office.guard.devices.count_attempt(browser.device, user):
        return True
    async with office.registry.writing() as transaction:
        return await users.count_attempt(
            transaction,
            user["user_id"] if user else _NOBODY,
            office.clock.now_ms(),
            failures_max=office.limits.failures_max,
            lockout_s=office.limits.lockout_s,
        )


async def _begun(office: Office, browser: Browser, user: Row, step: int, fresh_hash: str) -> SignedIn | None:
    """Begin a session, unless the user was changed meanwhile or the code was used before."""
    async with office.registry.writing() as transaction:
        now = await users.by_id(transaction, user["user_id"], to_change=True)
        if now is None or not now["active"] or now["password_hash"] != user["password_hash"]:
            return None
        if not await users.take_step(transaction, user["user_id"], step):
            return None
        await users.signed_in(transaction, user["user_id"])
        if fresh_hash != user["password_hash"]:
            await users.rehash(transaction, user["user_id"], user["password_hash"], fresh_hash)
        session = await _session(office, browser, transaction, now)
        await audited(office, session.actor(browser.address), transaction, "session.begin", f"user:{user['user_id']}")
    return SignedIn(session, office.guard.devices.cookie({"user_id": user["user_id"], "password_hash": fresh_hash}))


async def _session(office: Office, browser: Browser, transaction: Transaction, user: Row) -> Session:
    now_ms = office.clock.now_ms()
    expires_ms = now_ms + office.limits.session_s * 1_000
    secret = await sessions.add(
        transaction,
        user["user_id"],
        now_ms=now_ms,
        idle_s=office.limits.session_idle_s,
        expires_ms=expires_ms,
        address=browser.address,
        agent=browser.agent,
    )
    return Session.of(secret, user, created_ms=now_ms, expires_ms=expires_ms)


async def _failed(office: Office, browser: Browser, user_id: int) -> None:
    """Record a failure, of an unknown e-mail as well, which is not named."""
    stranger = Actor("system", "somebody not signed in", frozenset(), address=browser.address)
    async with office.registry.writing() as transaction:
        await audited(office, stranger, transaction, "session.refuse", f"user:{user_id}")


def _no_link() -> Problem:
    return not_found("such invitation: it was used, has expired, or was replaced by a newer one")
