"""ASGI middleware: nobody reaches a route, and no body is read, without the right to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry, Counter
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as Connection

from llmcxr_models.errors import CxrError
from llmcxr_service.access.callers import ANYBODY
from llmcxr_service.access.door import Door
from llmcxr_service.access.refusals import Cause
from llmcxr_service.access.table import OPEN, needed_by
from llmcxr_service.errors import Forbidden, IssuerUnavailable, RateLimited, Unauthenticated
from llmcxr_service.problems import error_response

_REALM = 'Bearer realm="llmcxr"'


class Access:
    """Recognises callers, and refuses.

    Args:
        app: what is protected.
        door: recognises callers.
        routes: of the application.
        registry: for the count of refusals.
    """

    def __init__(
        self,
        app: ASGIApp,
        door: Door,
        routes: Callable[[], Sequence[BaseRoute]],
        registry: CollectorRegistry,
    ) -> None:
        self._app = app
        self._door = door
        self._routes = routes
        self._refusals = Counter(
            "llmcxr_access_refusals",
            "Requests whose caller was not let in, by cause.",
            ["cause"],
            registry=registry,
        )
        for cause in (*Cause, "scope", "rate", "issuer-unavailable"):
            self._refusals.labels(cause)  # so that an alert sees 0 before the first one

    async def __call__(self, connection: Connection, receive: Receive, send: Send) -> None:
        """One connection."""
        if connection["type"] == "lifespan":
            await self._app(connection, receive, send)
        elif connection["type"] != "http":
            # There are no WebSocket routes; should one come, it comes with a check of its own.
            await send({"type": "websocket.close", "code": 1008})
        else:
            await self._http(connection, receive, send)

    async def _http(self, connection: Connection, receive: Receive, send: Send) -> None:
        try:
            await self._admit(connection)
        except (Unauthenticated, Forbidden, RateLimited, IssuerUnavailable) as error:
            connection["state"]["rejection"] = error.reason
            cause = error.cause if isinstance(error, Unauthenticated) else error.reason
            self._refusals.labels(cause).inc()
            await _response(error, connection)(connection, receive, send)
        else:
            await self._app(connection, receive, send)

    async def _admit(self, connection: Connection) -> None:
        if self._door.open:
            connection["state"]["caller"] = ANYBODY
            return
        scopes = needed_by(connection, self._routes())
        if scopes == OPEN:
            return
        caller = await self._door.recognise(connection)
        # Before it is refused something: the audit log says who was.
        connection["state"]["caller"] = caller
        if self._door.rates is not None:
            await self._door.rates.count(caller.id)
        if not scopes & caller.scopes:
            raise Forbidden("The caller may not do this.", scopes=scopes)


def _response(error: CxrError, connection: Connection) -> Response:
    """The problem, with a challenge (RFC 6750, 3)."""
    response = error_response(error, connection["state"]["request_id"])
    challenge = _challenge(error)
    if challenge is not None:
        response.headers["WWW-Authenticate"] = challenge
    if any(name in (b"content-length", b"transfer-encoding") for name, _ in connection["headers"]):
        # The body is never read, so the connection cannot be used again.
        response.headers["Connection"] = "close"
    return response


def _challenge(error: CxrError) -> str | None:
    if isinstance(error, Unauthenticated):
        return _REALM if error.cause == Cause.MISSING else f'{_REALM}, error="invalid_token"'
    if isinstance(error, Forbidden):
        # The header means all that it names; where one of several would do, it names none.
        named = f', scope="{next(iter(error.scopes))}"' if len(error.scopes) == 1 else ""
        return f'{_REALM}, error="insufficient_scope"{named}'
    return None
