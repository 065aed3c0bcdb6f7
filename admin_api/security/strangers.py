"""What is asked of requests before anybody knows who sent them: how often, and from which site."""

from __future__ import annotations

from contextlib import suppress
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from admin_api.office import Office
from admin_api.problem import Problem, answer, forbidden
from admin_api.security.authentication import KNOWN, address_of
from admin_api.security.sessions import secret_in

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
#: Whoever watches the process asks as often as he likes.
_WATCHED = ("/health/", "/metrics")


class Strangers:
    """Bounds the requests of each address that nobody known made, and refuses what another site's page sends."""

    def __init__(self, app: ASGIApp, *, office: Office) -> None:
        self._app = app
        self._office = office
        self._own_site = urlsplit(office.console_url).netloc

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a connection."""
        if scope["type"] != "http" or scope["path"].startswith(_WATCHED):
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        address = address_of(request)
        guard = self._office.guard
        claims = "authorization" in request.headers or secret_in(self._office, request) is not None
        try:
            if claims:
                guard.check_stranger(address)
            else:
                guard.count_stranger(address)
            self._check_site(request)
        except Problem as problem:
            await answer(problem)(scope, receive, send)
            return

        # Shared with whatever the request is passed on to.
        state = scope.setdefault("state", {})

        async def sending(message: Message) -> None:
            if claims and message["type"] == "http.response.start" and not state.get(KNOWN):
                # Whoever sends credentials that nobody recognised is a stranger after all, whatever the answer is.
                with suppress(Problem):
                    guard.count_stranger(address)
            await send(message)

        await self._app(scope, receive, sending)

    def _check_site(self, request: Request) -> None:
        """Refuse what a browser sends on behalf of another site, signing in included, which needs no cookie yet."""
        origin = request.headers.get("origin")
        if request.method in _SAFE_METHODS or origin is None or "authorization" in request.headers:
            return
        if _site(origin) not in {request.headers.get("host"), self._own_site or None}:
            raise forbidden("this comes from a page of another site")


def _site(origin: str) -> str:
    """Return host and port of an origin; of what is none, an empty text, which is nobody's."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""
