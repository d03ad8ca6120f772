"""What every answer of the study's page carries, and which requests are not let in."""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LARGEST_BODY = 64 * 1024

HEADERS = {
    # Nothing inline, nothing from elsewhere, nothing that could frame the page.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
        " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    # Reading rooms share their computers.
    "Cache-Control": "no-store",
}


class SafetyMiddleware:
    """Adds `HEADERS`; refuses what another site sends, and bodies of no rating's size."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        app = _refusal(Headers(scope=scope)) or self._app
        await app(scope, receive, with_headers)


def _refusal(headers: Headers) -> ASGIApp | None:
    # Sent by every current browser; a program of the reader's own sends none.
    if headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        return _problem(403, "asked from another site")
    length = headers.get("content-length", "0")
    if "transfer-encoding" in headers or not length.isdecimal() or int(length) > LARGEST_BODY:
        return _problem(413, "no rating is that large")
    return None


def _problem(status: int, detail: str) -> JSONResponse:
    content = {"status": status, "code": "refused", "detail": detail}
    return JSONResponse(content, status, media_type="application/problem+json")
