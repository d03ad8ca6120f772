"""One item -> its answer, by the very routes that answer requests, without a network between.

So an item is answered exactly as a request of its own would be, admission and problems included.
"""

from __future__ import annotations

from collections.abc import Callable

import httpx
from starlette.types import ASGIApp

from llmcxr_service.intake import JSON
from llmcxr_service.jobs.runner import Ask
from llmcxr_service.jobs.store import Item, Result


def ask_by(app_for: Callable[[Item], ASGIApp]) -> Ask:
    """How items are done.

    Args:
        app_for: the routes as an item meets them: nobody asks who is there.
    """

    async def ask(item: Item) -> tuple[Result, float | None]:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app_for(item), raise_app_exceptions=True),
            base_url="http://job",
            timeout=None,  # noqa: S113 - the routes have deadlines of their own
            trust_env=False,
        ) as client:
            response = await _post(client, item)
        media_type = response.headers["content-type"].split(";")[0]
        return Result(response.status_code, media_type, response.content), _seconds(response)

    return ask


async def _post(client: httpx.AsyncClient, item: Item) -> httpx.Response:
    path = f"/{item.task.value}"
    headers = {"Accept": JSON}
    if item.options is None:
        return await client.post(path, content=item.data, headers={**headers, "Content-Type": JSON})
    files = {"file": ("radiograph", item.data)}
    return await client.post(path, data=item.options, files=files, headers=headers)


def _seconds(response: httpx.Response) -> float | None:
    value = response.headers.get("retry-after", "")
    return float(value) if value.isascii() and value.isdigit() else None
