"""Jobs put together from settings: what is needed before the queue begins, and what after."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from llmcxr_service.deliveries.place import Place, place_of
from llmcxr_service.deliveries.spool import Spool
from llmcxr_service.jobs.measures import JobMeasures
from llmcxr_service.jobs.runner import Runner, RunnerOptions
from llmcxr_service.jobs.service import JobLimits, Jobs, open_jobs
from llmcxr_service.jobs.store import JobStore
from llmcxr_service.jobs.webhooks import Webhook, load_webhooks
from llmcxr_service.settings import Settings


@dataclass(frozen=True)
class JobParts:
    """What must be there before the queue begins.

    Attributes:
        runner: works on items.
        store: files.
        place: of the queue.
        webhooks: by name.
        limits: how much.
        measures: show what waits.
    """

    runner: Runner
    store: JobStore
    place: Place
    webhooks: Mapping[str, Webhook]
    limits: JobLimits
    measures: JobMeasures

    def open(self) -> AbstractAsyncContextManager[Jobs]:
        """Begin, once the queue has."""
        return open_jobs(
            self.place, self.store, self.runner, self.webhooks, self.limits, self.measures
        )


def prepare_jobs(
    settings: Settings, loop: asyncio.AbstractEventLoop, registry: CollectorRegistry
) -> JobParts:
    """As configured.

    Raises:
        WebhooksError: the file of webhooks cannot be used.
        OSError: the spool cannot be used.
    """
    place = place_of(settings)
    Spool(place.spool)  # makes the directory
    store = JobStore(place.spool)
    webhooks = load_webhooks(settings.webhooks)
    options = RunnerOptions(concurrency=settings.jobs_concurrency)
    limits = JobLimits(
        max_items=settings.jobs_max_items,
        max_waiting=settings.jobs_max_waiting,
        retention_seconds=settings.jobs_retention_hours * 3600.0,
    )
    return JobParts(
        Runner(store, webhooks, options, loop, registry),
        store,
        place,
        webhooks,
        limits,
        JobMeasures(registry),
    )
