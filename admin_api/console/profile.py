"""One's own affairs: where one is signed in, and in which language the console greets."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request, Response

from admin_api.api.sign_in import end_own_session, own_sessions
from admin_api.console.rendering import page
from admin_api.console.visitor import Flash, SignInNeeded, Visitor, go, visiting
from admin_api.security.authentication import InOffice, address_of

router = APIRouter()
Anyone = Annotated[Visitor, Depends(visiting(None))]


@router.get("/profile")
async def show(visitor: Anyone, office: InOffice) -> Response:
    """Show who is signed in here, and where else."""
    if visitor.session is None:
        raise SignInNeeded(visitor.path)
    found = await own_sessions(office, visitor.session)
    return page(visitor, "profile.html", sessions=found, session=visitor.session)


@router.post("/profile/sessions/{session_id}/end")
async def end(
    request: Request,
    visitor: Anyone,
    office: InOffice,
    session_id: Annotated[str, Path(pattern="^[0-9a-f]{8,64}$")],
) -> Response:
    """End one of one's own sessions; doing so again finds none, which is as well."""
    if visitor.session is None:
        raise SignInNeeded(visitor.path)
    await end_own_session(office, visitor.session, session_id, address_of(request))
    return go("/profile", Flash("done", "profile.ended", {}))
