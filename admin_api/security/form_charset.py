"""No form is read in an encoding of the sender's choice: some take Python a minute for a megabyte."""

from __future__ import annotations

from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from admin_api.problem import answer, bad_request

_MULTIPART = b"multipart/"
_UTF_8 = frozenset({b"utf-8", b"utf8"})


class FormCharset:
    """Answers 400 to a form in parts that says to be written in anything but UTF-8; browsers never say so."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a connection."""
        if scope["type"] == "http":
            # Read as the framework reads it, so that the two cannot disagree.
            kind, options = parse_options_header(Headers(scope=scope).get("content-type"))
            if kind.lower().startswith(_MULTIPART) and options.get(b"charset", b"utf-8").lower() not in _UTF_8:
                await answer(bad_request("a form is written in UTF-8"))(scope, receive, send)
                return
        await self._app(scope, receive, send)
