"""traceparent: from the caller to vLLM, and spans to a collector."""

from contextlib import asynccontextmanager

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route
from tests.service.conftest import serve

from llmcxr_service.app import create_app

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"


class Listening:
    """vLLM's app, with its requests' headers noted."""

    def __init__(self, app):
        self.app, self.parents = app, []

    async def __call__(self, scope, receive, send):
        headers = dict(scope.get("headers", []))
        if scope["type"] == "http" and scope["path"] == "/v1/completions":
            self.parents.append(headers.get(b"traceparent", b"").decode())
            assert b"tracestate" not in headers
            assert b"baggage" not in headers
        await self.app(scope, receive, send)


@pytest.fixture
def listening(vllm):
    return Listening(vllm.app())


@pytest.fixture
def start(make_settings):
    @asynccontextmanager
    async def running(vllm_app, **changes):
        app = create_app(make_settings(**changes), transport=httpx.ASGITransport(vllm_app))
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(
                transport=httpx.ASGITransport(app), base_url="http://gateway"
            ) as client,
        ):
            yield client

    return running


@pytest.mark.parametrize(
    ("given", "passed"),
    [(PARENT, PARENT), ("", ""), ("Mrs Doe", ""), (PARENT.replace(TRACE, "0" * 32), "")],
)
async def test_the_callers_trace_goes_on(start, listening, given, passed):
    async with start(listening) as client:
        headers = {"tracestate": "a=Doe", "baggage": "patient=Doe"}
        headers |= {"traceparent": given} if given else {}
        answer = await client.post("/instruct", json={"instruction": "Say."}, headers=headers)
    assert answer.status_code == 200, answer.text
    assert listening.parents == [passed]


async def test_spans_go_to_a_collector(start, listening):
    exports = []

    async def collect(request):
        exports.append(ExportTraceServiceRequest.FromString(await request.body()))
        return Response()

    collector = Starlette(routes=[Route("/v1/traces", collect, methods=["POST"])])
    with serve(collector) as url:
        async with start(listening, otlp_endpoint=url) as client:
            headers = {"traceparent": PARENT}
            body = {"instruction": "Say to Mrs Doe."}
            await client.post("/instruct", json=body, headers=headers)
    spans = [
        span
        for export in exports
        for resource in export.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    (span,) = spans
    assert span.name == "POST /instruct"
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, SPAN)
    assert listening.parents == [f"00-{TRACE}-{span.span_id.hex()}-01"]
    assert "Doe" not in str(exports)
