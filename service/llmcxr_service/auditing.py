"""ASGI middleware: every request that uses the service becomes an event of the audit log."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llmcxr_service.audit_log import AuditLog, Event
from llmcxr_service.callers import id_in

LOGGER = logging.getLogger(__name__)

SYNC_SECONDS = 1.0
# Who watches and who reads the documentation touches no patient.
_QUIET = ("/health/", "/metrics", "/docs", "/openapi.json", "/static-offline-docs")


class Auditing:
    """Notes who did what with which outcome, and never what was in it.

    Args:
        app: what is watched; authentication is within.
        log: where to; None notes nothing. Asked at each request: it is opened at start.
        routes: the paths that exist; every other one is noted as `other`.
        model: digest of the checkpoint.
        on_failure: told of every event that is lost.
    """

    def __init__(
        self,
        app: ASGIApp,
        log: Callable[[], AuditLog | None],
        routes: Callable[[], Collection[str]],
        model: Callable[[], str],
        on_failure: Callable[[], None],
    ) -> None:
        self._app, self._log, self._routes, self._model = app, log, routes, model
        self._on_failure = on_failure

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection."""
        log = self._log() if scope["type"] == "http" else None
        if log is None or scope["path"].startswith(_QUIET):
            await self._app(scope, receive, send)
            return
        status = 0

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            # Before the answer's end goes out: who has it is in the log.
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                self._note(log, scope, status)
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            if "audited" not in scope["state"]:  # no whole answer went out
                self._note(log, scope, 0)

    def _note(self, log: AuditLog, scope: Scope, status: int) -> None:
        state = scope["state"]
        state["audited"] = True
        path = str(getattr(scope.get("route"), "path", scope["path"]))
        event = Event(
            id=state["request_id"],
            method=scope["method"],
            route=path if path in self._routes() else "other",
            status=status,
            reason=state.get("rejection") or "",
            caller=id_in(state),
            model=self._model(),
            instance=state.get("instance", ""),
            job=state.get("job", ""),
        )
        append(log, event, self._on_failure)


def append(log: AuditLog, event: Event, on_failure: Callable[[], None]) -> None:
    """Add an event; where that cannot be done the work goes on, and `on_failure` is told."""
    try:
        log.append(event)
    except OSError as error:
        fields = {"exception": type(error).__name__, "request_id": event.id}
        LOGGER.error("an audit event is lost", extra={"fields": fields})
        on_failure()


@asynccontextmanager
async def keep_synced(log: AuditLog | None, on_failure: Callable[[], None]) -> AsyncIterator[None]:
    """Bring a log to the disk every second, and close it at the end.

    Args:
        log: which; None: nothing is done.
        on_failure: told of every time that it could not be brought there.
    """
    if log is None:
        yield
        return
    task = asyncio.create_task(_sync_forever(log, on_failure))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        log.close()


async def _sync_forever(log: AuditLog, on_failure: Callable[[], None]) -> None:
    while True:
        await asyncio.sleep(SYNC_SECONDS)
        try:
            await asyncio.to_thread(log.sync)
        except OSError as error:
            fields = {"exception": type(error).__name__}
            LOGGER.error("the audit log is not on the disk", extra={"fields": fields})
            on_failure()
