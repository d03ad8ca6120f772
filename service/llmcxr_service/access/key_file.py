"""Changes of the file of keys: one at a time, and whole or not at all."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from llmcxr_service.access.keys import Key, Keys, read_keys
from llmcxr_service.durable_files import write_private
from llmcxr_service.errors import AccessError


def add_key(path: Path, key: Key) -> None:
    """Write a key down.

    Raises:
        AccessError: the file cannot be read or written.
    """
    _change(path, lambda keys: Keys(keys=(*keys.keys, key)))


def revoke_key(path: Path, identifier: str) -> None:
    """Refuse a key from now on; again is no error.

    Raises:
        AccessError: there is no such key, or the file cannot be read or written.
    """
    now = datetime.now(UTC).replace(microsecond=0)

    def revoke(keys: Keys) -> Keys:
        if identifier not in {key.id for key in keys.keys}:
            raise AccessError("There is no key of this id.")
        return Keys(
            keys=tuple(
                key.model_copy(update={"revoked": key.revoked or now})
                if key.id == identifier
                else key
                for key in keys.keys
            )
        )

    _change(path, revoke)


def write_secret(path: Path, text: str) -> None:
    """A new file that only its owner can read.

    Raises:
        AccessError: it is there already, or cannot be written.
    """
    try:
        write_private(path, text.encode())
    except OSError:
        raise AccessError("The key's file is there already, or cannot be written.") from None


def _change(path: Path, change: Callable[[Keys], Keys]) -> None:
    try:
        with _locked(path):
            text = change(read_keys(path)).model_dump_json(indent=1, exclude_none=True)
            new = path.with_name(f"{path.name}.{os.getpid()}.new")
            try:
                write_private(new, text.encode() + b"\n")
                if path.exists():
                    # A service that runs as somebody else may have been given the right to read.
                    new.chmod(path.stat().st_mode & 0o640)
                new.replace(path)
            finally:
                new.unlink(missing_ok=True)
    except OSError:
        raise AccessError("The file of keys (LLMCXR_KEYS) cannot be written.") from None


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    lock = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
