"""Metrics of what waits in jobs, looked up now and then: counting them reads directories."""

from __future__ import annotations

import asyncio
import logging
import time

from prometheus_client import CollectorRegistry, Gauge

from llmcxr_service.jobs.store import JobStore

LOGGER = logging.getLogger(__name__)

SHOW_SECONDS = 15.0


class JobMeasures:
    """Shows what is not done.

    Args:
        registry: of the application.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._running = Gauge("llmcxr_jobs_running", "Jobs that have not ended.", registry=registry)
        self._items = Gauge(
            "llmcxr_job_items_waiting", "Items of jobs that are not done.", registry=registry
        )
        self._oldest = Gauge(
            "llmcxr_job_oldest_seconds",
            "Age of the oldest job that has not ended, seconds.",
            registry=registry,
        )

    def show(self, store: JobStore) -> None:
        """What there is now. Blocking."""
        running = [job for job in store.jobs() if store.finished(job.id) is None]
        self._running.set(len(running))
        self._items.set(sum(len(job.spans) - store.results(job.id) for job in running))
        self._oldest.set(max((time.time() - job.created for job in running), default=0.0))

    async def show_forever(self, store: JobStore) -> None:
        """Again and again, until it is cancelled."""
        while True:
            try:
                await asyncio.to_thread(self.show, store)
            except OSError as error:
                fields = {"exception": type(error).__name__}
                LOGGER.error("jobs cannot be counted", extra={"fields": fields})
            await asyncio.sleep(SHOW_SECONDS)
