"""The routes for administrators: what is delivered, what is not, and what to do about it.

Ids are our own and opaque; nothing here names a patient, a study or a host.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import JSONResponse, Response

from llmcxr_service import documentation as doc
from llmcxr_service.deliveries.work import State
from llmcxr_service.errors import UnknownDelivery
from llmcxr_service.runtime import runtime_of

if TYPE_CHECKING:
    from llmcxr_service.deliveries.ledger import Entry, Ledger

MOST = 1000

router = APIRouter(default_response_class=Response)
_CHANGE: dict[str, Any] = {"status_code": 202, "responses": doc.problems(404, 422)}


class Delivery(BaseModel):
    """One delivery, or one attempt of it."""

    id: str = Field(description="Opaque; `JOB.draft` is the report itself.")
    target: str = Field(description="`draft`, or a destination's name.")
    state: State
    attempt: int
    reason: str = Field(description="Why it failed, or failed the last time; else empty.")
    since: datetime = Field(description="Giving up is counted from here.")
    changed: datetime
    due: datetime | None = Field(description="When a waiting one is tried next.")


class DeliveryList(BaseModel):
    """Deliveries, newest first, or attempts, oldest first."""

    deliveries: list[Delivery]


@router.get(
    "/deliveries",
    summary="Deliveries, newest first",
    response_class=JSONResponse,
    response_model=DeliveryList,
    responses=doc.problems(404, 422),
)
async def list_deliveries(
    request: Request,
    state: State | None = None,
    limit: Annotated[int, Query(ge=1, le=MOST)] = 100,
) -> Response:
    """What is queued, waiting, in work, done, given up (`dead`) or discarded."""
    ledger = _ledger(request)
    return _json(await asyncio.to_thread(lambda: ledger.entries(state=state, limit=limit)))


@router.get(
    "/deliveries/{delivery}",
    summary="Every attempt of one delivery",
    response_class=JSONResponse,
    response_model=DeliveryList,
    responses=doc.problems(404, 422),
)
async def show_delivery(request: Request, delivery: str) -> Response:
    """Attempts, oldest first."""
    return _json(await asyncio.to_thread(_ledger(request).history, delivery))


@router.post("/deliveries/{delivery}/resend", summary="Send it now", **_CHANGE)
async def resend_delivery(request: Request, delivery: str) -> Response:
    """Again where it was given up, discarded or done; sooner where it waits."""
    return await _change(_ledger(request).resend, delivery)


@router.post("/deliveries/{delivery}/discard", summary="Give it up for good", **_CHANGE)
async def discard_delivery(request: Request, delivery: str) -> Response:
    """No further attempt is made; one that is just in work may still arrive."""
    return await _change(_ledger(request).discard, delivery)


async def _change(change: Callable[[str], None], delivery: str) -> Response:
    await asyncio.to_thread(change, delivery)
    return Response(status_code=_CHANGE["status_code"])


def _ledger(request: Request) -> Ledger:
    deliveries = runtime_of(request).deliveries
    if deliveries is None:
        raise UnknownDelivery("No destinations are configured.", reason="no-destinations")
    return deliveries.ledger


def describe(entry: Entry) -> Delivery:
    """An entry as it is told."""
    work = entry.work
    return Delivery(
        id=work.delivery,
        target=work.target,
        state=entry.state,
        attempt=work.attempt,
        reason=entry.reason,
        since=_time(work.since),
        changed=_time(entry.changed),
        due=None if entry.due is None else _time(entry.due),
    )


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(round(seconds, 3), UTC)


def _json(entries: list[Entry]) -> Response:
    answer = DeliveryList(deliveries=[describe(entry) for entry in entries])
    return Response(answer.model_dump_json(), media_type="application/json")
