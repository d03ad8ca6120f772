"""The routes that items of jobs are done by: those of requests, with nothing in front of them.

Who may submit a job was asked when it was; there is no network here to be asked from again.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable

from fastapi import FastAPI
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from llmcxr_service import problems, routes
from llmcxr_service.access.callers import EVERY_SCOPE, Caller
from llmcxr_service.auditing import Auditing
from llmcxr_service.jobs.store import Item
from llmcxr_service.observability import Door, Metrics


def item_app(outer: FastAPI, metrics: Metrics) -> Callable[[Item], ASGIApp]:
    """An application for this process alone, as each item meets it.

    The audit log has an event of every attempt, by whom the job was submitted.

    Args:
        outer: the application that jobs are submitted to; its state is shared.
        metrics: where to count.
    """
    app = FastAPI(openapi_url=None)
    app.include_router(routes.router)
    problems.install(app)
    app.state = outer.state
    paths = frozenset(route.path for route in app.routes if isinstance(route, Route))
    audited = Auditing(
        app,
        log=lambda: outer.state.audit,
        routes=lambda: paths,
        model=lambda: outer.state.runtime.model.digest,
        on_failure=metrics.audit_failures.labels("append").inc,
    )

    def app_for(item: Item) -> ASGIApp:
        async def with_state(scope: Scope, receive: Receive, send: Send) -> None:
            scope["state"] = {
                "request_id": uuid.uuid4().hex,
                "caller": Caller(item.caller, EVERY_SCOPE),
                "door": Door.JOB.value,
                "job": item.job,
            }
            await audited(scope, receive, send)

        return with_state

    return app_for
