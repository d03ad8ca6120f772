"""Deliveries as a whole: opened with the application, closed with it; the `Receiver`."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial

from prometheus_client import CollectorRegistry
from sqlalchemy.exc import SQLAlchemyError

from llmcxr_service.deliveries.destinations import DRAFT, Destinations
from llmcxr_service.deliveries.drafting import Drafting, Render
from llmcxr_service.deliveries.ledger import Ledger
from llmcxr_service.deliveries.measures import Measures
from llmcxr_service.deliveries.place import Place
from llmcxr_service.deliveries.replicas import Replicas
from llmcxr_service.deliveries.senders import SENDERS
from llmcxr_service.deliveries.spool import Spool
from llmcxr_service.deliveries.work import Also, Work
from llmcxr_service.deliveries.worker import Parts, Worker
from llmcxr_service.errors import ReceiverUnavailable
from llmcxr_service.inference import Inference
from llmcxr_service.receiving import Received
from llmcxr_service.rendering import ModelIdentity

LOGGER = logging.getLogger(__name__)

SHOW_SECONDS = 10.0
"""Between two looks at the queue for the metrics and at other replicas."""
SWEEP_SECONDS = 600.0
STUCK_SECONDS = 2.0
"""Between two looks for work that is in nobody's hands."""
_KEEP_SECONDS = 10.0
"""For an instance to be kept; a sender that is told to come again is better off than one who waits
for a database that is locked."""
_KEEPING_AT_ONCE = 4


class Deliveries:
    """Takes instances, and lets administrators look after what becomes of them.

    Args:
        ledger: the records.
        spool: the files.
        model: whose report it will be.
    """

    def __init__(self, ledger: Ledger, spool: Spool, model: ModelIdentity) -> None:
        self.ledger = ledger
        self._spool = spool
        self._model = model
        # Threads of its own: a database that is locked must not hold those of others.
        self._threads = ThreadPoolExecutor(_KEEPING_AT_ONCE, "keeping")

    def close(self) -> None:
        """Take nothing more."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def submit(self, instance: bytes, received: Received) -> None:
        """Keep an instance and its order; when this returns they survive a `kill -9`.

        Raises:
            ReceiverUnavailable: it is not kept; the sender has to try again.
        """
        try:
            async with asyncio.timeout(_KEEP_SECONDS):
                await asyncio.get_running_loop().run_in_executor(
                    self._threads, self._submit, instance, received
                )
        except (OSError, SQLAlchemyError) as error:  # TimeoutError is an OSError
            fields = {"exception": type(error).__name__}
            LOGGER.error("an instance could not be kept", extra={"fields": fields})
            raise ReceiverUnavailable("The instance could not be kept.") from None

    def _submit(self, instance: bytes, received: Received) -> None:
        job = self._spool.job_id(received.work_key(self._model.digest))
        if self.ledger.knows(job):
            return
        self._spool.put_source(job, instance, received.source)
        order = received.order
        self.ledger.enqueue(
            Work(
                job=job,
                target=DRAFT,
                attempt=1,
                failures=0,
                since=time.time(),
                outputs=tuple(output.value for output in order.outputs),
                destinations=order.destinations,
            )
        )
        LOGGER.info("instance kept", extra={"fields": {"job": job, "rule": order.rule}})


@asynccontextmanager
async def open_deliveries(
    place: Place,
    destinations: Destinations,
    inference: Inference,
    model: ModelIdentity,
    render: Render,
    registry: CollectorRegistry,
    also: Also | None = None,
) -> AsyncIterator[Deliveries]:
    """Start working on the queue, and on what else is in its database; stop at the end.

    Raises:
        SQLAlchemyError: the database cannot be opened.
        OSError: the spool cannot be used.
    """
    spool = await asyncio.to_thread(Spool, place.spool)
    place.prepare()
    measures = Measures(registry)
    drafting = Drafting(inference, model, spool, render, asyncio.get_running_loop())
    parts = Parts(destinations, spool, drafting.make, SENDERS, measures)
    worker = Worker(parts, place.url, place.replica, also)
    await asyncio.to_thread(worker.start)
    try:
        ledger = await asyncio.to_thread(Ledger, place.url)
        replicas = Replicas(spool.root, place.replica)
        show = partial(_show, ledger, worker, measures, destinations, replicas)
        sweep = partial(sweep_queue, ledger, spool, destinations)
        stuck = Stuck(ledger, worker.running.ids, place.replica)
        threads = ThreadPoolExecutor(1, "queue-keeper")
        deliveries = Deliveries(ledger, spool, model)
        tasks = [
            asyncio.create_task(_every(SHOW_SECONDS, show, threads)),
            asyncio.create_task(_every(SWEEP_SECONDS, sweep, threads)),
            asyncio.create_task(_every(STUCK_SECONDS, stuck.look, threads)),
        ]
        try:
            yield deliveries
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            deliveries.close()
            threads.shutdown(wait=False, cancel_futures=True)
            await asyncio.to_thread(ledger.close)
    finally:
        await asyncio.to_thread(worker.stop)


class Stuck:
    """Notices work that is in nobody's hands, and gives it back to the queue.

    So it is when the database did not take what became of an attempt, because its disk was full.
    DBOS itself looks for such work only when the process starts.

    Args:
        ledger: the records.
        running: ids of what runs in this process.
        replica: its name.
    """

    def __init__(self, ledger: Ledger, running: Callable[[], frozenset[str]], replica: str) -> None:
        self._ledger, self._running, self._replica = ledger, running, replica
        self._idle: set[str] = set()

    def look(self) -> None:
        """What nobody works on at two looks one after the other. Blocking."""
        idle = self._ledger.pending(self._replica) - self._running()
        again = idle & self._idle  # at one look it may have been about to begin
        if again:
            self._ledger.give_back(again)
            LOGGER.warning("work taken up again", extra={"fields": {"taken_up": len(again)}})
        self._idle = idle - again


async def _every(seconds: float, work: Callable[[], None], threads: Executor) -> None:
    """Do something again and again; a database that is away for a while is no end of it."""
    while True:
        try:
            await asyncio.get_running_loop().run_in_executor(threads, work)
        except Exception as error:
            fields = {"exception": type(error).__name__}
            LOGGER.error("looking after the queue failed", extra={"fields": fields})
        await asyncio.sleep(seconds)


def _show(
    ledger: Ledger,
    worker: Worker,
    measures: Measures,
    destinations: Destinations,
    replicas: Replicas,
) -> None:
    targets = [DRAFT, *destinations.by_name]
    measures.show(targets, ledger.open_entries(), worker.open_circuits)
    replicas.beat()
    for replica in replicas.silent():
        taken = ledger.take_over(replica)
        replicas.bury(replica)
        LOGGER.warning("replica is silent", extra={"fields": {"taken_over": taken}})


def sweep_queue(ledger: Ledger, spool: Spool, destinations: Destinations) -> None:
    """Forget what is done and old; what is given up stays until somebody decides."""
    queue = destinations.queue
    ledger.forget_before(queue.history_days * 86400.0)
    # First the files, then the records: what comes in between is young.
    old = [job for job, age in spool.jobs() if age > queue.retention_hours * 3600.0]
    wanted = {entry.work.job for entry in ledger.open_entries()}
    for job in old:
        if job not in wanted:
            spool.remove(job)
