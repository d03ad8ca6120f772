"""How much work is taken on at once, and giving up work that nobody waits for."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from starlette.requests import Request

from llmcxr_service.errors import ClientClosedRequest, Overloaded

T = TypeVar("T")

_SMOOTHING = 0.2
_LONGEST_RETRY_SECONDS = 120


class Admission:
    """A bounded number of requests in work; the next one is refused at once, not queued.

    Args:
        max_pending: the bound.
        on_change: told the number in work whenever it changes.
        clock: seconds.
    """

    def __init__(
        self,
        max_pending: int,
        on_change: Callable[[int], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._max_pending = max_pending
        self._on_change = on_change
        self._service_seconds = 1.0
        self._pending = 0

    @property
    def retry_after_seconds(self) -> int:
        """About one measured service time: by then, all that is in work now has been answered."""
        return max(1, min(_LONGEST_RETRY_SECONDS, math.ceil(self._service_seconds)))

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Hold one place while a request is worked on.

        Raises:
            Overloaded: all places are taken.
        """
        if self._pending >= self._max_pending:
            raise Overloaded(
                f"{self._max_pending} requests are in work, which is the limit.",
                retry_after_seconds=self.retry_after_seconds,
            )
        self._change(+1)
        started = self._clock()
        try:
            yield
            # Failures are often quick and say nothing about how long an answer takes.
            self._measure(self._clock() - started)
        finally:
            self._change(-1)

    def _change(self, by: int) -> None:
        self._pending += by
        self._on_change(self._pending)

    def _measure(self, seconds: float) -> None:
        self._service_seconds += _SMOOTHING * (seconds - self._service_seconds)


async def until_disconnect(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Await `work`, and cancel it when the client goes away. The body must have been read.

    Starlette does not cancel a handler by itself; it only says so to one who listens.

    Raises:
        ClientClosedRequest: the client went away first.
    """
    task = asyncio.ensure_future(work)
    watcher = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({task, watcher}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientClosedRequest("The client went away.")
    finally:
        task.cancel()
        watcher.cancel()
        await asyncio.gather(task, watcher, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
