"""A circuit breaker: who fails again and again is left alone, and then tried by one call."""

from __future__ import annotations

import time
from collections.abc import Callable

FAILURES = 5
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 4.0
"""So that whoever comes back is used again within five seconds."""


class Circuit:
    """State of one other end. Closed: used. Open: left alone. Half open: one call tries it.

    After Nygard, Release It!, chapter 5. Not for several threads.

    Args:
        on_change: told whether it is open, whenever that changes.
        failures: in a row, that open it.
        clock: seconds.
    """

    def __init__(
        self,
        on_change: Callable[[bool], None],
        failures: int = FAILURES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._on_change = on_change
        self._most_failures = failures
        self._clock = clock
        self._failures = 0
        self._pause_seconds = FIRST_PAUSE_SECONDS
        self._open_until: float | None = None
        self._probing = False
        on_change(False)

    @property
    def is_open(self) -> bool:
        """Whether it failed so often that only a single call may try it."""
        return self._open_until is not None

    @property
    def takes_calls(self) -> bool:
        """Whether a call may be made now."""
        return self._open_until is None or (not self._probing and self.pause_seconds == 0.0)

    @property
    def pause_seconds(self) -> float:
        """How long it is still left alone."""
        return max(0.0, (self._open_until or 0.0) - self._clock())

    def begin(self) -> None:
        """A call begins; one of the three below has to follow."""
        self._probing = self._probing or self.is_open

    def succeeded(self) -> None:
        """A call was answered."""
        if self.is_open:
            self._on_change(False)
        self._failures, self._pause_seconds = 0, FIRST_PAUSE_SECONDS
        self._open_until, self._probing = None, False

    def failed(self) -> None:
        """A call was not answered as it should."""
        self._failures += 1
        if self.is_open and not self._probing:
            return  # it began before the circuit opened, and says nothing new
        if not self.is_open and self._failures < self._most_failures:
            return
        if self.is_open:
            self._pause_seconds = min(LONGEST_PAUSE_SECONDS, 2.0 * self._pause_seconds)
        else:
            self._on_change(True)
        self._open_until, self._probing = self._clock() + self._pause_seconds, False

    def given_up(self) -> None:
        """A call ended for reasons of its own, and says nothing."""
        self._probing = False
