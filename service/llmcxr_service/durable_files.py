"""Files that are there wholly or not at all, whatever is killed when. Knows nothing of contents."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

NEW = ".new"
"""In the names of files that are still being written; what a crash leaves of them is rubbish."""


def write_private(path: Path, data: bytes) -> None:
    """Write a new file that only its owner can read, down to the disk.

    Raises:
        OSError: it is there already, or cannot be written; then nothing of it is left.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        # A full disk shall not be filled by what is left of every attempt.
        path.unlink(missing_ok=True)
        raise


def write_whole(new: Path, data: bytes, path: Path) -> None:
    """Write a file under one name, and give it another once it is on the disk."""
    write_private(new, data)
    new.rename(path)
    sync_directory(path.parent)


def write_once(path: Path, data: bytes) -> bool:
    """Write a file unless there is one; the first one stays. Whether it was this one.

    Raises:
        OSError: it is not written, and nothing of it is left.
    """
    new = path.with_name(f"{path.name}{NEW}{secrets.token_hex(4)}")
    try:
        write_private(new, data)
        os.link(new, path)
    except FileExistsError:
        return False
    finally:
        new.unlink(missing_ok=True)
    sync_directory(path.parent)
    return True


def replace(path: Path, data: bytes) -> None:
    """Write a file in place of the one that may be there."""
    write_whole(path.with_name(f"{path.name}{NEW}{secrets.token_hex(4)}"), data, path)


def sync_directory(directory: Path) -> None:
    """Bring a directory's names to the disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
