"""ASGI middleware: a body over the limit is refused before it is read whole, or waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llmcxr_service.errors import BodyTooLarge, BodyTooSlow
from llmcxr_service.problems import error_response


class BodyLimit:
    """Refuses by Content-Length at once, and without one as soon as too much has come.

    Args:
        app: what is protected.
        max_bytes: largest body.
        max_seconds: longest time that it may take to come.
        larger: other limits, by the beginning of a path; for bodies that are never held whole.
    """

    def __init__(
        self,
        app: ASGIApp,
        max_bytes: int,
        max_seconds: float = 120.0,
        larger: Mapping[str, int] | None = None,
    ) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._max_seconds = max_seconds
        self._larger = larger or {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        max_bytes = self._limit(scope["path"])
        if _declared_length(scope) > max_bytes:
            scope["state"]["rejection"] = BodyTooLarge.default_reason
            # The rest of the body is never read, so the connection cannot be used again.
            response = error_response(_error(max_bytes), scope["state"]["request_id"])
            response.headers["Connection"] = "close"
            await response(scope, receive, send)
            return
        await self._app(scope, self._bounded(receive, max_bytes), send)

    def _limit(self, path: str) -> int:
        for beginning, max_bytes in self._larger.items():
            if path.startswith(beginning):
                return max_bytes
        return self._max_bytes

    def _bounded(self, receive: Receive, max_bytes: int) -> Receive:
        """Both errors are raised where the route reads its body; the handlers answer them."""
        seen = 0
        complete = False
        deadline = asyncio.get_running_loop().time() + self._max_seconds

        async def bounded() -> Message:
            nonlocal seen, complete
            if complete:  # what comes now is the client's going away, some time
                return await receive()
            try:
                # Else a client that sends a byte a minute would hold a place in work.
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise BodyTooSlow("The body took too long to arrive.") from None
            seen += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if seen > max_bytes:
                raise _error(max_bytes)
            return message

        return bounded


def _error(max_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(f"The body has more than {max_bytes} bytes.")


def _declared_length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() else 0
    return 0
