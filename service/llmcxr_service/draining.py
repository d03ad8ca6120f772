"""SIGTERM: first not ready, then no new connections, then what is in work is finished.

What is not finished in its time is cancelled, and its caller told so.
"""

from __future__ import annotations

import asyncio
import signal
import time
from dataclasses import dataclass
from types import FrameType

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llmcxr_service.errors import Overloaded
from llmcxr_service.problems import error_response

_RETRY_AFTER_SECONDS = 5


@dataclass
class Draining:
    """Whether the service is about to end; `/health/ready` says so.

    Attributes:
        begun: whether it is.
    """

    begun: bool = False


class DrainingServer(uvicorn.Server):
    """A server that is not ready for a while before it stops listening.

    A load balancer has to see that first, or it would send requests to a closed port. A second
    signal ends the wait, and uvicorn's own for what is in work.

    Args:
        config: of uvicorn; its `timeout_graceful_shutdown` bounds the finishing.
        draining: told when it begins.
        notice_seconds: from the first signal to the end of listening.
    """

    def __init__(self, config: uvicorn.Config, draining: Draining, notice_seconds: float) -> None:
        super().__init__(config)
        self._draining = draining
        self._notice_seconds = notice_seconds
        self._stop_at: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal, in the main thread."""
        if sig == signal.SIGTERM and not self._draining.begun and self._notice_seconds > 0.0:
            self._stop_at = time.monotonic() + self._notice_seconds
        else:
            super().handle_exit(sig, frame)
        self._draining.begun = True

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second by uvicorn; whether to stop."""
        if self._stop_at is not None and time.monotonic() >= self._stop_at:
            self.should_exit = True
        return await super().on_tick(counter)


class Ending:
    """ASGI middleware: whose request is cancelled by the service's end hears that, and to retry.

    Args:
        app: what answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection."""
        begun = False

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except asyncio.CancelledError:
            if scope["type"] != "http" or begun:  # a stream has said it by itself
                raise
            error = stopping()
            scope["state"]["rejection"] = error.reason
            await error_response(error, scope["state"]["request_id"])(scope, receive, send)


def stopping() -> Overloaded:
    """The error for a request that the service's end leaves no time for."""
    return Overloaded(
        "The service is about to end.", reason="stopping", retry_after_seconds=_RETRY_AFTER_SECONDS
    )
