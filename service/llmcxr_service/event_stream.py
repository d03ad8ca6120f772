"""A route's work told while it is done: Server-Sent Events as an HTTP answer.

    meta                model, seed, sampling, preprocessing: first
    findings, impression, text      the next characters of that part, {"text": "..."}
    observations        what the model says of each finding
    progress, image     how much of an image is drawn; the whole image
    done                the same JSON as without a stream: last
    error               a problem document: last, instead of `done`

Until something of the answer is there, the answer has not begun, so that what goes wrong before
is an ordinary problem with its status. The work does not wait for a slow reader; a reader that
takes nothing for a minute, or goes away, ends it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from llmcxr_models.errors import CxrError
from llmcxr_service.draining import stopping
from llmcxr_service.problems import error_response, internal_error_response
from llmcxr_service.server_sent_events import HEARTBEAT, MEDIA_TYPE, ServerSentEvent


@dataclass(frozen=True)
class Pace:
    """What a stream waits for, in seconds.

    Attributes:
        patience: for the beginning of the answer, before the status is sent without it.
        heartbeat: of quiet, before a comment says that the answer is still being made.
        slowest_reader: for the reader to take what there is.
    """

    patience: float = 5.0
    heartbeat: float = 10.0
    slowest_reader: float = 60.0


_USUAL = Pace()


class Events:
    """Where a route tells of its work. Nothing here blocks or waits."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.begun = asyncio.Event()
        self.flowing = asyncio.Event()

    def begin(self, meta: BaseModel) -> None:
        """The request has been read, and this is how it will be answered."""
        self._put("meta", meta.model_dump_json())
        self.begun.set()

    def send(self, name: str, data: object) -> None:
        """A part of the answer, as JSON."""
        self._put(name, json.dumps(data, ensure_ascii=False))
        self.flowing.set()

    def text(self, name: str, text: str) -> None:
        """The next characters of a part of the answer."""
        self.send(name, {"text": text})

    def _put(self, name: str, data: str) -> None:
        self.queue.put_nowait(ServerSentEvent(name, data).encode())


Work = Callable[[Events], Coroutine[Any, Any, Response]]
"""Reads the request, tells of the work, and returns the JSON answer."""


async def event_stream(work: Work, pace: Pace = _USUAL) -> Response:
    """Begin the work; the answer, once there is something to say.

    Raises:
        CxrError: what the work raised before it had said anything.
    """
    events = Events()
    task = asyncio.create_task(work(events))
    try:
        await _either(task, events.begun.wait())
        await _either(task, events.flowing.wait(), pace.patience)
        if task.done() and not events.flowing.is_set():
            task.result()
    except BaseException:
        await _end(task)
        raise
    return _EventStream(events, task, pace)


class _EventStream(Response):
    def __init__(self, events: Events, task: asyncio.Task[Response], pace: Pace) -> None:
        super().__init__()
        self._pace = pace
        self._events = events
        self._task = task
        task.add_done_callback(lambda _: events.queue.put_nowait(None))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        headers = [
            (b"content-type", MEDIA_TYPE.encode()),
            # nginx else collects an answer before it passes it on.
            (b"x-accel-buffering", b"no"),
        ]
        try:
            status = HTTPStatus.OK.value
            await send({"type": "http.response.start", "status": status, "headers": headers})
            async for body in self._bodies(scope):
                async with asyncio.timeout(self._pace.slowest_reader):
                    await send({"type": "http.response.body", "body": body, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except TimeoutError:
            # Without its end, the server closes the connection.
            scope["state"]["rejection"] = "slow-reader"
        except asyncio.CancelledError:
            error = stopping()
            scope["state"]["rejection"] = error.reason
            body = _error(error_response(error, scope["state"]["request_id"]))
            await send({"type": "http.response.body", "body": body, "more_body": False})
            raise
        finally:
            await _end(self._task)

    async def _bodies(self, scope: Scope) -> AsyncIterator[bytes]:
        while True:
            try:
                async with asyncio.timeout(self._pace.heartbeat):
                    event = await self._events.queue.get()
            except TimeoutError:
                yield HEARTBEAT
                continue
            if event is None:
                break
            yield event
        try:
            answer = self._task.result()
        except CxrError as error:
            scope["state"]["rejection"] = error.reason
            yield _error(error_response(error, scope["state"]["request_id"]))
        except Exception:
            yield _error(internal_error_response(scope["state"]["request_id"]))
            raise  # for the log
        else:
            yield ServerSentEvent("done", bytes(answer.body).decode()).encode()


def _error(problem: Response) -> bytes:
    document = json.loads(bytes(problem.body))
    retry_after = problem.headers.get("retry-after")
    if retry_after is not None:
        # There is no header any more to say it in.
        document["retry_after_seconds"] = int(retry_after)
    return ServerSentEvent("error", json.dumps(document)).encode()


async def _either(
    task: asyncio.Task[Response], other: Awaitable[object], seconds: float | None = None
) -> None:
    waiter = asyncio.ensure_future(other)
    try:
        await asyncio.wait({task, waiter}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiter.cancel()


async def _end(task: asyncio.Task[Response]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
