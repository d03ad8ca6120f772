"""Metrics, structured logs and request ids. Labels and log fields come from closed sets only."""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
import traceback
import uuid
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import TextIO

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llmcxr_service.answer_measures import AnswerMeasures
from llmcxr_service.problems import internal_error_response

LOGGER = logging.getLogger(__name__)

_CALLERS_OWN = frozenset({"client-closed", "slow-reader"})
"""Why a stream ends early that did not fail."""
_METHODS = frozenset({"GET", "POST", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250)


class Door(StrEnum):
    """How a radiograph came to be reported."""

    HTTP = "http"
    JOB = "job"
    QUEUE = "queue"
    """Received by STOW-RS or DIMSE; `llmcxr_received_instances_total` says which."""


class Metrics:
    """All metrics of one application, in a registry of its own."""

    def __init__(self) -> None:
        # A series more for each counter, of which Prometheus makes nothing.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        registry = self.registry
        self.requests = Counter(
            "llmcxr_requests",
            "Requests answered.",
            ["route", "method", "status"],
            registry=registry,
        )
        self.request_seconds = Histogram(
            "llmcxr_request_seconds",
            "Wall time of a request, seconds.",
            ["route", "outcome"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.stage_seconds = Histogram(
            "llmcxr_stage_seconds",
            "Wall time of one stage of a request, seconds.",
            ["stage"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.stage_items = Gauge(
            "llmcxr_stage_items",
            "What is in a stage now, waiting for its worker or worked on.",
            ["stage"],
            registry=registry,
        )
        self.wait_seconds = Histogram(
            "llmcxr_wait_seconds",
            "Time that a file waited for a decode worker, or an image for the VQ-GAN, seconds.",
            ["stage"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.micro_batch_size = Histogram(
            "llmcxr_micro_batch_size",
            "Images that the VQ-GAN took at once.",
            ["kind"],
            buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=registry,
        )
        self.pending = Gauge("llmcxr_pending_requests", "Requests in work.", registry=registry)
        self.pending_limit = Gauge(
            "llmcxr_pending_limit", "Most requests that may be in work.", registry=registry
        )
        self.rejections = Counter(
            "llmcxr_rejections", "Requests not served, by cause.", ["reason"], registry=registry
        )
        self.tokens = Counter(
            "llmcxr_tokens", "Tokens to and from the model.", ["direction"], registry=registry
        )
        self.reports = Counter(
            "llmcxr_reports",
            "Reports drafted, by the door that the radiograph came through.",
            ["door"],
            registry=registry,
        )
        self.image_answers = Counter(
            "llmcxr_image_answers",
            "Answers that should have been an image, whatever they were.",
            registry=registry,
        )
        self.image_tokens_invalid = Counter(
            "llmcxr_image_tokens_invalid",
            "Answers that should have been an image and were not.",
            registry=registry,
        )
        self.decode_restarts = Counter(
            "llmcxr_decode_worker_restarts",
            "Decode workers replaced before their time, by cause.",
            ["reason"],
            registry=registry,
        )
        self.model_info = Gauge(
            "llmcxr_model_info",
            "The checkpoint that is served.",
            ["name", "version", "digest"],
            registry=registry,
        )
        self.received = Counter(
            "llmcxr_received_instances",
            "DICOM instances that were sent here, by what became of them.",
            ["origin", "verdict"],
            registry=registry,
        )
        self.associations = Counter(
            "llmcxr_dicom_associations",
            "What happened to connections to the DIMSE receiver.",
            ["event"],
            registry=registry,
        )
        self.audit_failures = Counter(
            "llmcxr_audit_failures",
            "Audit events that were lost, and times that the log could not be brought to the disk.",
            ["step"],
            registry=registry,
        )
        self.vllm_up = Gauge(
            "llmcxr_vllm_up", "Whether a vLLM answers as it should.", registry=registry
        )
        # Replicas are named by their place in the settings: a URL would tell of the network.
        self.vllm_replica_up = Gauge(
            "llmcxr_vllm_replica_up",
            "Whether this vLLM answers as it should.",
            ["replica"],
            registry=registry,
        )
        self.vllm_running = Gauge(
            "llmcxr_vllm_running_calls",
            "Calls to this vLLM that are under way.",
            ["replica"],
            registry=registry,
        )
        self.vllm_circuit_open = Gauge(
            "llmcxr_vllm_circuit_open",
            "1: this vLLM failed again and again, and is tried by single calls only.",
            ["replica"],
            registry=registry,
        )
        self.vllm_calls = Counter(
            "llmcxr_vllm_calls",
            "Calls to vLLM, by what became of them.",
            ["replica", "outcome"],
            registry=registry,
        )
        self.vllm_retries = Counter(
            "llmcxr_vllm_retries",
            "Calls that were made again, because the model had not worked on them.",
            registry=registry,
        )
        self.answers = AnswerMeasures(registry)
        ProcessCollector(registry=registry)
        self._show_zeros()

    def _show_zeros(self) -> None:
        """An alert sees that something happened once only where there was a 0 before it."""
        for door in Door:
            self.reports.labels(door.value)
        for step in ("append", "sync"):
            self.audit_failures.labels(step)


class Stopwatch:
    """Wall times of one request's stages.

    Args:
        metrics: told every stage.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._started = time.perf_counter()
        self._stages: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a block; a failed one counts too."""
        started = time.perf_counter()
        items = self._metrics.stage_items.labels(name)
        items.inc()
        try:
            yield
        finally:
            items.dec()
            seconds = time.perf_counter() - started
            self._stages[name] = self._stages.get(name, 0.0) + seconds
            self._metrics.stage_seconds.labels(name).observe(seconds)

    def timings_ms(self) -> dict[str, float]:
        """Milliseconds of each stage so far, and `total` since the beginning."""
        stages = {**self._stages, "total": time.perf_counter() - self._started}
        return {name: round(seconds * 1000.0, 3) for name, seconds in stages.items()}


class Observability:
    """ASGI middleware, outermost: request id, metrics, one log line, and the last catch.

    Args:
        app: what is observed.
        metrics: where to count.
        routes: the paths that exist; every other path is counted as `other`.
    """

    def __init__(
        self, app: ASGIApp, metrics: Metrics, routes: Callable[[], Collection[str]]
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # Never the caller's own id: it may be an accession number.
        request_id = uuid.uuid4().hex
        scope.setdefault("state", {}).update(request_id=request_id, door=Door.HTTP.value)
        status = 0
        broken = False
        started = time.perf_counter()

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message["headers"],
                    (b"x-request-id", request_id.encode()),
                    (b"x-content-type-options", b"nosniff"),
                    (b"cache-control", b"no-store"),
                ]
            await send(message)

        try:
            await self._app(scope, receive, observed)
        except Exception as error:
            _log_unforeseen(error, request_id)
            broken = True
            if status == 0:
                await internal_error_response(request_id)(scope, receive, observed)
        finally:
            outcome = "failed" if broken else _outcome(status, scope["state"].get("rejection"))
            self._record(scope, status, outcome, time.perf_counter() - started)

    def _record(self, scope: Scope, status: int, outcome: str, seconds: float) -> None:
        # A path with parameters is counted by its pattern, never by what stands in it.
        path = getattr(scope.get("route"), "path", scope["path"])
        route = path if path in self._routes() else "other"
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._metrics.requests.labels(route, method, str(status)).inc()
        self._metrics.request_seconds.labels(route, outcome).observe(seconds)
        rejection = scope["state"].get("rejection")
        if rejection is not None:
            self._metrics.rejections.labels(rejection).inc()
        LOGGER.info(
            "request",
            extra={
                "fields": {
                    "request_id": scope["state"]["request_id"],
                    "route": route,
                    "method": method,
                    "status": status,
                    "reason": rejection,
                    "ms": round(seconds * 1000.0, 1),
                }
            },
        )


def _outcome(status: int, rejection: str | None) -> str:
    """Whose failure it was, if it was one; a stream can fail after its status went out."""
    if status >= 500 or status == 0:
        return "failed"
    if status >= 400 or rejection in _CALLERS_OWN:
        return "refused"
    return "answered" if rejection is None else "failed"


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """A record as JSON; of an exception only its class, since messages may quote input."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = record.exc_info[0].__name__
        return json.dumps({key: value for key, value in line.items() if value is not None})


def configure_logging(level: str) -> None:
    """Send the service's log, and uvicorn's without its access log, to stderr as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    for name in ("llmcxr_service", "uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers = [handler] if name != "uvicorn.error" else []
        logger.propagate = name == "uvicorn.error"
        logger.setLevel(level)
    # It writes what it finds wrong in a form to stderr, if nobody listens.
    forms = logging.getLogger("python_multipart")
    forms.handlers, forms.propagate = [logging.NullHandler()], False
    # Its lines hold query strings and clients' addresses.
    logging.getLogger("uvicorn.access").disabled = True
    # Libraries quote data in warnings, and what ends a thread may quote it too.
    warnings.showwarning = _log_warning
    threading.excepthook = _log_thread_end


def _log_warning(
    message: Warning | str,  # noqa: ARG001 - it may quote input
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,  # noqa: ARG001
    line: str | None = None,  # noqa: ARG001
) -> None:
    where = f"{Path(filename).stem}:{lineno}"
    LOGGER.warning("warning", extra={"fields": {"category": category.__name__, "where": where}})


def _log_thread_end(ended: threading.ExceptHookArgs) -> None:
    fields = {"exception": ended.exc_type.__name__, "where": _frames(ended.exc_traceback)}
    LOGGER.error("a thread ended", extra={"fields": fields})


def _log_unforeseen(error: Exception, request_id: str) -> None:
    """Where it happened and of what class; never the message, which may quote input."""
    fields = {
        "request_id": request_id,
        "exception": type(error).__name__,
        "where": _frames(error.__traceback__),
    }
    LOGGER.error("unforeseen", extra={"fields": fields})


def _frames(raised: TracebackType | None) -> list[str]:
    return [f"{frame.name}:{frame.lineno}" for frame in traceback.extract_tb(raised)[-8:]]
