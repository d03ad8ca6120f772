"""A Redis of our own for tests: on a UNIX socket, in memory, no network."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

START_SECONDS = 20.0


class NoRedis(Exception):
    """The program is not installed, or does not start here."""


@dataclass(frozen=True)
class Server:
    """A running server.

    Attributes:
        url: of its socket.
        process: itself.
    """

    url: str
    process: subprocess.Popen[bytes]


@contextmanager
def open_redis() -> Iterator[Server]:
    """Run one, and stop it.

    Raises:
        NoRedis: it cannot be.
    """
    program = shutil.which("redis-server")
    if program is None:
        raise NoRedis("redis-server is not installed")
    # A UNIX socket's path has at most 107 characters.
    directory = Path(tempfile.mkdtemp(prefix="redis-"))
    path = directory / "socket"
    command = [program, "--port", "0", "--unixsocket", str(path), "--save", ""]
    process = subprocess.Popen([*command, "--dir", str(directory)], stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not path.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise NoRedis("redis-server does not start here")
            time.sleep(0.02)
        yield Server(f"unix://{path}", process)
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(directory)
