"""Jobs as a whole: opened with the application, closed with it. Knows no HTTP."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import threading
import time
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from dbos import DBOSClient, DBOSPortableJSONSerializer, EnqueueOptions
from sqlalchemy.exc import SQLAlchemyError

from llmcxr_service.deliveries.place import Place
from llmcxr_service.deliveries.spool import Spool
from llmcxr_service.deliveries.work import APPLICATION
from llmcxr_service.errors import (
    IdempotencyMismatch,
    InvalidRequest,
    Overloaded,
    ReceiverUnavailable,
    UnknownJob,
    UnknownWebhook,
)
from llmcxr_service.jobs.measures import JobMeasures
from llmcxr_service.jobs.runner import (
    NAMES,
    Runner,
    enqueue_options,
    start_work,
    webhook_work,
)
from llmcxr_service.jobs.store import Job, JobState, JobStore, Result, Submission
from llmcxr_service.jobs.webhooks import Webhook

LOGGER = logging.getLogger(__name__)

SWEEP_SECONDS = 300.0
_FULL_RETRY_SECONDS = 60
_PATIENCE_SECONDS = 2.0
"""For a database that is locked: what is on the disk gets into the queue later as well."""
_BEHIND_SECONDS = 1.0
_PAGE = 500
_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class JobLimits:
    """How much is taken on, and how long it is kept.

    Attributes:
        max_items: of one job.
        max_waiting: items of all jobs that are not done.
        retention_seconds: from a job's end to its removal.
    """

    max_items: int
    max_waiting: int
    retention_seconds: float


class Jobs:
    """Takes jobs, and says what became of them.

    Args:
        store: files.
        spool: makes ids that nobody can guess.
        client: of the queue's database.
        runner: works on them here.
        webhooks: by name.
        limits: how much.
    """

    def __init__(
        self,
        store: JobStore,
        spool: Spool,
        client: DBOSClient,
        runner: Runner,
        webhooks: Mapping[str, Webhook],
        limits: JobLimits,
    ) -> None:
        self.store, self.runner, self.limits = store, runner, limits
        self._spool, self._client, self._webhooks = spool, client, webhooks
        # Two at once must not both find room for the last item.
        self._admission = threading.Lock()
        # A thread of its own: a database that is locked must not hold those of others.
        self.queueing = ThreadPoolExecutor(1, "job-queue")
        self.is_behind = False

    def submit(
        self, submission: Submission, *, caller: str, key: str = "", fingerprint: str = ""
    ) -> Job:
        """Keep a job; when this returns it survives a `kill -9`. Blocking.

        What is kept is done, also where the queue's database cannot be written at the moment:
        then it gets into the queue as soon as it can.

        Args:
            submission: what is to be done.
            caller: id of who asks; empty where nobody has to say.
            key: says which job it is, so that the same key again is the same job; empty: new.
            fingerprint: of the whole request.

        Raises:
            InvalidRequest: too many items.
            UnknownWebhook: no webhook of this name is configured.
            IdempotencyMismatch: the key belongs to another request.
            Overloaded: there is too much to do already.
            ReceiverUnavailable: it cannot be kept; nothing is.
        """
        if len(submission.inputs) > self.limits.max_items:
            raise InvalidRequest(f"A job has at most {self.limits.max_items} items.")
        if submission.webhook and submission.webhook not in self._webhooks:
            raise UnknownWebhook("No webhook of this name is configured.")
        try:
            with self._admission:
                job = self._create(submission, caller, key, fingerprint)
        except OSError as error:
            fields = {"exception": type(error).__name__}
            LOGGER.error("a job could not be kept", extra={"fields": fields})
            raise ReceiverUnavailable("The job could not be kept.") from None
        self._begin(*start_work(job))
        LOGGER.info("job kept", extra={"fields": {"job": job.id, "items": len(job.spans)}})
        return job

    def _begin(self, how: EnqueueOptions, data: dict[str, Any]) -> None:
        """Put a job that is kept in the queue, now or a little later."""
        try:
            self.queueing.submit(self._client.enqueue, how, data).result(_PATIENCE_SECONDS)
        except TimeoutError:
            LOGGER.warning("the queue's database does not answer; a job waits for it")
        except SQLAlchemyError as error:
            fields = {"exception": type(error).__name__}
            LOGGER.error("a job is not in the queue yet", extra={"fields": fields})
            self.is_behind = True

    def _create(self, submission: Submission, caller: str, key: str, fingerprint: str) -> Job:
        owner = self.owner(caller)
        name = self._spool.job_id("job", owner, key) if key else secrets.token_hex(16)
        found = self.store.job(name) or self._new(name, submission, caller, fingerprint)
        if found.fingerprint != fingerprint:
            raise IdempotencyMismatch("This key came with another request before.")
        return found

    def _new(self, name: str, submission: Submission, caller: str, fingerprint: str) -> Job:
        if self.waiting() + len(submission.inputs) > self.limits.max_waiting:
            raise Overloaded(
                f"{self.limits.max_waiting} items may wait, which is the limit.",
                retry_after_seconds=_FULL_RETRY_SECONDS,
            )
        spans, start = [], 0
        for data in submission.inputs:
            spans.append((start, len(data)))
            start += len(data)
        job = Job(
            id=name,
            task=submission.task.value,
            spans=tuple(spans),
            owner=self.owner(caller),
            caller=caller,
            webhook=submission.webhook,
            fingerprint=fingerprint,
            created=time.time(),
        )
        # Another replica may have been faster with the same key.
        return job if self.store.create(job, submission) else self.store.job(name) or job

    def owner(self, caller: str) -> str:
        """Who submitted a job, as it is kept: a keyed hash."""
        return self._spool.job_id("owner", caller) if caller else ""

    def waiting(self) -> int:
        """Items of all jobs that are not done."""
        return sum(
            len(job.spans) - self.store.results(job.id)
            for job in self.store.jobs()
            if self.store.finished(job.id) is None
        )

    def jobs(self, *, caller: str, limit: int) -> list[Job]:
        """The caller's jobs, newest first. Blocking."""
        owner = self.owner(caller)
        own = [job for job in self.store.jobs() if job.owner == owner]
        return sorted(own, key=lambda job: job.created, reverse=True)[:limit]

    def job(self, name: str, *, caller: str) -> Job:
        """One job of the caller's. Blocking.

        Raises:
            UnknownJob: there is none of this id, or it is somebody else's.
        """
        job = self.store.job(name) if _ID.fullmatch(name) else None
        if job is None or job.owner != self.owner(caller):
            raise UnknownJob("There is no such job.")
        return job

    def result(self, name: str, number: int, *, caller: str) -> Result:
        """What came of an item. Blocking.

        Raises:
            UnknownJob: there is no such job or item, or it is not done.
        """
        job = self.job(name, caller=caller)
        if not 0 <= number < len(job.spans):
            raise UnknownJob("The job has no such item.", reason="unknown-item")
        result = self.store.result(name, number)
        if result is None:
            raise UnknownJob("The item is not done.", reason="item-pending")
        if not result.is_good:
            raise UnknownJob("The item failed; the job says why.", reason="item-failed")
        return result

    def end(self, name: str, *, caller: str) -> Job | None:
        """Cancel a job that runs, which is returned; remove one that does not. Blocking.

        Raises:
            UnknownJob: there is none of this id, or it is somebody else's.
            ReceiverUnavailable: the disk or the queue cannot be used.
        """
        job = self.job(name, caller=caller)
        if self.store.finished(name) is not None:
            self.store.remove(name)
            return None
        try:
            self.store.finish(name, JobState.CANCELLED)
            self.runner.cancel(name)
            if job.webhook:
                data = webhook_work(name, job.webhook, now=time.time())
                self._client.enqueue(enqueue_options(data), data)
        except (OSError, SQLAlchemyError):
            raise ReceiverUnavailable("The job could not be cancelled.") from None
        return job

    def recover(self) -> None:
        """Begin what is on the disk and not in the queue; of the rest nothing changes."""
        self.is_behind = False
        for job in self.store.jobs():
            if self.store.finished(job.id) is None:
                self._client.enqueue(*start_work(job))

    def catch_up(self) -> None:
        """Begin what could not be put in the queue when it came. Blocking."""
        try:
            self.recover()
        except SQLAlchemyError:
            self.is_behind = True

    def sweep(self) -> None:
        """Begin what others left, and forget what ended long ago: files first, then records."""
        self.recover()
        removed = self.store.sweep(self.limits.retention_seconds)
        if removed:
            LOGGER.info("jobs removed", extra={"fields": {"removed": removed}})
        # A job's records must outlive it, or `recover` would begin it again.
        old = time.time() - self.limits.retention_seconds - 2 * 86400.0
        before = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(old))
        while rows := self._client.list_workflows(
            name=list(NAMES),
            status=["SUCCESS", "CANCELLED", "ERROR"],
            completed_before=before,
            limit=_PAGE,
        ):
            self._client.delete_workflows([row.workflow_id for row in rows])


@asynccontextmanager
async def open_jobs(
    place: Place,
    store: JobStore,
    runner: Runner,
    webhooks: Mapping[str, Webhook],
    limits: JobLimits,
    measures: JobMeasures,
) -> AsyncIterator[Jobs]:
    """Begin what was left, and look after it; the queue works already.

    Raises:
        SQLAlchemyError: the database cannot be opened.
    """
    client = await asyncio.to_thread(_client, place.url)
    jobs = Jobs(store, Spool(place.spool), client, runner, webhooks, limits)
    await asyncio.to_thread(jobs.recover)
    tasks = [
        asyncio.create_task(_sweep_now_and_then(jobs)),
        asyncio.create_task(_catch_up(jobs)),
        asyncio.create_task(measures.show_forever(store)),
    ]
    try:
        yield jobs
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        runner.stop()
        jobs.queueing.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(client.destroy)


async def _catch_up(jobs: Jobs) -> None:
    while True:
        await asyncio.sleep(_BEHIND_SECONDS)
        if jobs.is_behind:
            await asyncio.get_running_loop().run_in_executor(jobs.queueing, jobs.catch_up)


async def _sweep_now_and_then(jobs: Jobs) -> None:
    while True:
        try:
            await asyncio.get_running_loop().run_in_executor(jobs.queueing, jobs.sweep)
        except Exception as error:  # a database that is away for a while is no end of it
            fields = {"exception": type(error).__name__}
            LOGGER.error("sweeping jobs failed", extra={"fields": fields})
        await asyncio.sleep(SWEEP_SECONDS)


def _client(url: str) -> DBOSClient:
    return DBOSClient(
        system_database_url=url,
        serializer=DBOSPortableJSONSerializer(),
        application_name=APPLICATION,
    )
