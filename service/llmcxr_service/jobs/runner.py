"""The work itself: three workflows. What survives a crash is decided here.

`job-start` enqueues an attempt for each item; `job-item` is one attempt at one item; the last
item that ends enqueues `job-webhook`. Every id follows from the job, so that doing any of it
again is doing it once. A result is a file that is written once, whatever is repeated.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from typing import Any

from dbos import DBOS, EnqueueOptions
from prometheus_client import CollectorRegistry, Counter

from llmcxr_service.deliveries.retry import backoff
from llmcxr_service.deliveries.work import Also
from llmcxr_service.jobs.store import Item, Job, JobState, JobStore, Result, Task
from llmcxr_service.jobs.webhooks import Webhook, call

LOGGER = logging.getLogger(__name__)

START, ITEM, WEBHOOK = "job-start", "job-item", "job-webhook"
NAMES = (START, ITEM, WEBHOOK)
QUEUE_ITEMS, QUEUE_OTHER = "job-items", "job-other"
OTHER_AT_ONCE = 4
BUSY = frozenset({429, 503})
"""Nothing is wrong with the item: it is tried again for as long as `GIVE_UP_HOURS`."""
PASSING = frozenset({408, 500, 502, 504})
"""Something may be: it is tried again `MOST_FAILURES` times."""
GIVE_UP_HOURS = 24.0
MOST_FAILURES = 5
_LONGEST_PAUSE = 300.0
_STOPPING_PAUSE = 2.0
_STORAGE_PAUSE = 2.0

Ask = Callable[[Item], Awaitable[tuple[Result, float | None]]]
"""Does one item as a request would; the result, and the seconds of a Retry-After."""


@dataclass(frozen=True)
class RunnerOptions:
    """How items are worked on.

    Attributes:
        concurrency: items at the same time.
        first_retry_seconds: the pause after the first failure; it doubles from there.
    """

    concurrency: int
    first_retry_seconds: float = 1.0


class Runner:
    """Works on jobs in the queue's threads.

    Args:
        store: files.
        webhooks: by name.
        options: how.
        loop: where items are worked on.
        registry: of the application's metrics.
    """

    def __init__(
        self,
        store: JobStore,
        webhooks: Mapping[str, Webhook],
        options: RunnerOptions,
        loop: asyncio.AbstractEventLoop,
        registry: CollectorRegistry,
    ) -> None:
        self._store, self._webhooks, self._options = store, webhooks, options
        self._loop = loop
        self._ask: asyncio.Future[Ask] = loop.create_future()
        self._running: dict[tuple[str, int], Future[Any]] = {}
        self._lock = threading.Lock()
        self._stopping = False
        self._dice = random.Random()  # noqa: S311 - jitter
        self._items = Counter(
            "llmcxr_job_items",
            "Attempts at items of jobs, by what became of them.",
            ["task", "outcome"],
            registry=registry,
        )
        self._calls = Counter(
            "llmcxr_job_webhooks", "Calls of webhooks.", ["outcome"], registry=registry
        )
        for outcome in ("done", "retry", "given-up", "gone"):
            self._calls.labels(outcome)
        for task in Task:
            for outcome in ("done", "failed", "retry"):
                self._items.labels(task.value, outcome)

    @property
    def also(self) -> Also:
        """What the queue has to know of this work."""
        workflows = {START: self._start, ITEM: self._item, WEBHOOK: self._webhook}
        queues = {QUEUE_ITEMS: self._options.concurrency, QUEUE_OTHER: OTHER_AT_ONCE}
        return Also(workflows, queues)

    def attach(self, ask: Ask) -> None:
        """Say how items are done; until then they wait. On the event loop."""
        self._ask.set_result(ask)

    def cancel(self, job: str) -> None:
        """Give up what is in work of a job, here."""
        with self._lock:
            futures = [future for key, future in self._running.items() if key[0] == job]
        for future in futures:
            future.cancel()

    def stop(self) -> None:
        """Give up what is in work; it stays in the queue."""
        with self._lock:
            self._stopping = True
            futures = list(self._running.values())
        for future in futures:
            future.cancel()

    # Workflows: whatever they decide by comes from their input or from a recorded step.

    def _start(self, data: dict[str, Any]) -> dict[str, Any]:
        for number in range(data["items"]):
            _enqueue(item_work(data["job"], number, now=data["now"]))
        return {"state": "done"}

    def _item(self, data: dict[str, Any]) -> dict[str, Any]:
        result: dict[str, Any] = DBOS.run_step({"name": ITEM}, self._attempt, data)
        if result["state"] == "retry":
            _enqueue(_again(data, result), result["pause"])
        elif result["webhook"]:
            _enqueue(webhook_work(data["job"], result["webhook"], now=result["now"]))
        return result

    def _webhook(self, data: dict[str, Any]) -> dict[str, Any]:
        result: dict[str, Any] = DBOS.run_step({"name": WEBHOOK}, self._tell, data)
        if result["state"] == "retry":
            _enqueue(_again(data, result), result["pause"])
        return result

    # Steps.

    def _attempt(self, data: dict[str, Any]) -> dict[str, Any]:
        try:
            return self._one_attempt(data)
        except OSError as error:
            # A full disk is no fault of the item's, and does not stay full.
            fields = {"job": data["job"], "exception": type(error).__name__}
            LOGGER.error("a result could not be kept", extra={"fields": fields})
            return self._retry(data, 0, _STORAGE_PAUSE)

    def _one_attempt(self, data: dict[str, Any]) -> dict[str, Any]:
        job, number = data["job"], data["number"]
        if self._store.has_result(job, number):  # the crash came right after it
            return self._ended(job)
        item = self._store.item(job, number)
        if item is None:
            return {"state": "gone", "webhook": ""}
        try:
            result, retry_after = self._work(job, number, item)
        except CancelledError:
            # By the service's end, or because the job was cancelled: the next attempt knows.
            return self._retry(data, 0, _STOPPING_PAUSE)
        except Exception as error:
            # Its text may quote data; the class does not.
            fields = {"job": job, "exception": type(error).__name__}
            LOGGER.error("unforeseen failure in a job", extra={"fields": fields})
            result, retry_after = _unforeseen(job), None
        if self._is_worth_another(data, result.status):
            self._items.labels(item.task.value, "retry").inc()
            failed = result.status not in BUSY
            pause = retry_after or self._pause(data["attempt"])
            return self._retry(data, int(failed), pause)
        if self._store.put_result(job, number, result):
            self._items.labels(item.task.value, "done" if result.is_good else "failed").inc()
        return self._ended(job)

    def _work(self, job: str, number: int, item: Item) -> tuple[Result, float | None]:
        with self._lock:
            if self._stopping:
                raise CancelledError
            future = asyncio.run_coroutine_threadsafe(self._asked(item), self._loop)
            self._running[job, number] = future
        try:
            return future.result()
        finally:
            with self._lock:
                del self._running[job, number]

    async def _asked(self, item: Item) -> tuple[Result, float | None]:
        ask = await asyncio.shield(self._ask)
        return await ask(item)

    def _ended(self, job: str) -> dict[str, Any]:
        """After an item: is it the last one, and whom is that told?"""
        found = self._store.job(job)
        if found is None or self._store.results(job) < len(found.spans):
            return {"state": "done", "webhook": ""}
        self._store.finish(job, JobState.COMPLETED)
        return {"state": "done", "webhook": found.webhook, "now": time.time()}

    def _tell(self, data: dict[str, Any]) -> dict[str, Any]:
        webhook = self._webhooks.get(data["webhook"])
        job = self._store.job(data["job"])
        if webhook is None or job is None:
            self._calls.labels("gone").inc()
            return {"state": "gone"}
        if call(webhook, f"{job.id}.end", webhook_body(self._store, job)):
            self._calls.labels("done").inc()
            return {"state": "done"}
        late = time.time() - data["since"] > GIVE_UP_HOURS * 3600.0
        self._calls.labels("given-up" if late else "retry").inc()
        if late:
            return {"state": "given-up"}
        return self._retry(data, 1, self._pause(data["attempt"]))

    def _is_worth_another(self, data: dict[str, Any], status: int) -> bool:
        if status in BUSY:
            return time.time() - float(data["since"]) < GIVE_UP_HOURS * 3600.0
        return status in PASSING and data["failures"] < MOST_FAILURES

    def _pause(self, attempt: int) -> float:
        return backoff(
            attempt,
            first_seconds=self._options.first_retry_seconds,
            longest_seconds=_LONGEST_PAUSE,
            dice=self._dice,
        )

    def _retry(self, data: dict[str, Any], failed: int, pause: float) -> dict[str, Any]:
        return {"state": "retry", "failures": data["failures"] + failed, "pause": pause}


def start_work(job: Job) -> tuple[EnqueueOptions, dict[str, Any]]:
    """What begins a job."""
    data = {"job": job.id, "items": len(job.spans), "now": job.created}
    return _options(START, QUEUE_OTHER, f"{job.id}.start"), data


def item_work(job: str, number: int, *, now: float) -> dict[str, Any]:
    """The first attempt at an item."""
    return {"job": job, "number": number, "attempt": 1, "failures": 0, "since": now}


def webhook_work(job: str, webhook: str, *, now: float) -> dict[str, Any]:
    """The first attempt to tell of a job's end."""
    return {"job": job, "webhook": webhook, "attempt": 1, "failures": 0, "since": now}


def enqueue_options(data: dict[str, Any]) -> EnqueueOptions:
    """How an attempt is put in its queue: its id says which one it is."""
    if "webhook" in data:
        return _options(WEBHOOK, QUEUE_OTHER, f"{data['job']}.webhook.{data['attempt']}")
    key = f"{data['job']}.{data['number']}.{data['attempt']}"
    return _options(ITEM, QUEUE_ITEMS, key)


def webhook_body(store: JobStore, job: Job) -> bytes:
    """What a webhook is told: how it ended, and nothing of what is in it."""
    finished = store.finished(job.id)
    results = [store.result(job.id, number) for number in range(len(job.spans))]
    body = {
        "type": "job.finished",
        "job": job.id,
        "task": job.task,
        "state": finished[0].value if finished else JobState.RUNNING.value,
        "items": len(job.spans),
        "done": sum(result is not None and result.is_good for result in results),
        "failed": sum(result is not None and not result.is_good for result in results),
    }
    return json.dumps(body).encode()


def _options(workflow: str, queue: str, key: str) -> EnqueueOptions:
    return {"workflow_name": workflow, "queue_name": queue, "workflow_id": f"batch.{key}"}


def _again(data: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
    return {**data, "attempt": data["attempt"] + 1, "failures": result["failures"]}


def _enqueue(data: dict[str, Any], delay_seconds: float = 0.0) -> None:
    how = enqueue_options(data)
    if delay_seconds > 0:
        how["delay_seconds"] = delay_seconds
    DBOS.enqueue_workflow_with_options(how, data)


def _unforeseen(job: str) -> Result:
    problem = {
        "type": "/problems/internal-error",
        "title": "Internal error",
        "status": 500,
        "request_id": job,
    }
    return Result(500, "application/problem+json", json.dumps(problem).encode())
