"""What nobody expected becomes an answer without details, and a line in the log that has them."""

from __future__ import annotations

import secrets

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from admin_api.problem import Problem, answer

_REFERENCE_BYTES = 6


class Unexpected:
    """Answers 500 with a reference by which the line in the log is found."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._log = structlog.get_logger(subject="admin")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a connection. Raises what came when a part of the answer has left already."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def sending(message: Message) -> None:
            nonlocal begun
            begun = begun or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except ClientDisconnect:
            return
        except Exception:
            reference = secrets.token_hex(_REFERENCE_BYTES)
            # The path itself may hold the secret of an invitation or a member's phone number; its pattern does not.
            route = getattr(scope.get("route"), "path", "")
            self._log.exception("request failed", reference=reference, method=scope["method"], route=route)
            if begun:
                raise
            problem = Problem(
                500,
                "unexpected",
                "A fault of the server",
                f"this should not happen; the log of the server has it as {reference}",
                reference=reference,
            )
            await answer(problem)(scope, receive, send)
