"""The FastAPI application: middleware, routes, problems, and the runtime behind them."""

from __future__ import annotations

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
    problems,
    routes,
    routes_deliveries,
    routes_dicom,
    routes_status,
)
from llmcxr_service.access.middleware import Access
from llmcxr_service.access.opening import open_door
from llmcxr_service.body_limit import BodyLimit
from llmcxr_service.deadline import Deadlines
from llmcxr_service.observability import Metrics, Observability
from llmcxr_service.runtime import open_runtime
from llmcxr_service.settings import Settings

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
    door = open_door(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_runtime(settings, metrics, transport) as runtime:
            app.state.runtime = runtime
            app.state.door = door
            yield
        await door.close()

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
    app.include_router(routes.router)
    app.include_router(routes_status.router)
    app.include_router(routes_deliveries.router)
    app.include_router(routes_dicom.router)
    problems.install(app)

    @lru_cache
    def paths() -> frozenset[str]:
        return frozenset(route.path for route in app.routes if isinstance(route, Route))

    # The last one added is the outermost.
    app.add_middleware(
        BodyLimit,
        max_bytes=settings.max_body_bytes,
        larger={routes_dicom.PREFIX: settings.dicom_max_store_bytes},
    )
    app.add_middleware(Deadlines)
    app.add_middleware(Access, door=door, routes=lambda: app.routes, registry=metrics.registry)
    app.add_middleware(Observability, metrics=metrics, routes=paths)

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = documentation.build(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
    return app
