"""ASGI middleware: a body over the limit is refused before it is read whole."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llmcxr_service.errors import BodyTooLarge
from llmcxr_service.problems import error_response


class BodyLimit:
    """Refuses by Content-Length at once, and without one as soon as too much has come.

    Args:
        app: what is protected.
        max_bytes: largest body.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if _declared_length(scope) > self._max_bytes:
            scope["state"]["rejection"] = BodyTooLarge.default_reason
            # The rest of the body is never read, so the connection cannot be used again.
            response = error_response(self._error(), scope["state"]["request_id"])
            response.headers["Connection"] = "close"
            await response(scope, receive, send)
            return
        await self._app(scope, self._counting(receive), send)

    def _counting(self, receive: Receive) -> Receive:
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._max_bytes:
                # Raised where the route reads its body; the exception handlers answer.
                raise self._error()
            return message

        return counted

    def _error(self) -> BodyTooLarge:
        return BodyTooLarge(f"The body has more than {self._max_bytes} bytes.")


def _declared_length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() else 0
    return 0
