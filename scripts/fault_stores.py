"""Faults of what is kept: the disk is full, has no room for names, or the database is locked.

A gateway with jobs, idempotency keys, an audit log and deliveries, all on one small disk. What it
took it must do, once and rightly, also what was in work when the disk filled; what it cannot take
it must refuse with 503 and take afterwards.
"""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from fault_outcome import Outcome, gathered, question, response_text, until_well
from pydicom.uid import generate_uid
from tests.archive import Archive
from tests.fakes import FakeVllm
from tests.pictures import dicom
from tests.service.conftest import serve

from llmcxr_models.checkpoint import Checkpoint
from llmcxr_service.app import create_app
from llmcxr_service.audit_log import verify
from llmcxr_service.settings import Settings

CLIENTS = 8
KINDS = ("disk-full", "disk-without-names", "database-locked")
LEAST_SECONDS = 12.0
"""Of a fault: longer than a sender of instances is kept waiting, and than work pauses."""
BEFORE = 6
"""Jobs in work when the fault begins."""
DISK = "size=24m,nr_inodes=6000"
REFUSED = {"queue-unavailable"}
LONGEST_DRAIN_SECONDS = 240.0
RULES = """
[[rules]]
name = "web"
origin = ["stow"]
action = "generate"
outputs = ["enhanced-sr"]
destinations = ["pacs"]
"""
DESTINATIONS = """
[queue]
poll_seconds = 0.1
first_retry_seconds = 0.5

[[destinations]]
name = "pacs"
kind = "stow"
url = "{url}"
"""


class NoDisk(Exception):
    """This process may not mount a disk of its own."""


def run(kinds: list[str], checkpoint: Path, repeats: int) -> dict[str, Outcome]:
    """These kinds, each against a gateway of its own.

    Raises:
        NoDisk: see there.
    """
    return {kind: _one_kind(kind, checkpoint, repeats) for kind in kinds}


def _one_kind(kind: str, checkpoint: Path, repeats: int) -> Outcome:
    manifest = Checkpoint.open(checkpoint, verify=False).manifest
    vllm = FakeVllm(
        manifest.served_name,
        manifest.vocabulary.size,
        max_model_len=manifest.max_model_len,
        delay_seconds=0.05,
    )
    archive = Archive()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        disk = folder if kind == "database-locked" else stack.enter_context(small_disk())
        archive_url = stack.enter_context(serve(archive.app()))
        (folder / "rules.toml").write_text(RULES)
        (folder / "destinations.toml").write_text(DESTINATIONS.format(url=archive_url))
        settings = Settings(
            checkpoint=checkpoint,
            open=True,
            device="cpu",
            vqgan_threads=1,
            decode_workers=1,
            vllm_url=stack.enter_context(serve(vllm.app())),
            spool=disk / "spool",
            audit=disk / "audit",
            jobs=True,
            jobs_concurrency=4,
            destinations=folder / "destinations.toml",
            dicom_rules=folder / "rules.toml",
        )
        with serve(create_app(settings)) as url:
            stores = Stores(url, archive, disk, repeats)
            outcome = asyncio.run(stores.run(kind))
        complaints = [v.complaint for v in verify(disk / "audit") if v.complaint]
        outcome.notes["audit_complaints"] = len(complaints)
        outcome.wrong += len(complaints)
    return outcome


@contextmanager
def small_disk() -> Iterator[Path]:
    """A disk in memory, for this process to fill.

    Raises:
        NoDisk: mounting is not allowed.
    """
    with tempfile.TemporaryDirectory() as directory:
        mount = ["mount", "-t", "tmpfs", "-o", DISK, "tmpfs", directory]
        try:
            subprocess.run(mount, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            raise NoDisk("a disk of its own needs the right to mount one") from None
        try:
            yield Path(directory)
        finally:
            subprocess.run(["umount", "--lazy", directory], check=True)


@dataclass
class Stores:
    """The parts of the experiment, and what is to be there in the end.

    Attributes:
        url: of the gateway.
        archive: where results of instances go.
        disk: what is filled.
        repeats: requests while the fault lasts.
        images: right pictures, by seed.
        texts: right answers, by seed.
        jobs: ids that were acknowledged, with the seeds of their items.
        studies: of instances that were acknowledged.
    """

    url: str
    archive: Archive
    disk: Path
    repeats: int
    images: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    jobs: dict[str, list[int]] = field(default_factory=dict)
    studies: set[str] = field(default_factory=set)
    refused: list[int] = field(default_factory=list)

    async def run(self, kind: str) -> Outcome:
        """Draw what is right, break, ask, mend, and wait until all is done."""
        outcome = Outcome()
        self._instances = [self._instance(seed) for seed in range(self.repeats)]
        async with httpx.AsyncClient(base_url=self.url, timeout=120.0, trust_env=False) as client:
            await self._draw(client)
            # What taking and doing something of each kind takes anyway, on this machine, now.
            usual = await until_well(lambda: self._is_well(client))
            outcome.notes["usual_seconds"] = round(usual, 2)
            for number in range(BEFORE):
                await self._submit(client, f"before-{number}", [number % len(self.images)] * 2)
            with self._broken(kind):
                started = time.monotonic()
                await gathered(self.repeats, CLIENTS, lambda seed: self._ask(client, seed, outcome))
                await asyncio.sleep(LEAST_SECONDS - (time.monotonic() - started))
                outcome.notes["fault_seconds"] = round(time.monotonic() - started, 1)
            outcome.recovery_seconds = await until_well(lambda: self._is_well(client))
            again, self.refused = self.refused, []
            later = Outcome()
            for seed in again:
                await self._ask(client, seed, later)
            outcome.notes["taken_afterwards"] = sum(later.answers.values())
            outcome.wrong += later.wrong + len(self.refused)
            await self._count(client, outcome)
        return outcome

    async def _draw(self, client: httpx.AsyncClient) -> None:
        for seed in range(min(self.repeats, 12)):
            body = {"report": f"Report number {seed}.", "seed": seed}
            answer = await client.post(
                "/generate-image", json=body, headers={"Accept": "application/json"}
            )
            self.images.append(answer.raise_for_status().json()["images"][0]["png_base64"])
        for seed in range(self.repeats):
            answer = await client.post("/instruct", json=question(seed))
            self.texts.append(response_text(answer.raise_for_status()))

    def _instance(self, seed: int) -> tuple[str, bytes]:
        study = generate_uid()
        ids = {"StudyInstanceUID": study, "SeriesInstanceUID": generate_uid()}
        return study, dicom(seed, **ids)

    async def _ask(self, client: httpx.AsyncClient, seed: int, outcome: Outcome) -> None:
        """A question with a key, a job with a key, or an instance; by turns."""
        if seed % 3 == 0:
            headers = {"Idempotency-Key": f"question-{seed}"}
            answer = await client.post("/instruct", json=question(seed), headers=headers)
            outcome.response(answer, seed, self.texts, REFUSED, response_text)
        elif seed % 3 == 1:
            answer = await self._submit(client, f"job-{seed}", [seed % len(self.images)])
            self._took(outcome, answer, 202, "job kept")
        else:
            answer = await self._store(client, *self._instances[seed])
            self._took(outcome, answer, 200, "instance kept")
        if not answer.is_success:
            self.refused.append(seed)

    def _took(self, outcome: Outcome, answer: httpx.Response, status: int, what: str) -> None:
        if answer.status_code == status:
            outcome.answers[what] += 1
        else:
            outcome.problem(answer, REFUSED)

    async def _submit(
        self, client: httpx.AsyncClient, key: str, seeds: list[int]
    ) -> httpx.Response:
        items = [{"report": f"Report number {seed}.", "seed": seed} for seed in seeds]
        answer = await client.post(
            "/jobs",
            json={"task": "generate-image", "items": items},
            headers={"Idempotency-Key": key},
        )
        if answer.is_success:
            self.jobs[answer.json()["id"]] = seeds
        return answer

    async def _store(self, client: httpx.AsyncClient, study: str, data: bytes) -> httpx.Response:
        body = b"--B\r\nContent-Type: application/dicom\r\n\r\n" + data + b"\r\n--B--\r\n"
        media_type = 'multipart/related; type="application/dicom"; boundary=B'
        headers = {"Content-Type": media_type}
        answer = await client.post("/dicom-web/studies", content=body, headers=headers)
        if answer.is_success:
            self.studies.add(study)
        return answer

    @contextmanager
    def _broken(self, kind: str) -> Iterator[None]:
        if kind == "database-locked":
            with _locked(self.disk / "spool" / "queue.sqlite"):
                yield
            return
        filler = Filler(self.disk, names=kind == "disk-without-names")
        task = asyncio.ensure_future(filler.keep_full())
        try:
            yield
        finally:
            task.cancel()
            filler.empty()

    async def _is_well(self, client: httpx.AsyncClient) -> bool:
        """New work of each kind is taken, and the queue has gone on since."""
        key = f"well-{time.monotonic()}"
        before = await self._finished(client), len(self._delivered())
        asked = await client.post("/instruct", json=question(0), headers={"Idempotency-Key": key})
        if not asked.is_success or response_text(asked) != self.texts[0]:
            return False
        submitted = await self._submit(client, f"{key}-job", [0])
        study, data = self._instance(0)
        stored = await self._store(client, study, data)
        if not submitted.is_success or not stored.is_success:
            return False
        deadline = time.monotonic() + 60.0
        while time.monotonic() < deadline:
            if await self._finished(client) > before[0] and len(self._delivered()) > before[1]:
                return True
            await asyncio.sleep(0.1)
        return False

    async def _finished(self, client: httpx.AsyncClient) -> int:
        """Items of all jobs that are done."""
        jobs = (await client.get("/jobs", params={"limit": 1000})).json()["jobs"]
        return sum(job["progress"]["done"] for job in jobs)

    def _delivered(self) -> list[str]:
        with self.archive.lock:
            return [stored.study for stored in self.archive.instances.values()]

    async def _count(self, client: httpx.AsyncClient, outcome: Outcome) -> None:
        """Everything that was acknowledged is there, once, and right."""
        started = time.monotonic()
        open_jobs = dict(self.jobs)
        while open_jobs or set(self._delivered()) < self.studies:
            if time.monotonic() - started > LONGEST_DRAIN_SECONDS:
                break
            for name, seeds in list(open_jobs.items()):
                job = (await client.get(f"/jobs/{name}")).json()
                if job["state"] != "completed":
                    continue
                del open_jobs[name]
                await self._read(client, name, seeds, outcome)
            await asyncio.sleep(0.1)
        listed = (await client.get("/jobs", params={"limit": 1000})).json()["jobs"]
        delivered = self._delivered()
        figures = {
            "jobs": len(self.jobs),
            "jobs_lost": len(open_jobs),
            "jobs_double": len(listed) - len(self.jobs),
            "instances": len(self.studies),
            "instances_lost": len(self.studies - set(delivered)),
            "instances_double": len(delivered) - len(set(delivered)) + self.archive.changed,
        }
        outcome.notes |= figures
        outcome.notes["all_done_seconds"] = round(time.monotonic() - started, 1)
        bad = ("jobs_lost", "jobs_double", "instances_lost", "instances_double")
        outcome.wrong += sum(abs(figures[name]) for name in bad)

    async def _read(
        self, client: httpx.AsyncClient, name: str, seeds: list[int], outcome: Outcome
    ) -> None:
        for number, seed in enumerate(seeds):
            answer = await client.get(f"/jobs/{name}/results/{number}")
            if not answer.is_success:
                outcome.bad("item failed")
                continue
            picture = answer.json()["images"][0]["png_base64"]
            outcome.text(picture, seed, self.images, "item right")


class Filler:
    """Files that take all room, or all names, as long as the fault lasts.

    Args:
        disk: where.
        names: take the names instead of the room.
    """

    def __init__(self, disk: Path, *, names: bool) -> None:
        self._folder = disk / "filler"
        self._folder.mkdir()
        self._names = names
        self._count = 0

    async def keep_full(self) -> None:
        """What others give free is taken too."""
        while True:
            self.fill()
            await asyncio.sleep(0.02)

    def fill(self) -> None:
        """Until the disk says that it is full."""
        with suppress(OSError):
            while True:
                self._count += 1
                path = self._folder / str(self._count)
                if self._names:
                    path.touch()
                    continue
                with path.open("wb", buffering=0) as file:
                    size = 2**20
                    while size >= 4096:
                        try:
                            if file.write(b"x" * size) < size:
                                size //= 2
                        except OSError:
                            size //= 2
                raise OSError

    def empty(self) -> None:
        """Give all back."""
        for path in self._folder.iterdir():
            path.unlink()


@contextmanager
def _locked(database: Path) -> Iterator[None]:
    """As another process's transaction that does not end, such as a backup's."""
    connection = sqlite3.connect(database, timeout=30.0, isolation_level=None)
    try:
        connection.execute("BEGIN EXCLUSIVE")
        yield
    finally:
        connection.rollback()
        connection.close()
