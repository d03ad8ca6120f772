"""Keeps the decoding libraries silent: their warnings and log lines quote header values.

Header values are patient data. The state of `warnings` is one for the whole process, so
`warnings.catch_warnings` alone is not safe where several threads decode at once: the first
one in saves it and the last one out restores it.
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_readers = 0
_saved: warnings.catch_warnings[None] | None = None

_LOGGER = logging.getLogger("pydicom")
# Without a handler of its own, a logger that does not propagate writes to stderr.
_LOGGER.addHandler(logging.NullHandler())
_LOGGER.propagate = False


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """While any thread is inside, warnings from pydicom and Pillow are dropped."""
    _enter()
    try:
        yield
    finally:
        _leave()


def _enter() -> None:
    global _readers, _saved
    with _lock:
        _readers += 1
        if _readers == 1:
            _saved = warnings.catch_warnings()
            _saved.__enter__()
            for library in ("pydicom", "PIL"):
                warnings.filterwarnings("ignore", module=rf"{library}(\.|$)")


def _leave() -> None:
    global _readers, _saved
    with _lock:
        _readers -= 1
        if _readers == 0 and _saved is not None:
            _saved.__exit__(None, None, None)
            _saved = None
