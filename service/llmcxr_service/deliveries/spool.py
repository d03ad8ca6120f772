"""The spool: what was received and what is to be sent, as files that survive a crash.

One directory for each job, named by an opaque id; directories 0700, files 0600. It knows no
database and no protocol.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

from llmcxr_service.durable_files import sync_directory, write_whole
from llmcxr_service.source_instance import SourceInstance

_KEY = "key"
_JOBS = "jobs"
_SOURCE, _IDENTITY = "source", "identity"
_OUTPUTS = "outputs"
_NEW = ".new"


class Spool:
    """Files by job.

    Args:
        root: its directory, made where absent; replicas share it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        root.chmod(0o700)
        self._jobs = root / _JOBS
        self._jobs.mkdir(mode=0o700, exist_ok=True)
        self._key = self._read_or_make_key()

    def job_id(self, *parts: str) -> str:
        """An opaque id, the same for the same parts: a keyed hash, so that none can be guessed.

        Args:
            parts: what makes two receipts the same one, a UID among them.
        """
        text = "\x1f".join(parts).encode()
        return hashlib.blake2b(text, key=self._key, digest_size=16).hexdigest()

    def put_source(self, job: str, data: bytes, identity: SourceInstance) -> None:
        """Keep a received file and whose it is; both are on the disk when this returns."""
        directory = self._jobs / job
        directory.mkdir(mode=0o700, exist_ok=True)
        new = _NEW + secrets.token_hex(4)
        text = json.dumps(asdict(identity)).encode()
        write_whole(directory / (_IDENTITY + new), text, directory / _IDENTITY)
        write_whole(directory / (_SOURCE + new), data, directory / _SOURCE)
        sync_directory(self._jobs)

    def source(self, job: str) -> tuple[bytes, SourceInstance] | None:
        """What was received and whose it is, or None where it is gone."""
        directory = self._jobs / job
        try:
            identity = SourceInstance(**json.loads((directory / _IDENTITY).read_bytes()))
            return (directory / _SOURCE).read_bytes(), identity
        except FileNotFoundError:
            return None

    def put_outputs(self, job: str, outputs: Mapping[str, bytes]) -> None:
        """Keep all outputs at once; the first ones stay where there are some already.

        The source is of no more use then, and goes.
        """
        directory = self._jobs / job
        if not self.has_outputs(job):
            new = directory / (_OUTPUTS + _NEW + secrets.token_hex(4))
            new.mkdir(mode=0o700)
            for name, data in outputs.items():
                write_whole(new / (name + _NEW), data, new / name)
            try:
                new.rename(directory / _OUTPUTS)
            except OSError:  # another replica was faster: ENOTEMPTY
                shutil.rmtree(new)
            sync_directory(directory)
        for name in (_SOURCE, _IDENTITY):
            (directory / name).unlink(missing_ok=True)

    def outputs(self, job: str) -> tuple[str, ...]:
        """Names of the outputs that are kept."""
        try:
            return tuple(sorted(p.name for p in (self._jobs / job / _OUTPUTS).iterdir()))
        except FileNotFoundError:
            return ()

    def has_outputs(self, job: str) -> bool:
        """Whether the report of a job was made."""
        return (self._jobs / job / _OUTPUTS).is_dir()

    def output(self, job: str, name: str) -> bytes | None:
        """One output, or None where it is not kept (any more)."""
        try:
            return (self._jobs / job / _OUTPUTS / name).read_bytes()
        except FileNotFoundError:
            return None

    def jobs(self) -> Iterator[tuple[str, float]]:
        """All jobs with the seconds since something of theirs last changed."""
        now = time.time()
        for directory in self._jobs.iterdir():
            try:
                yield directory.name, now - directory.stat().st_mtime
            except FileNotFoundError:
                continue

    def remove(self, job: str) -> None:
        """Forget a job's files."""
        shutil.rmtree(self._jobs / job, ignore_errors=True)

    def _read_or_make_key(self) -> bytes:
        path = self.root / _KEY
        if not path.exists():
            new = self.root / (_KEY + _NEW + secrets.token_hex(4))
            new.touch(0o600)
            new.write_bytes(secrets.token_bytes(32))
            try:
                os.link(new, path)  # fails where another replica was faster
            except FileExistsError:
                pass
            finally:
                new.unlink()
            sync_directory(self.root)
        return path.read_bytes()
