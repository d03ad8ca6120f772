"""How much work is taken on at once, and giving up work that nobody waits for or needs."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from starlette.requests import Request

from llmcxr_service import deadline
from llmcxr_service.errors import ClientClosedRequest, Overloaded

T = TypeVar("T")

_SMOOTHING = 0.2
_DECAY = 0.99
_LONGEST_RETRY_SECONDS = 120


class Admission:
    """A bounded number of requests in work; one too many is refused at once, not queued.

    Too many are `max_pending`, or so many that the next one would not be answered in its time.
    The expectation: requests share one machine, so as many as are usual take the measured time,
    and each one more makes all of them slower in proportion, as if there were nothing to share.

    Args:
        max_pending: the bound.
        on_change: told the number in work whenever it changes.
        clock: seconds.
        longest_seconds: the time of a request that names none.
    """

    def __init__(
        self,
        max_pending: int,
        on_change: Callable[[int], None],
        clock: Callable[[], float] = time.monotonic,
        *,
        longest_seconds: float = math.inf,
    ) -> None:
        self._clock = clock
        self._max_pending = max_pending
        self._on_change = on_change
        self._longest_seconds = longest_seconds
        self._service_seconds = 1.0
        self._usual_pending = 1.0
        self._measured = False
        self._pending = 0

    @property
    def expected_seconds(self) -> float:
        """How long the next request would take; 0 as long as nothing was measured."""
        if not self._measured:
            return 0.0
        return self._service_seconds * max(1.0, (self._pending + 1) / self._usual_pending)

    @property
    def retry_after_seconds(self) -> int:
        """About one measured service time: by then, all that is in work now has been answered."""
        return _whole_seconds(self._service_seconds)

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Hold one place while a request is worked on.

        Raises:
            Overloaded: all places are taken, or the answer would come too late.
            InvalidRequest: the caller's `Request-Timeout` cannot be read.
        """
        self._admit(deadline.begin())
        self._change(+1)
        started = self._clock()
        try:
            yield
            # Failures are often quick and say nothing about how long an answer takes.
            self._measure(self._clock() - started)
        finally:
            self._change(-1)

    def _admit(self, remaining: float | None) -> None:
        if self._pending >= self._max_pending:
            raise Overloaded(
                f"{self._max_pending} requests are in work, which is the limit.",
                retry_after_seconds=self.retry_after_seconds,
            )
        allowed = self._longest_seconds if remaining is None else remaining
        late = self.expected_seconds - allowed
        # An idle service takes whoever comes: else a wrong expectation would never be corrected.
        if self._pending and late > 0.0:
            raise Overloaded(
                "So much is in work that the answer would come too late.",
                reason="too-late",
                retry_after_seconds=_whole_seconds(late),
            )

    def _change(self, by: int) -> None:
        self._pending += by
        self._on_change(self._pending)

    def _measure(self, seconds: float) -> None:
        smoothing = _SMOOTHING if self._measured else 1.0
        self._measured = True
        self._service_seconds += smoothing * (seconds - self._service_seconds)
        # As many as lately were answered at once; it must not shrink with what is let in.
        self._usual_pending = max(self._pending, _DECAY * self._usual_pending, 1.0)


def _whole_seconds(seconds: float) -> int:
    return max(1, min(_LONGEST_RETRY_SECONDS, math.ceil(seconds)))


async def until_disconnect(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Await `work`; cancel it when the client goes away or its time is over.

    The body must have been read. Starlette does not cancel a handler by itself; it only says
    so to one who listens.

    Raises:
        ClientClosedRequest: the client went away first.
        DeadlineExceeded: the time that the client gave is over.
    """
    task = asyncio.ensure_future(work)
    watcher = asyncio.ensure_future(_disconnected(request))
    try:
        done, _ = await asyncio.wait(
            {task, watcher},
            timeout=deadline.remaining_seconds(),
            return_when=asyncio.FIRST_COMPLETED,
        )
        if task.done():
            return task.result()
        if not done:
            raise deadline.exceeded()
        raise ClientClosedRequest("The client went away.")
    finally:
        task.cancel()
        watcher.cancel()
        await asyncio.gather(task, watcher, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
