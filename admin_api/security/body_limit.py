"""No request makes the process hold more than a bounded body."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from admin_api.problem import answer, too_large


class _TooLarge(Exception):  # noqa: N818 - it never leaves this module
    pass


class BodyLimit:
    """Answers 413 to a body of more than `bytes_max`, whether its length was announced or not."""

    def __init__(self, app: ASGIApp, *, bytes_max: int) -> None:
        self._app = app
        self._bytes_max = bytes_max

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refused = answer(too_large(self._bytes_max))
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > self._bytes_max:
            await refused(scope, receive, send)
            return
        received, begun, over = 0, False, False

        async def receiving() -> Message:
            nonlocal received, over
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._bytes_max:
                over = True
                raise _TooLarge
            return message

        async def sending(message: Message) -> None:
            nonlocal begun
            # Whatever the endpoint made of the exception: the answer is that the body is too large.
            if over and not begun:
                return
            begun = True
            await send(message)

        try:
            await self._app(scope, receiving, sending)
        except _TooLarge:
            if begun:
                raise
        if over and not begun:
            await refused(scope, receive, send)
