"""The routes that items of jobs are done by: those of requests, with nothing in front of them.

Who may submit a job was asked when it was; there is no network here to be asked from again.
"""

from __future__ import annotations

import uuid

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from llmcxr_service import problems, routes
from llmcxr_service.access.callers import ANYBODY
from llmcxr_service.observability import Door


def item_app(outer: FastAPI) -> ASGIApp:
    """An application for this process alone.

    Args:
        outer: the application that jobs are submitted to; its state is shared.
    """
    app = FastAPI(openapi_url=None)
    app.include_router(routes.router)
    problems.install(app)
    app.state = outer.state

    async def with_state(scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"] = {
            "request_id": uuid.uuid4().hex,
            "caller": ANYBODY,
            "door": Door.JOB.value,
        }
        await app(scope, receive, send)

    return with_state
