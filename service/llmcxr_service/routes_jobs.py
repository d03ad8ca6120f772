"""The routes of jobs: submit a batch, ask about it, take its results, end it."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import JSONResponse, Response

from llmcxr_service import documentation as doc
from llmcxr_service.access.callers import Scope
from llmcxr_service.callers import caller_id, may
from llmcxr_service.errors import UnknownJob
from llmcxr_service.inference import SEEDS, choose_seed
from llmcxr_service.intake import FORM, JSON, content_type, read_json, read_uploads
from llmcxr_service.jobs.messages import (
    ImagesJob,
    ItemAnswer,
    JobAnswer,
    JobList,
    JobOptions,
    JobSummary,
    Progress,
    ReportsJob,
    SubmittedJob,
)
from llmcxr_service.jobs.store import Job, JobState, JobStore, Result, Submission, Task
from llmcxr_service.problems import Problem
from llmcxr_service.runtime import runtime_of

if TYPE_CHECKING:
    from llmcxr_service.jobs.service import Jobs

PATH = "/jobs"
MOST = 1000
_SCOPES = {Task.REPORT: Scope.REPORT, Task.IMAGE: Scope.IMAGE}

router = APIRouter(default_response_class=Response)


@router.post(
    PATH,
    summary="Submit a batch",
    status_code=202,
    responses=doc.said(202, "It is kept and will be done.", JobAnswer)
    | doc.problems(400, 404, 406, 408, 413, 415, 422, 500, 503),
    openapi_extra=doc.job_body(SubmittedJob, JobOptions),
)
async def submit_job(request: Request) -> Response:
    """Keep a batch of reports to draw or of radiographs to report; the work is done later."""
    jobs = _jobs(request)
    submission = await _read(request, jobs)
    may(request, _SCOPES[submission.task])
    key, fingerprint = getattr(request.state, "idempotency", ("", ""))
    job = await asyncio.to_thread(
        jobs.submit, submission, caller=caller_id(request), key=key, fingerprint=fingerprint
    )
    return await _answer(jobs, job, status=202, headers={"Location": f"{PATH}/{job.id}"})


@router.get(
    PATH,
    summary="Own jobs, newest first",
    response_class=JSONResponse,
    response_model=JobList,
    responses=doc.problems(404, 422),
)
async def list_jobs(
    request: Request, limit: Annotated[int, Query(ge=1, le=MOST)] = 100
) -> Response:
    """Jobs of this caller that are not removed yet."""
    jobs = _jobs(request)

    def work() -> JobList:
        found = jobs.jobs(caller=caller_id(request), limit=limit)
        return JobList(jobs=[_summary(jobs, job) for job in found])

    return Response((await asyncio.to_thread(work)).model_dump_json(), media_type=JSON)


@router.get(
    PATH + "/{job}",
    summary="State and progress of a job",
    response_class=JSONResponse,
    response_model=JobAnswer,
    responses=doc.problems(404, 422),
)
async def show_job(request: Request, job: str) -> Response:
    """A job with each of its items; a failed one with its problem."""
    jobs = _jobs(request)
    found = await asyncio.to_thread(jobs.job, job, caller=caller_id(request))
    return await _answer(jobs, found)


@router.get(
    PATH + "/{job}/results/{number}",
    summary="The answer to one item",
    responses=doc.said(200, "As the route of the task answers.") | doc.problems(404, 422),
)
async def show_result(request: Request, job: str, number: int) -> Response:
    """What `/generate-report` or `/generate-image` answered; the same for as long as it is kept."""
    jobs = _jobs(request)
    result = await asyncio.to_thread(jobs.result, job, number, caller=caller_id(request))
    return Response(result.body, media_type=result.media_type)


@router.delete(
    PATH + "/{job}",
    summary="Cancel or remove a job",
    status_code=204,
    response_description="It had ended, and is removed with its results.",
    responses=doc.said(202, "It ran, and is cancelled.", JobAnswer) | doc.problems(404, 422, 503),
)
async def end_job(request: Request, job: str) -> Response:
    """Cancel a job that runs (its results so far stay), or remove one that has ended."""
    jobs = _jobs(request)
    cancelled = await asyncio.to_thread(jobs.end, job, caller=caller_id(request))
    if cancelled is None:
        return Response(status_code=204)
    return await _answer(jobs, cancelled, status=202)


async def _read(request: Request, jobs: Jobs) -> Submission:
    if content_type(request) == FORM:
        files, options = await read_uploads(request, JobOptions, most=jobs.limits.max_items)
        fields = options.model_dump(exclude={"webhook"}, mode="json")
        return Submission(Task.REPORT, tuple(files), _each(fields, len(files)), options.webhook)
    body = (await read_json(request, SubmittedJob)).root
    return Submission(Task(body.task), _bodies(body), None, body.webhook)


def _bodies(body: ImagesJob | ReportsJob) -> tuple[bytes, ...]:
    """The items as request bodies, each with a seed: what is done again is drawn alike."""
    seeded = [item.model_copy(update={"seed": choose_seed(item.seed)}) for item in body.items]
    return tuple(item.model_dump_json().encode() for item in seeded)


def _each(fields: dict[str, object], items: int) -> tuple[dict[str, str], ...]:
    """The form fields of each file; where no seed is given, seeds follow one that is drawn."""
    given = fields.pop("seed")
    first = choose_seed(None) if given is None else given
    assert isinstance(first, int)
    step = 1 if given is None else 0
    texts = {name: str(value) for name, value in fields.items() if value is not None}
    return tuple({**texts, "seed": str((first + step * i) % SEEDS)} for i in range(items))


def _jobs(request: Request) -> Jobs:
    jobs = runtime_of(request).jobs
    if jobs is None:
        raise UnknownJob("Jobs are not configured.", reason="jobs-disabled")
    return jobs


async def _answer(
    jobs: Jobs, job: Job, *, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    answer = await asyncio.to_thread(_describe, jobs, job)
    return Response(
        answer.model_dump_json(), status_code=status, media_type=JSON, headers=headers or {}
    )


def _describe(jobs: Jobs, job: Job) -> JobAnswer:
    results = [jobs.store.result(job.id, number) for number in range(len(job.spans))]
    ended = jobs.store.finished(job.id) is not None
    items = [_item(number, result, ended=ended) for number, result in enumerate(results)]
    return JobAnswer(**_summary(jobs, job).model_dump(), items=items)


def _item(number: int, result: Result | None, *, ended: bool) -> ItemAnswer:
    if result is None:
        return ItemAnswer(number=number, state="cancelled" if ended else "pending")
    if result.is_good:
        return ItemAnswer(number=number, state="done")
    problem = Problem.model_validate(json.loads(result.body))
    return ItemAnswer(number=number, state="failed", problem=problem)


def _summary(jobs: Jobs, job: Job) -> JobSummary:
    finished = jobs.store.finished(job.id)
    state, when = finished or (JobState.RUNNING, None)
    return JobSummary(
        id=job.id,
        task=job.task,
        state=state,
        created=_time(job.created),
        finished=None if when is None else _time(when),
        expires=None if when is None else _time(when + jobs.limits.retention_seconds),
        progress=_progress(jobs.store, job, ended=when is not None),
        webhook=job.webhook,
    )


def _progress(store: JobStore, job: Job, *, ended: bool) -> Progress:
    good = [r.is_good for n in range(len(job.spans)) if (r := store.result(job.id, n))]
    items, done = len(job.spans), sum(good)
    pending = 0 if ended else items - len(good)
    return Progress(items=items, done=done, failed=len(good) - done, pending=pending)


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(round(seconds, 3), UTC)
