"""Traces across services: `traceparent` (W3C Trace Context) taken in and passed on to vLLM.

Without a collector the caller's header goes along as it came. With one, each request is a span
of its own, whose attributes are the route's pattern, the method and the status, and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from contextvars import ContextVar
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Message, Receive, Scope, Send

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer

HEADER = "traceparent"
_PARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")

_current: ContextVar[str] = ContextVar("traceparent", default="")


def trace_headers() -> dict[str, str]:
    """The header for a call that is made for the request at hand; empty where it has no trace.

    `tracestate` and `baggage` are never passed on: anything may be in them.
    """
    parent = _current.get()
    return {HEADER: parent} if parent else {}


class Traces:
    """ASGI middleware.

    Args:
        app: what answers.
        tracer: makes spans; None passes the caller's header on.
        routes: the paths that exist; every other one is traced as `other`.
    """

    def __init__(
        self, app: ASGIApp, tracer: Tracer | None, routes: Callable[[], Collection[str]]
    ) -> None:
        self._app, self._tracer, self._routes = app, tracer, routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        parent = _parent(scope)
        if self._tracer is None:
            _current.set(parent)
            await self._app(scope, receive, send)
            return
        span = _begin(self._tracer, parent)
        _current.set(_header(span))
        status = 0

        async def traced(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, traced)
        finally:
            path = getattr(scope.get("route"), "path", scope["path"])
            route = path if path in self._routes() else "other"
            span.update_name(f"{scope['method']} {route}")
            span.set_attributes(
                {
                    "http.request.method": scope["method"],
                    "http.route": route,
                    "http.response.status_code": status,
                }
            )
            span.end()


def open_tracing(endpoint: str) -> TracerProvider:
    """Spans to a collector, by OTLP over HTTP; to be shut down at the end.

    Args:
        endpoint: its base URL, or with `/v1/traces`.
    """
    # Loaded only by those who trace.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    url = endpoint.rstrip("/")
    url = url if url.endswith("/v1/traces") else f"{url}/v1/traces"
    provider = TracerProvider(resource=Resource({"service.name": "llmcxr"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=url, timeout=5)))
    return provider


def _parent(scope: Scope) -> str:
    values = [value for name, value in scope["headers"] if name == HEADER.encode()]
    text = values[0].decode("latin-1") if len(values) == 1 else ""
    return text if _PARENT.fullmatch(text) else ""


def _begin(tracer: Tracer, parent: str) -> Span:
    from opentelemetry.trace import SpanKind
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier = {HEADER: parent} if parent else {}
    context = TraceContextTextMapPropagator().extract(carrier)
    return tracer.start_span("request", context=context, kind=SpanKind.SERVER)


def _header(span: Span) -> str:
    context = span.get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
