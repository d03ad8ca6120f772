"""Clients of the REST service, one that waits and one for asyncio. They know HTTP and no model.

Requests and answers are those of `schemas`:

    with Client("https://cxr.hospital.example", key=read_key(Path("key"))) as client:
        report = client.report(radiograph, ReportOptions(indication="Cough", seed=7))
        print(report.findings, report.mean_log_probability)

All calls raise `ServiceError`, as one of its kinds in `client_errors`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from llmcxr_service import client_calls as calls
from llmcxr_service.client_calls import Call, Observations, ReportEvent, ReportEvents, SectionText
from llmcxr_service.client_errors import (
    InvalidCall,
    NotAllowed,
    ProblemError,
    ServiceAway,
    ServiceError,
    ServiceFailed,
    TryLater,
    UnreadableAnswer,
    response_error,
    transport_error,
)
from llmcxr_service.schemas import (
    ImageRequest,
    ImagesAnswer,
    InstructionAnswer,
    InstructionRequest,
    QuestionAnswer,
    QuestionOptions,
    ReconstructionAnswer,
    ReportAnswer,
    ReportOptions,
)

__all__ = [
    "AsyncClient",
    "Client",
    "InvalidCall",
    "NotAllowed",
    "Observations",
    "ProblemError",
    "ReportEvent",
    "SectionText",
    "ServiceAway",
    "ServiceError",
    "ServiceFailed",
    "TryLater",
    "UnreadableAnswer",
    "read_key",
]

T = TypeVar("T")


def read_key(file: Path) -> str:
    """The API key in a file.

    Raises:
        ServiceError: it cannot be read.
    """
    try:
        return file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        raise ServiceError("The file with the API key cannot be read.") from None


class Client:
    """Calls a running service, and waits for it.

    Args:
        url: where it listens.
        key: API key, or token; None where it asks for none.
        timeout_seconds: for one call; a CPU may draw an image for a minute.
        transport: how it is reached instead of over the network.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        timeout_seconds: float = 600.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._url = url.rstrip("/")
        self._http = httpx.Client(transport=transport, **_options(url, key, timeout_seconds))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.close()

    def report(self, radiograph: bytes, options: ReportOptions | None = None) -> ReportAnswer:
        """The draft report of a DICOM, PNG or JPEG file."""
        return self._do(calls.report(radiograph, options))

    def report_stream(
        self, radiograph: bytes, options: ReportOptions | None = None
    ) -> Iterator[ReportEvent]:
        """The same, section by section as the words come; the whole report is the last."""
        call, events = calls.report_stream(radiograph, options), ReportEvents()
        try:
            with self._http.stream(**call.request) as response:
                if response.status_code != httpx.codes.OK:
                    response.read()
                    raise response_error(response)
                for chunk in response.iter_bytes():
                    yield from events.feed(chunk)
        except httpx.HTTPError as error:
            raise transport_error(self._url, error) from error
        events.finish()

    def image(self, request: ImageRequest) -> ImagesAnswer:
        """Synthetic radiographs of a report."""
        return self._do(calls.image(request))

    def question(self, radiograph: bytes, options: QuestionOptions) -> QuestionAnswer:
        """The answer to a question about a radiograph."""
        return self._do(calls.question(radiograph, options))

    def instruct(self, request: InstructionRequest) -> InstructionAnswer:
        """The response to an instruction without a radiograph."""
        return self._do(calls.instruct(request))

    def reconstruct(self, radiograph: bytes) -> ReconstructionAnswer:
        """What the VQ-GAN keeps of a radiograph."""
        return self._do(calls.reconstruct(radiograph))

    def not_ready(self) -> list[str] | None:
        """Why the service is not ready, as sentences; empty where it is, None where it is away."""
        try:
            response = self._http.get("/health/ready", timeout=10.0)
        except httpx.HTTPError:
            return None
        if response.status_code == httpx.codes.OK:
            return []
        try:
            return list(response.json().get("reasons") or ["It does not say why."])
        except ValueError:
            return ["Something else listens there."]

    def _do(self, call: Call[T]) -> T:
        try:
            return call.answer(self._http.request(**call.request))
        except httpx.HTTPError as error:
            raise transport_error(self._url, error) from error


class AsyncClient:
    """The same for asyncio; its methods and arguments are those of `Client`."""

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        timeout_seconds: float = 600.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._url = url.rstrip("/")
        self._http = httpx.AsyncClient(transport=transport, **_options(url, key, timeout_seconds))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._http.aclose()

    async def report(self, radiograph: bytes, options: ReportOptions | None = None) -> ReportAnswer:
        """As `Client.report`."""
        return await self._do(calls.report(radiograph, options))

    async def report_stream(
        self, radiograph: bytes, options: ReportOptions | None = None
    ) -> AsyncIterator[ReportEvent]:
        """As `Client.report_stream`."""
        call, events = calls.report_stream(radiograph, options), ReportEvents()
        try:
            async with self._http.stream(**call.request) as response:
                if response.status_code != httpx.codes.OK:
                    await response.aread()
                    raise response_error(response)
                async for chunk in response.aiter_bytes():
                    for event in events.feed(chunk):
                        yield event
        except httpx.HTTPError as error:
            raise transport_error(self._url, error) from error
        events.finish()

    async def image(self, request: ImageRequest) -> ImagesAnswer:
        """As `Client.image`."""
        return await self._do(calls.image(request))

    async def question(self, radiograph: bytes, options: QuestionOptions) -> QuestionAnswer:
        """As `Client.question`."""
        return await self._do(calls.question(radiograph, options))

    async def instruct(self, request: InstructionRequest) -> InstructionAnswer:
        """As `Client.instruct`."""
        return await self._do(calls.instruct(request))

    async def reconstruct(self, radiograph: bytes) -> ReconstructionAnswer:
        """As `Client.reconstruct`."""
        return await self._do(calls.reconstruct(radiograph))

    async def _do(self, call: Call[T]) -> T:
        try:
            return call.answer(await self._http.request(**call.request))
        except httpx.HTTPError as error:
            raise transport_error(self._url, error) from error


def _options(url: str, key: str | None, timeout_seconds: float) -> dict[str, Any]:
    return {
        "base_url": url.rstrip("/"),
        "headers": {} if key is None else {"Authorization": f"Bearer {key}"},
        "timeout": timeout_seconds,
        # A proxy would see radiographs; who needs one names the service's address behind it.
        "trust_env": False,
    }
