"""JSON of jobs: what is submitted, and what is told of it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel

from llmcxr_service.jobs.store import JobState
from llmcxr_service.problems import Problem
from llmcxr_service.schemas import ImageRequest, ReportOptions, ReportPull

WebhookName = Annotated[
    str,
    Field(
        default="",
        pattern=r"^([a-z][a-z0-9-]{0,31})?$",
        description="Name of a configured webhook that is told of the end; never a URL.",
    ),
]


class _Submitted(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    webhook: WebhookName


class ImagesJob(_Submitted):
    """Reports to draw."""

    task: Literal["generate-image"]
    items: list[ImageRequest] = Field(min_length=1)


class ReportsJob(_Submitted):
    """Radiographs in an archive that the configuration names, to be reported."""

    task: Literal["generate-report"]
    items: list[ReportPull] = Field(min_length=1)


class SubmittedJob(RootModel[Annotated[ImagesJob | ReportsJob, Field(discriminator="task")]]):
    """A batch as JSON."""


class JobOptions(ReportOptions):
    """Form fields beside several radiographs; they hold for each."""

    webhook: WebhookName


class ItemAnswer(BaseModel):
    """One item of a job."""

    number: int = Field(description="From 0, in the order of the request.")
    state: Literal["pending", "done", "failed", "cancelled"]
    problem: Problem | None = Field(default=None, description="Why a failed one failed.")


class Progress(BaseModel):
    """How far a job is, in items."""

    items: int
    done: int
    failed: int
    pending: int


class JobSummary(BaseModel):
    """A job without its items."""

    id: str
    task: str
    state: JobState
    created: datetime
    finished: datetime | None
    expires: datetime | None = Field(description="When results are removed.")
    progress: Progress
    webhook: str


class JobAnswer(JobSummary):
    """A job."""

    items: list[ItemAnswer]


class JobList(BaseModel):
    """Jobs of the caller, newest first."""

    jobs: list[JobSummary]
