"""What the client sends and how it reads the answers: once, for the client that waits and the
one that does not. It opens no connection.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from llmcxr_service.client_errors import UnreadableAnswer, problem_error, response_error
from llmcxr_service.schemas import (
    ImageRequest,
    ImagesAnswer,
    InstructionAnswer,
    InstructionRequest,
    NoOptions,
    Problem,
    QuestionAnswer,
    QuestionOptions,
    ReconstructionAnswer,
    ReportAnswer,
    ReportObservation,
    ReportOptions,
    StreamMeta,
)
from llmcxr_service.server_sent_events import MEDIA_TYPE, EventParser, ServerSentEvent

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class SectionText:
    """The next characters of a section of a report that is being written."""

    section: Literal["findings", "impression"]
    text: str


@dataclass(frozen=True)
class Observations:
    """What the model says of each finding that it was taught."""

    observations: list[ReportObservation]


ReportEvent = StreamMeta | SectionText | Observations | ReportAnswer
"""In this order; the whole report is the last."""


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request, and how its answer is read.

    Attributes:
        path: where.
        body: httpx's own arguments: `json`, or `files` and `data`.
        read: a successful answer's bytes to its value.
        accept: the media type that is asked for.
    """

    path: str
    body: dict[str, Any]
    read: Callable[[bytes], T]
    accept: str = "application/json"

    @property
    def request(self) -> dict[str, Any]:
        """Arguments of httpx's `stream` and `request`."""
        headers = {"Accept": self.accept}
        return {"method": "POST", "url": self.path, "headers": headers, **self.body}

    def answer(self, response: httpx.Response) -> T:
        """The value of an answer that was read whole.

        Raises:
            ServiceError: it is none.
        """
        if response.status_code != httpx.codes.OK:
            raise response_error(response)
        return self.read(response.content)


def report(radiograph: bytes, options: ReportOptions | None) -> Call[ReportAnswer]:
    """Draft the report of a DICOM, PNG or JPEG file."""
    body = _upload(radiograph, options or ReportOptions())
    return Call("/generate-report", body, _reader(ReportAnswer))


def report_stream(radiograph: bytes, options: ReportOptions | None) -> Call[ReportAnswer]:
    """The same, word by word."""
    body = _upload(radiograph, options or ReportOptions())
    return Call("/generate-report", body, _reader(ReportAnswer), MEDIA_TYPE)


def image(request: ImageRequest) -> Call[ImagesAnswer]:
    """Draw synthetic radiographs of a report."""
    return Call("/generate-image", _json(request), _reader(ImagesAnswer))


def question(radiograph: bytes, options: QuestionOptions) -> Call[QuestionAnswer]:
    """Ask about a radiograph."""
    return Call("/answer-question", _upload(radiograph, options), _reader(QuestionAnswer))


def instruct(request: InstructionRequest) -> Call[InstructionAnswer]:
    """Follow an instruction without a radiograph."""
    return Call("/instruct", _json(request), _reader(InstructionAnswer))


def reconstruct(radiograph: bytes) -> Call[ReconstructionAnswer]:
    """What the VQ-GAN keeps of a radiograph."""
    return Call("/reconstruct", _upload(radiograph, NoOptions()), _reader(ReconstructionAnswer))


class ReportEvents:
    """Bytes of a stream as they arrive -> what they tell of a report."""

    def __init__(self) -> None:
        self._parser = EventParser()
        self._ended = False

    def feed(self, chunk: bytes) -> list[ReportEvent]:
        """The events that `chunk` completes.

        Raises:
            ServiceError: the stream ends with a problem, or cannot be read.
        """
        try:
            events = [self._event(event) for event in self._parser.feed(chunk)]
        except ValueError as error:  # pydantic's is one
            raise UnreadableAnswer("The service's stream cannot be read.") from error
        return [event for event in events if event is not None]

    def finish(self) -> None:
        """Nothing follows.

        Raises:
            UnreadableAnswer: but something should.
        """
        if not self._ended:
            raise UnreadableAnswer("The service's stream has no end.")

    def _event(self, event: ServerSentEvent) -> ReportEvent | None:
        match event.name:
            case "meta":
                return StreamMeta.model_validate_json(event.data)
            case "findings" | "impression" as section:
                return SectionText(section, json.loads(event.data)["text"])
            case "observations":
                observations = json.loads(event.data)
                return Observations([ReportObservation.model_validate(o) for o in observations])
            case "done":
                self._ended = True
                return ReportAnswer.model_validate_json(event.data)
            case "error":
                retry_after = json.loads(event.data).get("retry_after_seconds")
                raise problem_error(Problem.model_validate_json(event.data), retry_after)
        return None  # of a later version


def _upload(radiograph: bytes, options: BaseModel) -> dict[str, Any]:
    # The file's own name may name a patient, so it does not travel.
    files = {"file": ("radiograph", radiograph, "application/octet-stream")}
    fields = options.model_dump(exclude_unset=True, exclude_none=True)
    return {"files": files, "data": {name: str(value) for name, value in fields.items()}}


def _json(request: BaseModel) -> dict[str, Any]:
    return {"json": request.model_dump(exclude_unset=True, exclude_none=True)}


def _reader(model: type[M]) -> Callable[[bytes], M]:
    def read(content: bytes) -> M:
        try:
            return model.model_validate_json(content)
        except ValidationError as error:
            raise UnreadableAnswer("The service's answer cannot be read.") from error

    return read
