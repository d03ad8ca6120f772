"""When an answer is of no use any more: the caller's `Request-Timeout`, known to every step.

The header holds seconds, from when the request's head arrived. It goes along in a context
variable, as `contextvars` are meant for: steps that know no HTTP, and tasks that they start,
ask `remaining_seconds` without handing it through. It is passed on to vLLM with each call.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar

from starlette.types import ASGIApp, Receive, Scope, Send

from llmcxr_service.errors import DeadlineExceeded, FieldProblem, InvalidRequest

HEADER = "Request-Timeout"
LONGEST_SECONDS = 86_400.0
_SECONDS = re.compile(rb"\d{1,5}(\.\d{1,3})?")

_ends_at: ContextVar[float | None] = ContextVar("ends_at", default=None)
_asked: ContextVar[tuple[float, list[bytes]] | None] = ContextVar("asked", default=None)


class Deadlines:
    """ASGI middleware: notes when a request arrived and what time it gives.

    The value is read later, by `begin`, so that whoever may not ask at all hears that first.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection."""
        if scope["type"] == "http":
            name = HEADER.lower().encode()
            values = [value for key, value in scope["headers"] if key == name]
            _asked.set((time.monotonic(), values))
            _ends_at.set(None)
        await self._app(scope, receive, send)


def begin() -> float | None:
    """Read the caller's header; the seconds that are left, None where none was given.

    Raises:
        InvalidRequest: the header is no number of seconds above 0, or given twice.
    """
    asked = _asked.get()
    if asked is None or not asked[1]:
        return None
    arrived, values = asked
    seconds = float(values[0]) if _SECONDS.fullmatch(values[0]) else 0.0
    if len(values) > 1 or not 0.0 < seconds <= LONGEST_SECONDS:
        problem = "It must be a number of seconds above 0, with at most three decimals."
        raise InvalidRequest(
            "The request does not fit its schema.", fields=(FieldProblem(HEADER, problem),)
        )
    _ends_at.set(arrived + seconds)
    return remaining_seconds()


def remaining_seconds() -> float | None:
    """What is left of the caller's time, at least 0; None where it gave none."""
    ends_at = _ends_at.get()
    return None if ends_at is None else max(0.0, ends_at - time.monotonic())


def passed_on() -> dict[str, str]:
    """The header for a call that is made for the caller; empty where it gave no time."""
    remaining = remaining_seconds()
    return {} if remaining is None else {HEADER: f"{max(0.001, remaining):.3f}"}


@asynccontextmanager
async def within_deadline() -> AsyncIterator[None]:
    """Cancel a block when the caller's time is over.

    Raises:
        DeadlineExceeded: it is.
    """
    block = asyncio.timeout(remaining_seconds())
    try:
        async with block:
            yield
    except TimeoutError:
        if not block.expired():
            raise
        raise exceeded() from None


def exceeded() -> DeadlineExceeded:
    """The error for a caller whose time is over."""
    return DeadlineExceeded(f"The time that {HEADER} gives is over.")
