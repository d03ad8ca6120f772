"""When to try again: exponential backoff with jitter, and a circuit for each destination."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable


def backoff(
    attempt: int, *, first_seconds: float, longest_seconds: float, dice: random.Random
) -> float:
    """Seconds to wait after a failed attempt.

    Half of it is fixed and half is drawn ("equal jitter", AWS Architecture Blog, 2015), so that
    a crowd of failures spreads and none comes back at once.

    Args:
        attempt: 1 after the first failure.
        first_seconds: the whole pause after that.
        longest_seconds: no pause is longer.
        dice: for the drawn half.
    """
    whole = min(longest_seconds, first_seconds * 2.0 ** min(attempt - 1, 60))
    return whole / 2 + dice.uniform(0, whole / 2)


class Circuit:
    """Keeps everybody away from a destination that is down, but for one probe now and then.

    Failures in a row open it. While it is open nobody is let through until the pause is over;
    then one is, and what becomes of that one closes it or opens it for twice as long. Thread-safe.

    Args:
        threshold: failures in a row that open it.
        first_seconds: the first pause.
        longest_seconds: the longest one.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        *,
        threshold: int = 3,
        first_seconds: float = 5.0,
        longest_seconds: float = 120.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._threshold = threshold
        self._first, self._longest = first_seconds, longest_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._pause = 0.0
        self._until = 0.0
        self._probing = False

    @property
    def is_open(self) -> bool:
        """Whether the destination counts as down."""
        with self._lock:
            return self._failures >= self._threshold

    def seconds_to_wait(self) -> float:
        """0 where the caller may go; it must then report `succeeded`, `failed` or `abandoned`."""
        with self._lock:
            if self._failures < self._threshold:
                return 0.0
            remaining = self._until - self._clock()
            if remaining <= 0 and not self._probing:
                self._probing = True
                return 0.0
            return max(remaining, self._first / 10)

    def succeeded(self) -> None:
        """The destination works."""
        with self._lock:
            self._failures, self._pause, self._probing = 0, 0.0, False

    def failed(self) -> None:
        """The destination does not."""
        with self._lock:
            self._failures += 1
            self._probing = False
            if self._failures >= self._threshold:
                self._pause = min(self._longest, max(self._first, self._pause * 2))
                self._until = self._clock() + self._pause

    def abandoned(self) -> None:
        """The attempt told nothing about the destination."""
        with self._lock:
            self._probing = False
