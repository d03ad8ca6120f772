"""One item -> its answer, by the very routes that answer requests, without a network between.

So an item is answered exactly as a request of its own would be, admission and problems included.
"""

from __future__ import annotations

import httpx
from starlette.types import ASGIApp

from llmcxr_service.intake import JSON
from llmcxr_service.jobs.runner import Ask
from llmcxr_service.jobs.store import Item, Result


def ask_by(app: ASGIApp) -> Ask:
    """How items are done.

    Args:
        app: the routes, without any middleware that asks who is there.
    """
    client = httpx.AsyncClient(
        transport=httpx.ASGITransport(app, raise_app_exceptions=True),
        base_url="http://job",
        timeout=None,  # noqa: S113 - the routes have deadlines of their own
    )

    async def ask(item: Item) -> tuple[Result, float | None]:
        path = f"/{item.task.value}"
        headers = {"Accept": JSON}
        if item.options is None:
            response = await client.post(
                path, content=item.data, headers={**headers, "Content-Type": JSON}
            )
        else:
            files = {"file": ("radiograph", item.data)}
            response = await client.post(path, data=item.options, files=files, headers=headers)
        media_type = response.headers["content-type"].split(";")[0]
        return Result(response.status_code, media_type, response.content), _seconds(response)

    return ask


def _seconds(response: httpx.Response) -> float | None:
    value = response.headers.get("retry-after", "")
    return float(value) if value.isascii() and value.isdigit() else None
