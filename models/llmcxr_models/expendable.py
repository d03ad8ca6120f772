"""Whether this process may be lost: only then are decoders called in it that can end a process.

A fact about the process, so it is kept for the process; a decode worker says so when it starts.
"""

from __future__ import annotations

_expendable = False


def declare_expendable() -> None:
    """Say that this process has limits, holds nothing, and is replaced when it dies."""
    global _expendable
    _expendable = True


def is_expendable() -> bool:
    """Whether that was said."""
    return _expendable
