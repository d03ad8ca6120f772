"""How many pools of memory the C library may keep; told once, before threads are started."""

from __future__ import annotations

import ctypes

_M_ARENA_MAX = -8
"""From glibc's malloc.h."""
_ARENAS = 2


def keep_few_arenas() -> None:
    """Have glibc keep two arenas, not eight for each processor; elsewhere nothing is done.

    Each association of the DIMSE receiver has threads of its own, and what they freed stayed in
    the arena of a thread that had ended: 2,000 hostile associations left the process 69 MiB
    larger, and with two arenas 20 MiB (docs/hostile-input.md).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return  # another C library, which has no such thing
    mallopt(_M_ARENA_MAX, _ARENAS)
