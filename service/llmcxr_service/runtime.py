"""What a running gateway is made of: opened at start, closed at the end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx
import torch
from fastapi import Request

from llmcxr_models.checkpoint import Checkpoint
from llmcxr_models.picking import Picker
from llmcxr_service.audit_log import AuditLog
from llmcxr_service.decode_pool import FILES_PER_WORKER, DecodePool, Restart
from llmcxr_service.decode_template import WorkerOptions
from llmcxr_service.deliveries.destinations import Destinations, load_destinations
from llmcxr_service.deliveries.place import place_of
from llmcxr_service.gatekeeper import Gatekeeper, PixelGate
from llmcxr_service.inference import Inference
from llmcxr_service.intake_dicom.opening import open_archives, open_reception, read_rules
from llmcxr_service.intake_dicom.reception import Reception
from llmcxr_service.intake_dicom.wado import Archives
from llmcxr_service.language_model import open_language_model
from llmcxr_service.limits import Admission
from llmcxr_service.observability import Metrics
from llmcxr_service.readiness import AnyReadiness
from llmcxr_service.rendering import ModelIdentity
from llmcxr_service.settings import Settings
from llmcxr_service.vision import Vision, load_image_tokenizer, micro_batch_sizes

if TYPE_CHECKING:
    from llmcxr_service.deliveries.service import Deliveries
    from llmcxr_service.jobs.opening import JobParts
    from llmcxr_service.jobs.service import Jobs

LOGGER = logging.getLogger(__name__)

_CPU_THREADS = 4


@dataclass(frozen=True)
class Runtime:
    """The parts that routes use.

    Attributes:
        settings: the configuration.
        checkpoint: what is served.
        model: its identity.
        metrics: of this application.
        admission: how much is in work.
        readiness: of vLLM.
        inference: makes answers.
        executor: for blocking work that is no VQ-GAN.
        decoder: reads files, in processes of its own.
        deliveries: keeps received instances and sends what is made of them; None where no
            destinations are configured.
        reception: takes instances in; None where no rules are configured.
        archives: that instances may be fetched from.
        jobs: takes batches; None where they are not configured.
    """

    settings: Settings
    checkpoint: Checkpoint
    model: ModelIdentity
    metrics: Metrics
    admission: Admission
    readiness: AnyReadiness
    inference: Inference
    executor: Executor
    decoder: DecodePool
    deliveries: Deliveries | None
    reception: Reception | None
    archives: Archives
    jobs: Jobs | None


def runtime_of(request: Request) -> Runtime:
    """The runtime of the application that a request came to."""
    runtime: Runtime = request.app.state.runtime
    return runtime


@asynccontextmanager
async def open_runtime(
    settings: Settings,
    metrics: Metrics,
    transport: httpx.AsyncBaseTransport | None,
    audit: AuditLog | None = None,
) -> AsyncIterator[Runtime]:
    """Load the checkpoint, start what must run, and stop it all at the end.

    vLLM is started but not waited for; the routes answer 503 until it is ready.

    Raises:
        CheckpointError: the checkpoint cannot be used.
        DestinationsError: the file of destinations cannot be used.
        WebhooksError: the file of webhooks cannot be used.
        RulesError: the file of rules cannot, or names other destinations.
        SourcesError: the file of archives cannot be used.
        ListenerError: the DIMSE receiver cannot listen.
    """
    async with AsyncExitStack() as stack:
        # 1. The checkpoint: hashing takes seconds, so not on the event loop.
        checkpoint = await asyncio.to_thread(
            Checkpoint.open, settings.checkpoint, verify=settings.verify_digests
        )
        model = ModelIdentity.of(checkpoint.manifest)
        metrics.model_info.labels(model.name, model.version, model.digest).set(1)
        # 2. The decode workers; they load while the rest does.
        decoder = _decode_pool(settings, checkpoint, metrics)
        decoder.start()
        stack.push_async_callback(decoder.stop)
        # 3. vLLM before the VQ-GAN, because it takes longest.
        language_model = await stack.enter_async_context(
            open_language_model(settings, checkpoint, metrics, transport)
        )
        # 4. The VQ-GAN.
        vision = await asyncio.to_thread(_load_vision, settings, checkpoint, metrics)
        vision.start()
        stack.push_async_callback(vision.stop)
        # 5. Everything together.
        executor = ThreadPoolExecutor(_CPU_THREADS, "blocking")
        stack.callback(executor.shutdown, cancel_futures=True)
        prompts = await asyncio.to_thread(checkpoint.load_prompts)
        inference = Inference(
            manifest=checkpoint.manifest,
            prompts=prompts,
            tokenizer=await asyncio.to_thread(checkpoint.load_tokenizer),
            decode_radiograph=decoder.radiograph,
            vision=vision,
            gatekeeper=await asyncio.to_thread(_load_gatekeeper, settings, checkpoint),
            generator=language_model.generator,
            readiness=language_model.readiness,
            metrics=metrics,
            executor=executor,
            picker=await asyncio.to_thread(_load_picker, checkpoint),
        )
        parts = await _job_parts(settings, metrics)
        deliveries = await _deliveries(settings, inference, model, metrics, stack, parts)
        jobs = None if parts is None else await stack.enter_async_context(parts.open())
        reception = await _reception(settings, deliveries, decoder, metrics, stack, audit)
        archives = await asyncio.to_thread(open_archives, settings)
        metrics.pending_limit.set(settings.max_pending)
        admission = Admission(
            settings.max_pending,
            metrics.pending.set,
            longest_seconds=settings.request_timeout_seconds,
        )
        LOGGER.info("weights loaded", extra={"fields": {"model": model.name}})
        yield Runtime(
            settings,
            checkpoint,
            model,
            metrics,
            admission,
            language_model.readiness,
            inference,
            executor,
            decoder,
            deliveries,
            reception,
            archives,
            jobs,
        )


async def _job_parts(settings: Settings, metrics: Metrics) -> JobParts | None:
    if not settings.jobs:
        return None
    from llmcxr_service.jobs.opening import prepare_jobs

    loop = asyncio.get_running_loop()
    return await asyncio.to_thread(prepare_jobs, settings, loop, metrics.registry)


async def _deliveries(
    settings: Settings,
    inference: Inference,
    model: ModelIdentity,
    metrics: Metrics,
    stack: AsyncExitStack,
    jobs: JobParts | None,
) -> Deliveries | None:
    """The queue of deliveries; jobs are worked on by the same, even where nothing is delivered."""
    if settings.destinations is None and jobs is None:
        return None
    # Its libraries take a second to load; whoever delivers nothing does not wait for them.
    from llmcxr_service.deliveries.service import open_deliveries
    from llmcxr_service.outputs.formats import render

    destinations = Destinations()
    if settings.destinations is not None:
        destinations = await asyncio.to_thread(load_destinations, settings.destinations)
    also = None if jobs is None else jobs.runner.also
    deliveries = await stack.enter_async_context(
        open_deliveries(
            place_of(settings), destinations, inference, model, render, metrics.registry, also
        )
    )
    return None if settings.destinations is None else deliveries


async def _reception(
    settings: Settings,
    deliveries: Deliveries | None,
    decoder: DecodePool,
    metrics: Metrics,
    stack: AsyncExitStack,
    audit: AuditLog | None,
) -> Reception | None:
    """What takes instances in, by STOW-RS and, where a port is set, by DIMSE."""
    rules = await asyncio.to_thread(read_rules, settings)
    if rules is None or deliveries is None:
        return None
    reception = open_reception(settings, rules, deliveries, decoder.identify, metrics)
    if settings.dicom_port is not None:
        # Loaded only by those who listen.
        from llmcxr_service.intake_dicom.listening import make_dimse_receiver

        receiver = make_dimse_receiver(settings, settings.dicom_port, reception, metrics, audit)
        await receiver.start()
        stack.push_async_callback(receiver.stop)
    return reception


def _load_gatekeeper(settings: Settings, checkpoint: Checkpoint) -> Gatekeeper:
    return Gatekeeper(
        checkpoint.manifest.views,
        checkpoint.load_gate(),
        pixel_gate=PixelGate(settings.pixel_gate),
        accept_secondary_capture=settings.accept_secondary_capture,
        refuse_laterals=settings.refuse_laterals,
    )


def _load_picker(checkpoint: Checkpoint) -> Picker | None:
    judge = checkpoint.load_judge()
    return None if judge is None else Picker(judge)


def _decode_pool(settings: Settings, checkpoint: Checkpoint, metrics: Metrics) -> DecodePool:
    options = WorkerOptions(
        pipeline=checkpoint.manifest.preprocessing.pipeline,
        memory_mib=settings.decode_memory_mib,
        seconds=settings.decode_timeout_seconds,
        files=FILES_PER_WORKER,
    )
    for reason in Restart:
        metrics.decode_restarts.labels(reason)  # so that an alert sees 0 before the first one
    return DecodePool(
        options,
        workers=settings.decode_workers,
        on_restart=lambda reason: metrics.decode_restarts.labels(reason).inc(),
        on_wait=metrics.wait_seconds.labels("decode").observe,
    )


def _load_vision(settings: Settings, checkpoint: Checkpoint, metrics: Metrics) -> Vision:
    if settings.vqgan_threads:
        torch.set_num_threads(settings.vqgan_threads)
    tokenizer = load_image_tokenizer(checkpoint, settings)
    # The first pass allocates, and on a GPU loads kernels; no caller shall wait for that.
    tokenizer.encode(tokenizer.decode(torch.zeros(1, tokenizer.image_length, dtype=torch.int64)))
    max_encode, max_decode = micro_batch_sizes(tokenizer, settings)
    return Vision(
        tokenizer,
        checkpoint.manifest.preprocessing,
        max_encode=max_encode,
        max_decode=max_decode,
        wait_seconds=settings.micro_batch_wait_ms / 1000.0,
        on_batch=lambda kind, size: metrics.micro_batch_size.labels(kind).observe(size),
        on_wait=lambda stage, seconds: metrics.wait_seconds.labels(stage).observe(seconds),
    )
