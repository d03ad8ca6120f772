"""SIGTERM: first not ready, then no new connections, then what is in work is finished."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass
from types import FrameType

import uvicorn


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
