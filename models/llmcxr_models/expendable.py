"""Whether this process may be lost: only then may decoders that can end or block it run in it.

A fact about the process, so it is kept for the process; a decode worker says so when it starts.
"""

from __future__ import annotations

import math
import resource

_SECONDS = 2.0
_SECONDS_A_MEGAPIXEL = 1.0
"""About ten times what the slowest codec (JPEG 2000) takes."""

_expendable = False


def declare_expendable() -> None:
    """Say that this process has limits, holds nothing, and is replaced when it dies."""
    global _expendable
    _expendable = True


def is_expendable() -> bool:
    """Whether that was said."""
    return _expendable


def allow_time_for(pixels: int) -> None:
    """End this process, if it is expendable, when decoding so many takes absurdly long.

    CharLS 2.4 loops for ever on some damaged files of a few pixels; processor time tells that
    apart from a machine that is busy.
    """
    if not _expendable:
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = _SECONDS + _SECONDS_A_MEGAPIXEL * pixels / 1e6
    allowed = math.ceil(used.ru_utime + used.ru_stime + seconds)
    before, highest = resource.getrlimit(resource.RLIMIT_CPU)
    if before in (resource.RLIM_INFINITY, -1) or allowed < before:
        resource.setrlimit(resource.RLIMIT_CPU, (allowed, highest))
