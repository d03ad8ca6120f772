"""A job's files: what is to be done, what came of it. It knows no queue and no HTTP.

One directory for each job; it appears by one rename and is whole then. Directories 0700,
files 0600. A result is a file that is written once: the first one stays.
"""

from __future__ import annotations

import json
import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from llmcxr_service.durable_files import NEW, sync_directory, write_once, write_whole

_FOLDER = "batches"
_JOB, _INPUTS, _OPTIONS, _RESULTS, _FINISHED = "job", "inputs", "options", "results", "finished"
_RUBBISH_SECONDS = 3600.0


class Task(StrEnum):
    """What a job does with each of its items."""

    REPORT = "generate-report"
    IMAGE = "generate-image"


class JobState(StrEnum):
    """Of a job as a whole."""

    RUNNING = "running"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class Job:
    """What is kept of a job for as long as it is listed; nothing of a patient.

    Attributes:
        id: opaque.
        task: of all its items.
        spans: where each item begins in the file of inputs, and how long it is, bytes.
        owner: keyed hash of who submitted it; empty where nobody has to say who they are.
        webhook: name of the one that is told of the end; empty for none.
        fingerprint: of the request that made it.
        created: seconds since the epoch.
        caller: opaque id of who submitted it, for the audit log; empty as with `owner`.
    """

    id: str
    task: str
    spans: tuple[tuple[int, int], ...]
    owner: str
    webhook: str
    fingerprint: str
    created: float
    caller: str = ""


@dataclass(frozen=True)
class Submission:
    """A job that is to be kept.

    Attributes:
        task: of all items.
        inputs: a JSON body or a file, for each item.
        options: form fields beside each file; None where the items are JSON bodies.
        webhook: as `Job` has it.
    """

    task: Task
    inputs: tuple[bytes, ...] = field(repr=False)
    options: tuple[dict[str, str], ...] | None = field(repr=False)
    webhook: str


@dataclass(frozen=True)
class Item:
    """One item as it is worked on.

    Attributes:
        task: what to do.
        data: a JSON body, or a file.
        options: form fields beside the file; None for a JSON body.
        job: id of its job.
        caller: id of who submitted it.
    """

    task: Task
    data: bytes = field(repr=False)
    options: dict[str, str] | None = field(repr=False)
    job: str = ""
    caller: str = ""


@dataclass(frozen=True)
class Result:
    """What came of an item.

    Attributes:
        status: as a request of its own would have been answered.
        media_type: of the body.
        body: the answer, or the problem.
    """

    status: int
    media_type: str
    body: bytes = field(repr=False)

    @property
    def is_good(self) -> bool:
        """Whether it is an answer and no problem."""
        return self.status < 400


class JobStore:
    """Jobs as directories.

    Args:
        spool: the directory that replicas share; made already.
    """

    def __init__(self, spool: Path) -> None:
        self._root = spool / _FOLDER
        self._root.mkdir(mode=0o700, exist_ok=True)

    def create(self, job: Job, submission: Submission) -> bool:
        """Keep a job; it is on the disk when this returns. False where there is one of this id.

        Raises:
            OSError: it is not kept.
        """
        new = self._root / f"{NEW}{secrets.token_hex(8)}"
        new.mkdir(mode=0o700)
        try:
            (new / _RESULTS).mkdir(mode=0o700)
            _put(new / _INPUTS, b"".join(submission.inputs))
            _put(new / _OPTIONS, json.dumps(submission.options).encode())
            _put(new / _JOB, json.dumps(asdict(job)).encode())
            if (self._root / job.id).exists():
                return False
            new.rename(self._root / job.id)
        except FileExistsError:  # ENOTEMPTY is an OSError of another kind on some systems
            return False
        except OSError:
            if (self._root / job.id).exists():
                return False
            raise
        finally:
            shutil.rmtree(new, ignore_errors=True)
        sync_directory(self._root)
        return True

    def job(self, name: str) -> Job | None:
        """A job, or None where there is none (any more)."""
        try:
            data: dict[str, Any] = json.loads((self._root / name / _JOB).read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return None
        spans = tuple((int(start), int(length)) for start, length in data["spans"])
        return Job(**{**data, "spans": spans})

    def item(self, name: str, number: int) -> Item | None:
        """What is to be done, or None where nothing is: the job is finished, or gone."""
        job = self.job(name)
        if job is None or self.finished(name) is not None:
            return None
        directory = self._root / name
        start, length = job.spans[number]
        try:
            options = json.loads((directory / _OPTIONS).read_bytes())
            with (directory / _INPUTS).open("rb") as file:
                file.seek(start)
                data = file.read(length)
        except FileNotFoundError:
            return None
        option = None if options is None else options[number]
        return Item(Task(job.task), data, option, job=job.id, caller=job.caller)

    def put_result(self, name: str, number: int, result: Result) -> bool:
        """Keep what came of an item, unless something is kept already. Whether it was this.

        Raises:
            OSError: it is not kept.
        """
        head = {"status": result.status, "media_type": result.media_type}
        data = json.dumps(head).encode() + b"\n" + result.body
        try:
            return write_once(self._root / name / _RESULTS / str(number), data)
        except FileNotFoundError:  # the job was removed meanwhile
            return False

    def result(self, name: str, number: int) -> Result | None:
        """What came of an item, or None where nothing did yet."""
        try:
            head, _, body = (
                (self._root / name / _RESULTS / str(number)).read_bytes().partition(b"\n")
            )
        except FileNotFoundError:
            return None
        return Result(**json.loads(head), body=body)

    def has_result(self, name: str, number: int) -> bool:
        """Whether an item is done with."""
        return (self._root / name / _RESULTS / str(number)).exists()

    def results(self, name: str) -> int:
        """How many items are done with."""
        try:
            return sum(NEW not in path.name for path in (self._root / name / _RESULTS).iterdir())
        except FileNotFoundError:
            return 0

    def finish(self, name: str, state: JobState) -> None:
        """Nothing more is to be done. The first one to say so has it; inputs go."""
        directory = self._root / name
        try:
            write_once(directory / _FINISHED, json.dumps([state.value, time.time()]).encode())
        except FileNotFoundError:
            return
        for path in (_INPUTS, _OPTIONS):
            (directory / path).unlink(missing_ok=True)

    def finished(self, name: str) -> tuple[JobState, float] | None:
        """How and when (seconds since the epoch) a job ended, or None where it did not yet."""
        try:
            state, when = json.loads((self._root / name / _FINISHED).read_bytes())
        except FileNotFoundError:
            return None
        return JobState(state), float(when)

    def jobs(self) -> Iterator[Job]:
        """All jobs, in no order."""
        for path in self._root.iterdir():
            job = None if path.name.startswith(NEW) else self.job(path.name)
            if job is not None:
                yield job

    def remove(self, name: str) -> None:
        """Forget a job: at once, and then its files."""
        grave = self._root / f"{NEW}{secrets.token_hex(8)}"
        try:
            (self._root / name).rename(grave)
        except FileNotFoundError:
            return
        shutil.rmtree(grave, ignore_errors=True)

    def sweep(self, retention_seconds: float) -> int:
        """Forget jobs that ended so long ago, and what crashes left; how many jobs that were."""
        removed = 0
        for job in list(self.jobs()):
            finished = self.finished(job.id)
            if finished is not None and time.time() - finished[1] > retention_seconds:
                self.remove(job.id)
                removed += 1
        for path in self._root.glob(f"{NEW}*"):
            if time.time() - path.stat().st_mtime > _RUBBISH_SECONDS:
                shutil.rmtree(path, ignore_errors=True)
        return removed


def _put(path: Path, data: bytes) -> None:
    write_whole(path.with_name(path.name + NEW), data, path)
