"""The routes that tell how the service is: health, metrics, model."""

from __future__ import annotations

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import JSONResponse, Response

from llmcxr_service import documentation as doc
from llmcxr_service.problems import Kind, problem_response
from llmcxr_service.runtime import runtime_of
from llmcxr_service.schemas_status import Alive, ModelDescription, Ready

_NOT_READY = Kind(503, "not-ready", "Not ready")
_RETRY_AFTER_SECONDS = 5

router = APIRouter(default_response_class=Response)


@router.get(
    "/health/live",
    summary="The process runs",
    response_class=JSONResponse,
    response_model=Alive,
)
async def live() -> Response:
    """200 as long as the event loop turns."""
    return _json(Alive())


@router.get(
    "/health/ready",
    summary="Requests will be answered",
    response_class=JSONResponse,
    response_model=Ready,
    responses=doc.problems(503),
)
async def ready(request: Request) -> Response:
    """Weights are loaded, vLLM answers, and what it serves is this checkpoint; else 503 and why."""
    if request.app.state.draining.begun:
        reasons: tuple[str, ...] = ("The service is shutting down.",)
    else:
        reasons = await runtime_of(request).readiness.look()
    if not reasons:
        return _json(Ready())
    return problem_response(
        _NOT_READY,
        request.state.request_id,
        headers={"Retry-After": str(_RETRY_AFTER_SECONDS)},
        reasons=list(reasons),
    )


@router.get(
    "/metrics",
    summary="Prometheus metrics",
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def metrics(request: Request) -> Response:
    """Metrics in Prometheus' text format."""
    text = generate_latest(runtime_of(request).metrics.registry)
    return Response(text, headers={"Content-Type": CONTENT_TYPE_LATEST})


@router.get(
    "/model",
    summary="The checkpoint that is served",
    response_class=JSONResponse,
    response_model=ModelDescription,
)
async def model(request: Request) -> Response:
    """Name, version, digest, geometry and provenance of the checkpoint."""
    runtime = runtime_of(request)
    manifest = runtime.checkpoint.manifest
    return _json(
        ModelDescription(
            name=runtime.model.name,
            version=runtime.model.version,
            digest=runtime.model.digest,
            served_name=manifest.served_name,
            template=manifest.template,
            preprocessing=manifest.preprocessing.name,
            views=list(manifest.views),
            image_size=manifest.vqgan.image_size,
            image_tokens=manifest.vocabulary.image_length,
            codebook_size=manifest.vocabulary.codebook_size,
            max_model_len=manifest.max_model_len,
            judge=list(manifest.judge.findings) if manifest.judge else [],
            stated_from=manifest.stated_from,
            guidance=list(manifest.guidance.findings) if manifest.guidance else [],
            files=manifest.files,
            provenance=manifest.provenance,
        )
    )


def _json(answer: Alive | Ready | ModelDescription) -> Response:
    return Response(answer.model_dump_json(), media_type="application/json")
