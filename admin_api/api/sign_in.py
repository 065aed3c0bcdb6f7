"""Signing in and out as JSON; the pages of the console do the same by forms.

These endpoints have no Idempotency-Key: nobody is known yet whose key it could be, and a session is not had twice.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, Field

from admin_api.fields import Asked
from admin_api.office import Office
from admin_api.problem import PROBLEMS, not_found
from admin_api.security import sign_in
from admin_api.security.auditing import audited
from admin_api.security.authentication import InOffice, InSession, address_of
from admin_api.security.permissions import Role
from admin_api.security.sessions import Session, clear_cookie, csrf_of, device_in, set_cookies
from ledger.registry import sessions

router = APIRouter(prefix="/v1", tags=["signing in"], responses=PROBLEMS)

_ID_BYTES = 8
_Token = Annotated[str, Path(pattern=r"^[!-~]{1,100}$")]
_SessionId = Annotated[str, Path(pattern=r"^[0-9a-f]{16}$")]


class SignInAsked(Asked):
    """Who it is, and two proofs."""

    email: str = Field(max_length=254)
    password: str = Field(max_length=1_000)
    code: str = Field(max_length=20, description="The six digits that the authenticator shows now.")


class AcceptAsked(Asked):
    """The password chosen, and a code of the authenticator that has just been set up."""

    password: str = Field(max_length=1_000)
    code: str = Field(max_length=20)


class SessionShown(BaseModel):
    """The session of this browser. `csrf` goes into the header x-csrf-token of whatever is no GET."""

    session_id: str
    user_id: int
    email: str
    name: str
    role: Role
    partner_id: int | None
    language: str
    permissions: list[str]
    csrf: str
    created_ms: int
    expires_ms: int


class SessionListed(BaseModel):
    """One of the sessions of a user."""

    session_id: str
    this: bool
    created_ms: int
    seen_ms: int
    expires_ms: int
    address: str
    agent: str


class SessionList(BaseModel):
    """All of them: they are few."""

    items: list[SessionListed]
    next: None = None


@router.post("/sign-in", summary="Begin a session; the cookie is in the answer's header.")
async def post_sign_in(office: InOffice, request: Request, response: Response, asked: SignInAsked) -> SessionShown:
    """Sign in with password and code. What is wrong is not told."""
    signed_in = await sign_in.sign_in(
        office, browser_of(office, request), email=asked.email, password=asked.password, code=asked.code
    )
    set_cookies(office, request, response, signed_in.session, signed_in.device)
    return _shown(signed_in.session)


@router.post("/sign-out", status_code=204, summary="End this session.")
async def post_sign_out(office: InOffice, request: Request, session: InSession) -> Response:
    """Sign out."""
    await sign_in.sign_out(office, session, address_of(request))
    response = Response(status_code=204)
    clear_cookie(office, request, response)
    return response


@router.get("/invitations/{token}", summary="What the page behind a link shows.")
async def get_invitation(office: InOffice, token: _Token) -> sign_in.Invitation:
    """Look at an invitation; that changes nothing."""
    return await sign_in.invitation(office, token)


@router.post("/invitations/{token}", summary="Choose a password, confirm the authenticator, and be signed in.")
async def post_invitation(
    office: InOffice, request: Request, response: Response, token: _Token, asked: AcceptAsked
) -> SessionShown:
    """Accept an invitation; the link works once."""
    signed_in = await sign_in.accept_invitation(
        office, browser_of(office, request), token, password=asked.password, code=asked.code
    )
    set_cookies(office, request, response, signed_in.session, signed_in.device)
    return _shown(signed_in.session)


@router.get("/me/session", summary="Who is signed in here.")
async def get_session(session: InSession) -> SessionShown:
    """Look at one's own session."""
    return _shown(session)


@router.get("/me/sessions", summary="All sessions of whoever is signed in here.")
async def get_sessions(office: InOffice, session: InSession) -> SessionList:
    """List one's own sessions."""
    return SessionList(items=await own_sessions(office, session))


@router.delete("/me/sessions/{session_id}", status_code=204, summary="End one of one's own sessions.")
async def delete_session(office: InOffice, request: Request, session: InSession, session_id: _SessionId) -> Response:
    """End a session of one's own."""
    await end_own_session(office, session, session_id, address_of(request))
    return Response(status_code=204)


def browser_of(office: Office, request: Request) -> sign_in.Browser:
    """Return where a request that wants to sign in comes from."""
    return sign_in.Browser(address_of(request), request.headers.get("user-agent", ""), device_in(office, request))


async def own_sessions(office: Office, session: Session) -> list[SessionListed]:
    """Return the sessions of a session's user."""
    async with office.registry.reading() as transaction:
        rows = await sessions.of_user(
            transaction, session.user_id, office.clock.now_ms(), idle_s=office.limits.session_idle_s
        )
    return [
        SessionListed(
            session_id=_id_of(row["hash"]),
            this=row["hash"] == session.hash,
            **{name: row[name] for name in ("created_ms", "seen_ms", "expires_ms", "address", "agent")},
        )
        for row in rows
    ]


async def end_own_session(office: Office, session: Session, session_id: str, address: str) -> None:
    """End one of the sessions of a session's user. Raises a Problem (404)."""
    async with office.registry.writing() as transaction:
        rows = await sessions.of_user(
            transaction, session.user_id, office.clock.now_ms(), idle_s=office.limits.session_idle_s
        )
        for row in rows:
            if _id_of(row["hash"]) == session_id:
                await sessions.end(transaction, row["hash"])
                await audited(office, session.actor(address), transaction, "session.end", f"user:{session.user_id}")
                return
    raise not_found("such session")


def _id_of(session_hash: bytes) -> str:
    return session_hash[:_ID_BYTES].hex()


def _shown(session: Session) -> SessionShown:
    return SessionShown(
        session_id=_id_of(session.hash),
        user_id=session.user_id,
        email=session.email,
        name=session.name,
        role=session.role,
        partner_id=session.partner_id,
        language=session.language,
        permissions=sorted(session.actor("").permissions),
        csrf=csrf_of(session),
        created_ms=session.created_ms,
        expires_ms=session.expires_ms,
    )
