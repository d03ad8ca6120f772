"""Metrics with closed labels, logs without anybody's data."""

import json
import logging

import httpx
from tests.pictures import PATIENT, PATIENT_ID, dicom, png

from llmcxr_service.app import create_app
from llmcxr_service.observability import JsonFormatter


async def test_counts(gateway):
    await gateway.client.post("/generate-report?seed=1", content=png())
    await gateway.client.post("/generate-report", content=b"no picture")
    await gateway.client.get("/SMITH^JOHN")
    await gateway.client.request("SMITH", "/model")

    async def requests(route, method, status):
        return await gateway.metric(
            "llmcxr_requests_total", route=route, method=method, status=status
        )

    assert await requests("/generate-report", "POST", "200") == 1
    assert await requests("/generate-report", "POST", "415") == 1
    assert await requests("other", "GET", "404") == 1
    assert await requests("/model", "other", "405") == 1
    for outcome in ("answered", "refused"):
        labels = {"route": "/generate-report", "outcome": outcome}
        assert await gateway.metric("llmcxr_request_seconds_count", **labels) == 1
    assert await gateway.metric("llmcxr_reports_total", door="http") == 1
    for stage in ("decode", "preprocess", "encode", "prompt", "generate"):
        assert await gateway.metric("llmcxr_stage_seconds_count", stage=stage) >= 1
    assert await gateway.metric("llmcxr_rejections_total", reason="media-type") == 1
    assert await gateway.metric("llmcxr_micro_batch_size_count", kind="encode") == 1
    tokens = len(gateway.vllm.requests[0]["prompt"])
    assert await gateway.metric("llmcxr_tokens_total", direction="prompt") == tokens


async def test_metrics_route(gateway, checkpoint):
    response = await gateway.client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    digest = checkpoint.manifest.digest
    assert (
        f'llmcxr_model_info{{digest="{digest}",name="tiny",version="0.0.1"}} 1.0' in response.text
    )
    assert "llmcxr_vllm_up 1.0" in response.text


async def test_logs_and_metrics_hold_nothing_of_a_patient(gateway, caplog):
    caplog.set_level(logging.DEBUG)
    await gateway.client.post(
        "/generate-report",
        files={"file": (f"{PATIENT_ID}.dcm", dicom())},
        data={"indication": "Seen by Dr Who."},
    )
    await gateway.client.post("/generate-report?patient=4711-X", content=dicom())
    await gateway.client.post("/generate-image", json={"report": "Jane Roe", "mrn": "4711-X"})
    await gateway.client.get(f"/{PATIENT_ID}")
    ours = [r for r in caplog.records if r.name.startswith("llmcxr")]
    lines = "\n".join(JsonFormatter().format(record) for record in ours)
    metrics = (await gateway.client.get("/metrics")).text
    assert lines.count('"event": "request"') == 4
    for private in (PATIENT, PATIENT_ID, "Dr Who", "4711-X", "Jane Roe"):
        assert private not in lines
        assert private not in metrics


async def test_a_log_line(gateway, caplog):
    caplog.set_level(logging.INFO, "llmcxr_service")
    response = await gateway.client.post("/generate-image", json={"report": ""})
    record = next(r for r in caplog.records if r.getMessage() == "request")
    line = json.loads(JsonFormatter().format(record))
    assert (
        line.items()
        >= {
            "request_id": response.headers["x-request-id"],
            "route": "/generate-image",
            "method": "POST",
            "status": 422,
            "reason": "empty",
        }.items()
    )


async def test_what_nobody_foresaw_is_a_500_without_detail(make_settings, vllm, caplog):
    app = create_app(make_settings(), transport=httpx.ASGITransport(vllm.app()))

    @app.get("/broken")
    async def broken():
        raise RuntimeError(f"about {PATIENT}")

    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://gateway") as client,
    ):
        response = await client.get("/broken")
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json().keys() == {"type", "title", "status", "request_id"}
    lines = [JsonFormatter().format(r) for r in caplog.records if r.name.startswith("llmcxr")]
    assert any("RuntimeError" in line and "broken:" in line for line in lines)
    assert PATIENT not in "".join(lines)


def test_an_exceptions_message_is_not_logged():
    try:
        raise ValueError(PATIENT)
    except ValueError as error:
        record = logging.LogRecord("x", 40, "f", 1, "failed", (), (type(error), error, None))
    assert PATIENT not in JsonFormatter().format(record)


async def test_request_ids_are_our_own(gateway):
    response = await gateway.client.get("/health/live", headers={"X-Request-ID": PATIENT_ID})
    assert response.headers["x-request-id"] != PATIENT_ID
