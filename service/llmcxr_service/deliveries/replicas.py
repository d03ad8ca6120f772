"""Which replicas live: each touches a file in the spool that they share.

DBOS gives a process's work back when a process of the same name starts again. A replica that
never comes back, such as a pod with a random name, is noticed here, by its silence.
"""

from __future__ import annotations

import re
from pathlib import Path

SILENT_SECONDS = 120.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class Replicas:
    """Signs of life of all replicas.

    Args:
        root: the spool.
        own: this one's name.

    Raises:
        ValueError: it is no name for a file.
    """

    def __init__(self, root: Path, own: str) -> None:
        if not _NAME.fullmatch(own):
            raise ValueError("A replica's name has letters, digits, dots, dashes.")
        self._directory = root / "replicas"
        self._directory.mkdir(mode=0o700, exist_ok=True)
        self._own = self._directory / own
        self.beat()

    def beat(self) -> None:
        """Say that this one lives."""
        self._own.touch(0o600)

    def silent(self) -> list[str]:
        """Names of others that have not for long; by the file system's clock, not by ours."""
        now = self._own.stat().st_mtime
        found = []
        for path in self._directory.iterdir():
            try:
                if path != self._own and now - path.stat().st_mtime > SILENT_SECONDS:
                    found.append(path.name)
            except FileNotFoundError:
                continue
        return found

    def bury(self, name: str) -> None:
        """Forget one that is silent; if it lives after all, it says so again."""
        (self._directory / name).unlink(missing_ok=True)
