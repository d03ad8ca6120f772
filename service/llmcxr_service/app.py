"""The FastAPI application: middleware, routes, problems, and the runtime behind them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import lru_cache
from importlib.metadata import version
from typing import Any

import httpx
from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.routing import Route

from llmcxr_service import (
    documentation,
    idempotency,
    problems,
    routes,
    routes_deliveries,
    routes_dicom,
    routes_jobs,
    routes_status,
)
from llmcxr_service.access.measures import DoorMeasures
from llmcxr_service.access.middleware import Access
from llmcxr_service.access.opening import open_door
from llmcxr_service.audit_log import AuditLog
from llmcxr_service.auditing import Auditing, keep_synced
from llmcxr_service.body_limit import BodyLimit
from llmcxr_service.deadline import Deadlines
from llmcxr_service.draining import Draining, Ending
from llmcxr_service.host_measures import show_host
from llmcxr_service.idempotency import AnswerStore, Idempotency
from llmcxr_service.item_app import item_app
from llmcxr_service.jobs.asking import ask_by
from llmcxr_service.observability import Metrics, Observability
from llmcxr_service.runtime import open_runtime
from llmcxr_service.settings import Settings
from llmcxr_service.tracing import Traces, open_tracing

_DESCRIPTION = (
    "Chest radiograph to draft report, and report to synthetic chest radiograph, by one language"
    " model. Research use only: not a medical device, not for diagnosis."
)


def create_app(settings: Settings, *, transport: httpx.AsyncBaseTransport | None = None) -> FastAPI:
    """Build the gateway; the checkpoint is opened when the application starts.

    Args:
        settings: the configuration.
        transport: how vLLM is reached instead of over the network; then none is started.
    """
    metrics = Metrics()
    door = open_door(settings, DoorMeasures(metrics.registry))
    tracing = open_tracing(settings.otlp_endpoint) if settings.otlp_endpoint else None

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.audit = AuditLog(settings.audit, settings.replica) if settings.audit else None
        async with (
            keep_synced(app.state.audit, metrics.audit_failures.labels("sync").inc),
            show_host(settings, metrics.registry),
            open_runtime(settings, metrics, transport, app.state.audit) as runtime,
        ):
            app.state.runtime = runtime
            app.state.door = door
            if runtime.jobs is not None:
                runtime.jobs.runner.attach(ask_by(item_app(app, metrics)))
            yield
        await door.close()
        if tracing is not None:
            await asyncio.to_thread(tracing.shutdown)

    # Its page comes without the content delivery network of FastAPI's own: hospitals have none.
    app = FastAPIOffline(
        docs_url="/docs",
        redoc_url=None,
        title="LLM-CXR",
        version=version("llmcxr"),
        description=_DESCRIPTION,
        lifespan=lifespan,
        redirect_slashes=False,
    )
    app.state.draining = Draining()
    app.include_router(routes.router)
    app.include_router(routes_status.router)
    app.include_router(routes_deliveries.router)
    app.include_router(routes_dicom.router)
    app.include_router(routes_jobs.router)
    problems.install(app)

    @lru_cache
    def paths() -> frozenset[str]:
        return frozenset(route.path for route in app.routes if isinstance(route, Route))

    # The last one added is the outermost. Within authentication: keys belong to callers.
    if settings.idempotency_hours > 0:
        answers = AnswerStore(settings.spool, settings.idempotency_hours * 3600.0)
        app.add_middleware(Idempotency, store=answers, without=(routes_dicom.PREFIX,))
    app.add_middleware(
        BodyLimit,
        max_bytes=settings.max_body_bytes,
        larger={
            routes_dicom.PREFIX: settings.dicom_max_store_bytes,
            routes_jobs.PATH: settings.jobs_max_body_bytes,
        },
    )
    app.add_middleware(Deadlines)
    app.add_middleware(Access, door=door, routes=lambda: app.routes, registry=metrics.registry)
    app.add_middleware(Ending)
    app.add_middleware(
        Traces, tracer=tracing.get_tracer("llmcxr") if tracing else None, routes=paths
    )
    app.add_middleware(
        Auditing,
        log=lambda: app.state.audit,
        routes=paths,
        model=lambda: app.state.runtime.model.digest,
        on_failure=metrics.audit_failures.labels("append").inc,
    )
    app.add_middleware(Observability, metrics=metrics, routes=paths)

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = documentation.build(app)
            documentation.add_idempotency(
                app.openapi_schema, idempotency.HEADER, without=routes_dicom.PREFIX
            )
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
    return app
