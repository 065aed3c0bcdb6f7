"""Who looks at a page: the person signed in, the language, the colours, and what the last step had to say."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, NamedTuple
from urllib.parse import quote

import orjson
from fastapi import Depends, Request, Response
from fastapi.responses import RedirectResponse

from admin_api.console.words import LANGUAGES, Words, preferred
from admin_api.office import Office
from admin_api.security.actor import Actor
from admin_api.security.authentication import InOffice, address_of, current_session
from admin_api.security.permissions import Permission
from admin_api.security.sessions import Session, csrf_of

THEMES = ("auto", "light", "dark")
LANGUAGE_COOKIE, THEME_COOKIE, FLASH_COOKIE = "tillwire-language", "tillwire-theme", "tillwire-flash"
_YEAR_S = 366 * 86_400
_FLASH_S = 60
_FLASH_BYTES_MAX = 2_000


class Flash(NamedTuple):
    """What a step had to say: "done" or "wrong", a key of words, and its fields."""

    kind: str
    key: str
    fields: dict[str, Any]


class SignInNeeded(Exception):  # noqa: N818 - it is no error
    """Nobody is signed in; `back` is where to go afterwards."""

    def __init__(self, back: str) -> None:
        super().__init__(back)
        self.back = back


@dataclass(frozen=True, slots=True)
class Visitor:
    """What every page is made for."""

    words: Words
    theme: str
    path: str
    session: Session | None = None
    actor: Actor | None = None
    flashes: list[Flash] = field(default_factory=list)
    #: Where the page lies, also if it answers a form; `path` is where one can go back to.
    place: str = "/"

    def may(self, permission: Permission) -> bool:
        """Return whether somebody is signed in who may do this."""
        return self.actor is not None and self.actor.may(permission)

    @property
    def csrf(self) -> str:
        """What every form carries."""
        return csrf_of(self.session) if self.session else ""


def stranger(request: Request, office: Office, session: Session | None = None) -> Visitor:
    """Return what is known without asking the database, beside the session that somebody else may have found."""
    cookies = request.cookies
    language = cookies.get(LANGUAGE_COOKIE) or (session.language if session else "")
    if language not in LANGUAGES:
        language = preferred(request.headers.get("accept-language", ""))
    theme = cookies.get(THEME_COOKIE, THEMES[0])
    path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    visitor = Visitor(
        Words(language, office.programme.days.zone),
        theme if theme in THEMES else THEMES[0],
        local(path) if request.method == "GET" else "/",
        session,
        session.actor(address_of(request)) if session else None,
        _flashes(cookies.get(FLASH_COOKIE, "")),
        request.url.path,
    )
    request.state.visitor = visitor
    return visitor


async def anybody(request: Request, office: InOffice) -> Visitor:
    """Return the visitor of a page that needs nobody to be signed in. Raises a Problem (403)."""
    return stranger(request, office, await current_session(request, office))


Anybody = Annotated[Visitor, Depends(anybody)]


def visiting(permission: Permission | None) -> Callable[..., Awaitable[Visitor]]:
    """Return the dependency of a page that needs a permission, or only that somebody is signed in (None)."""

    async def permitted(office: InOffice, visitor: Anybody) -> Visitor:
        if visitor.actor is None:
            raise SignInNeeded(visitor.path)
        office.guard.count_request(visitor.actor.name)
        if permission is not None:
            visitor.actor.check(permission)
        return visitor

    return permitted


def seen(visitor: Visitor) -> Actor:
    """Return who is signed in on a page that `visiting` guards."""
    assert visitor.actor is not None  # noqa: S101 - an assertion that stays on
    return visitor.actor


def local(path: str) -> str:
    """Return a path of this server to go back to; another server's address becomes the start page."""
    good = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable() and "\\" not in path
    return path if good else "/"


def sign_in_address(back: str) -> str:
    """Return where to sign in, coming back afterwards."""
    return "/sign-in" if local(back) == "/" else f"/sign-in?back={quote(local(back))}"


def go(path: str, flash: Flash | None = None) -> RedirectResponse:
    """Return the answer to a form that was taken: look at a page, with something to say."""
    response = RedirectResponse(local(path), 303)
    if flash is not None:
        value = base64.urlsafe_b64encode(orjson.dumps(list(flash))).decode()
        keep(response, FLASH_COOKIE, value, age_s=_FLASH_S)
    return response


def keep(response: Response, name: str, value: str, *, age_s: int = _YEAR_S) -> None:
    """Set a cookie that is no secret."""
    response.set_cookie(name, value, max_age=age_s, path="/", httponly=True, samesite="lax")


def _flashes(cookie: str) -> list[Flash]:
    if not cookie or len(cookie) > _FLASH_BYTES_MAX:
        return []
    try:
        kind, key, fields = orjson.loads(base64.urlsafe_b64decode(cookie))
    except (ValueError, TypeError):
        return []
    good = kind in ("done", "wrong") and isinstance(key, str) and isinstance(fields, dict)
    return [Flash(kind, key, fields)] if good else []
