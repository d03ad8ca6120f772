"""A PostgreSQL cluster of our own for tests: in a directory, on a UNIX socket, no network."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import psycopg

_NUMBERS = count(1)


class NoPostgresql(Exception):
    """The programs are not installed, or not usable here."""


@dataclass(frozen=True)
class Cluster:
    """A running server.

    Attributes:
        sockets: directory of its socket.
    """

    sockets: Path

    def url(self, database: str) -> str:
        """Of one of its databases."""
        return f"postgresql://postgres@/{database}?host={self.sockets}"

    def new_database(self) -> str:
        """Make an empty database; its URL."""
        name = f"test{next(_NUMBERS)}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return self.url(name)


@contextmanager
def open_cluster(directory: Path) -> Iterator[Cluster]:
    """Make a cluster, run it, stop it.

    Raises:
        NoPostgresql: it cannot be.
    """
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    found = shutil.which("initdb")
    if not programs and not found:
        raise NoPostgresql("PostgreSQL is not installed")
    programs_at = programs[-1] if programs else Path(str(found)).parent
    # A UNIX socket's path has at most 107 characters; the server refuses to run as root.
    sockets = Path(tempfile.mkdtemp(prefix="pg-"))
    data = sockets / "data"
    prefix: list[str] = []
    if os.geteuid() == 0:
        prefix = ["runuser", "-u", "postgres", "--"]
        try:
            shutil.chown(sockets, "postgres")
        except LookupError:
            raise NoPostgresql("there is no user postgres to run PostgreSQL") from None
    try:
        initdb = [programs_at / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-N"]
        start = [programs_at / "postgres", "-D", data, "-k", sockets, "-c", "listen_addresses="]
        _run([*prefix, *map(str, initdb)])
        with (directory / "log").open("wb") as log:
            process = subprocess.Popen(
                [*prefix, *map(str, start), "-F"], stdout=log, stderr=log, cwd=sockets
            )
        try:
            _run([str(programs_at / "pg_isready"), "-h", str(sockets)], attempts=100)
            yield Cluster(sockets)
        finally:
            # SIGTERM would wait for connections to end by themselves.
            _run([*prefix, str(programs_at / "pg_ctl"), "-D", str(data), "stop", "-m", "fast"])
            process.wait()
    finally:
        shutil.rmtree(sockets, ignore_errors=True)


def _run(command: list[str], *, attempts: int = 1) -> None:
    for attempt in range(1, attempts + 1):
        done = subprocess.run(command, capture_output=True, timeout=120, check=False, cwd="/")
        if done.returncode == 0:
            return
        if attempt < attempts:
            subprocess.run(["sleep", "0.1"], check=True)
    raise NoPostgresql(f"{Path(command[-1]).name or command[0]} failed: {done.stderr[-300:]!r}")
