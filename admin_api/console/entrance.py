"""Signing in and out, and the page behind an invitation."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import parse_qs, urlsplit

from fastapi import APIRouter, Depends, Form, Query, Request, Response
from markupsafe import Markup

from admin_api.console.rendering import page
from admin_api.console.visitor import LANGUAGE_COOKIE, Anybody, Flash, Visitor, go, keep, local, visiting
from admin_api.office import Office
from admin_api.problem import Problem
from admin_api.security import sign_in as entering
from admin_api.security.authentication import InOffice, address_of
from admin_api.security.sessions import clear_cookie, device_in, set_cookies
from admin_api.security.sign_in import Browser, SignedIn

router = APIRouter()
_NOT_FOUND, _WRONG, _TOO_MANY = 404, 422, 429


def _browser(office: Office, request: Request) -> Browser:
    return Browser(address_of(request), request.headers.get("user-agent", ""), device_in(office, request))


def _entered(office: Office, request: Request, signed_in: SignedIn, back: str) -> Response:
    response = go(back)
    set_cookies(office, request, response, signed_in.session, signed_in.device)
    return response


@router.get("/sign-in")
async def ask(visitor: Anybody, back: Annotated[str, Query()] = "/") -> Response:
    """Show the form; who is signed in already goes on."""
    if visitor.actor is not None:
        return go(back)
    return page(visitor, "sign_in.html", back=local(back), email="", wrong="")


@router.post("/sign-in")
async def enter(
    request: Request,
    office: InOffice,
    visitor: Anybody,
    email: Annotated[str, Form()] = "",
    password: Annotated[str, Form()] = "",
    code: Annotated[str, Form()] = "",
    back: Annotated[str, Form()] = "/",
) -> Response:
    """Sign in, and go on to where somebody wanted to go."""
    code = "".join(code.split())
    try:
        browser = _browser(office, request)
        signed_in = await entering.sign_in(office, browser, email=email.strip(), password=password, code=code)
    except Problem as problem:
        wrong = "sign_in.too_many" if problem.status == _TOO_MANY else "sign_in.failed"
        return page(visitor, "sign_in.html", status=problem.status, back=local(back), email=email, wrong=wrong)
    return _entered(office, request, signed_in, back)


@router.post("/sign-out")
async def leave(request: Request, office: InOffice, visitor: Annotated[Visitor, Depends(visiting(None))]) -> Response:
    """End the session."""
    if visitor.session is not None:
        await entering.sign_out(office, visitor.session, address_of(request))
    response = go("/sign-in", Flash("done", "sign_in.out", {}))
    clear_cookie(office, request, response)
    return response


@router.get("/invitation/{token}")
async def welcome(office: InOffice, visitor: Anybody, token: str) -> Response:
    """Show what an invitation is for."""
    return await _welcome(office, visitor, token, "")


@router.post("/invitation/{token}")
async def accept(
    request: Request,
    office: InOffice,
    visitor: Anybody,
    token: str,
    password: Annotated[str, Form()] = "",
    again: Annotated[str, Form()] = "",
    code: Annotated[str, Form()] = "",
) -> Response:
    """Use an invitation up, and begin."""
    if password != again:
        return await _welcome(office, visitor, token, visitor.words.t("welcome.differ"))
    try:
        signed_in = await entering.accept_invitation(
            office, _browser(office, request), token, password=password, code="".join(code.split())
        )
    except Problem as problem:
        if problem.status != _WRONG:
            raise
        return await _welcome(office, visitor, token, str(problem.body["detail"]))
    response = _entered(office, request, signed_in, "/")
    keep(response, LANGUAGE_COOKIE, visitor.words.language)
    return response


async def _welcome(office: Office, visitor: Visitor, token: str, wrong: str) -> Response:
    try:
        invited = await entering.invitation(office, token)
    except Problem as problem:
        if problem.status != _NOT_FOUND:
            raise
        return page(visitor, "welcome_gone.html", status=_NOT_FOUND)
    secret = parse_qs(urlsplit(invited.uri).query).get("secret", [""])[0]
    return page(
        visitor, "welcome.html", status=_WRONG if wrong else 200, invited=invited, wrong=wrong,
        picture=Markup(invited.qr_svg),  # noqa: S704 - made here, and its text is a picture
        secret=" ".join(secret[i : i + 4] for i in range(0, len(secret), 4)), token=token,
    )  # fmt: skip
