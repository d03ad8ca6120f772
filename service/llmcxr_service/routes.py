"""The routes that use the models: read the request, ask `Inference`, write the answer."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from numpy.typing import NDArray
from pydantic import BaseModel
from starlette.responses import PlainTextResponse, Response

from llmcxr_models.observations import Observation
from llmcxr_models.prompt import clean_text
from llmcxr_models.report import Report
from llmcxr_service import documentation as doc
from llmcxr_service.accept import negotiate
from llmcxr_service.generator import Sampling
from llmcxr_service.hospital_answers import images_response, report_response, source_for
from llmcxr_service.inference import ImageAnswer, TextAnswer, choose_seed
from llmcxr_service.intake import (
    JSON,
    TEXT,
    content_type,
    read_json,
    read_text,
    read_upload,
)
from llmcxr_service.limits import until_disconnect
from llmcxr_service.outputs.formats import IMAGE_DICOM, IMAGES_DICOM, REPORT_MEDIA_TYPES
from llmcxr_service.pulling import read_radiograph
from llmcxr_service.rendering import provenance_headers, render_png, to_base64
from llmcxr_service.runtime import Runtime, runtime_of
from llmcxr_service.schemas import (
    Code,
    GeneratedImage,
    ImageOptions,
    ImageRequest,
    ImagesAnswer,
    InstructionAnswer,
    InstructionRequest,
    Model,
    NoOptions,
    QuestionAnswer,
    QuestionOptions,
    ReconstructionAnswer,
    ReportAnswer,
    ReportObservation,
    ReportOptions,
    ReportPull,
    TextOptions,
    Usage,
)

PNG = doc.PNG
_INDICATION = frozenset({"indication"})
_NONE: frozenset[str] = frozenset()
_ONE_IMAGE = (PNG, JSON, IMAGE_DICOM, IMAGES_DICOM)
# A PNG holds one image, and a DICOM file one radiograph.
_IMAGES = (JSON, IMAGES_DICOM)

router = APIRouter(default_response_class=Response)


@router.post(
    "/generate-report",
    summary="Radiograph to draft report",
    responses=doc.answer(ReportAnswer, TEXT, *REPORT_MEDIA_TYPES)
    | doc.problems(400, 406, 408, 413, 415, 422, 500, 502, 503, 504),
    openapi_extra=doc.or_pull_body(
        doc.upload_body(ReportOptions, private=_INDICATION, raw=True), ReportPull
    ),
)
async def generate_report(request: Request) -> Response:
    """Draft the report of one chest radiograph (DICOM, PNG or JPEG)."""
    runtime = runtime_of(request)
    media_type = negotiate(request.headers.get("accept"), (JSON, TEXT, *REPORT_MEDIA_TYPES))
    with runtime.admission.slot():
        data, options = await read_radiograph(request, runtime, _INDICATION)
        source = await source_for(runtime, data, media_type)
        indication = _text(runtime, options.indication, "indication", required=False)
        answer = await until_disconnect(
            request,
            runtime.inference.report(data, indication, _sampling(options), options.max_tokens),
        )
        if media_type in REPORT_MEDIA_TYPES:
            return await report_response(runtime, answer, source, media_type)
    report = Report.parse(answer.text)
    if media_type == TEXT:
        return _plain(runtime, report.text, answer)
    return _json(
        ReportAnswer(
            findings=report.findings,
            impression=report.impression,
            text=answer.text,
            preprocessing=runtime.checkpoint.manifest.preprocessing.name,
            observations=[observation_json(o) for o in answer.observations],
            **_drawn(runtime, answer),
        )
    )


@router.post(
    "/answer-question",
    summary="Radiograph and question to answer",
    responses=doc.answer(QuestionAnswer, TEXT)
    | doc.problems(400, 406, 408, 413, 415, 422, 500, 502, 503, 504),
    openapi_extra=doc.upload_body(QuestionOptions, private=_NONE, raw=False),
)
async def answer_question(request: Request) -> Response:
    """Answer a free question about one chest radiograph."""
    runtime = runtime_of(request)
    media_type = negotiate(request.headers.get("accept"), (JSON, TEXT))
    with runtime.admission.slot():
        data, options = await read_upload(request, QuestionOptions, raw=False)
        question = _text(runtime, options.question, "question")
        answer = await until_disconnect(
            request,
            runtime.inference.question(data, question, _sampling(options), options.max_tokens),
        )
    if media_type == TEXT:
        return _plain(runtime, answer.text, answer)
    preprocessing = runtime.checkpoint.manifest.preprocessing.name
    return _json(
        QuestionAnswer(answer=answer.text, preprocessing=preprocessing, **_drawn(runtime, answer))
    )


@router.post(
    "/instruct",
    summary="Instruction to response",
    responses=doc.answer(InstructionAnswer, TEXT)
    | doc.problems(406, 408, 413, 415, 422, 500, 502, 503, 504),
    openapi_extra=doc.json_body(InstructionRequest),
)
async def instruct(request: Request) -> Response:
    """Follow an instruction in natural language, without a radiograph."""
    runtime = runtime_of(request)
    media_type = negotiate(request.headers.get("accept"), (JSON, TEXT))
    with runtime.admission.slot():
        body = await read_json(request, InstructionRequest)
        instruction = _text(runtime, body.instruction, "instruction")
        text = _text(runtime, body.input, "input", required=False)
        answer = await until_disconnect(
            request,
            runtime.inference.instruction(instruction, text, _sampling(body), body.max_tokens),
        )
    if media_type == TEXT:
        return _plain(runtime, answer.text, answer)
    return _json(InstructionAnswer(response=answer.text, **_drawn(runtime, answer)))


@router.post(
    "/generate-image",
    summary="Report to synthetic radiograph",
    responses=doc.answer(ImagesAnswer, PNG, IMAGE_DICOM, IMAGES_DICOM)
    | doc.problems(406, 408, 413, 415, 422, 500, 502, 503, 504),
    openapi_extra=doc.json_or_text_body(ImageRequest, ImageOptions),
)
async def generate_image(request: Request) -> Response:
    """Draw synthetic chest radiographs of a report. For research use only."""
    runtime = runtime_of(request)
    accept = request.headers.get("accept")
    negotiate(accept, _ONE_IMAGE)
    with runtime.admission.slot():
        text, options = await _read_image_request(request)
        media_type = negotiate(accept, _ONE_IMAGE if options.n == 1 else _IMAGES)
        report = _text(runtime, text, "report")
        answer = await until_disconnect(
            request, runtime.inference.draw(report, _sampling(options), options.n)
        )
        if media_type in {IMAGE_DICOM, IMAGES_DICOM}:
            return await images_response(runtime, answer, report, media_type)
        pngs = [await _render(runtime, image.grey, seed=image.seed) for image in answer.images]
    if media_type == PNG:
        headers = provenance_headers(
            runtime.model,
            seed=answer.images[0].seed,
            timings_ms=answer.timings_ms,
            usage=answer.usage,
            warnings=answer.warnings,
        )
        return Response(pngs[0], media_type=PNG, headers=headers)
    images = [
        GeneratedImage(png_base64=to_base64(png), codes=image.codes, seed=image.seed)
        for png, image in zip(pngs, answer.images, strict=True)
    ]
    return _json(ImagesAnswer(images=images, **_drawn(runtime, answer)))


@router.post(
    "/reconstruct",
    summary="Radiograph to its VQ-GAN reconstruction",
    responses=doc.answer(ReconstructionAnswer, PNG)
    | doc.problems(400, 406, 408, 413, 415, 422, 500, 503),
    openapi_extra=doc.upload_body(NoOptions, private=_NONE, raw=True),
)
async def reconstruct(request: Request) -> Response:
    """Encode a radiograph to codes and back: what the model can see at all."""
    runtime = runtime_of(request)
    media_type = negotiate(request.headers.get("accept"), (PNG, JSON))
    preprocessing = runtime.checkpoint.manifest.preprocessing.name
    with runtime.admission.slot():
        data, _ = await read_upload(request, NoOptions)
        result = await until_disconnect(request, runtime.inference.reconstruct(data))
        png = await _render(runtime, result.grey)
    if media_type == PNG:
        headers = provenance_headers(
            runtime.model,
            seed=None,
            timings_ms=result.timings_ms,
            preprocessing=preprocessing,
            warnings=result.warnings,
        )
        headers["X-PSNR-dB"] = f"{result.quality.psnr_db:.3f}"
        headers["X-MS-SSIM"] = f"{result.quality.ms_ssim:.5f}"
        return Response(png, media_type=PNG, headers=headers)
    return _json(
        ReconstructionAnswer(
            png_base64=to_base64(png),
            codes=result.codes,
            psnr_db=result.quality.psnr_db,
            ms_ssim=result.quality.ms_ssim,
            model=_model(runtime),
            timings_ms=result.timings_ms,
            preprocessing=preprocessing,
            warnings=list(result.warnings),
        )
    )


async def _read_image_request(request: Request) -> tuple[str, ImageOptions]:
    if content_type(request) == TEXT:
        return await read_text(request, ImageOptions)
    body = await read_json(request, ImageRequest)
    return body.report, body


def _text(runtime: Runtime, text: str, what: str, *, required: bool = True) -> str:
    longest = runtime.settings.max_report_characters
    return clean_text(text, what=what, max_characters=longest, required=required)


def _sampling(options: TextOptions | ImageOptions) -> Sampling:
    return Sampling(choose_seed(options.seed), options.temperature, options.top_p)


async def _render(runtime: Runtime, grey: NDArray[np.uint8], *, seed: int | None = None) -> bytes:
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(
        runtime.executor, partial(render_png, grey, runtime.model, seed=seed)
    )


def _model(runtime: Runtime) -> Model:
    model = runtime.model
    return Model(name=model.name, version=model.version, digest=model.digest)


def observation_json(observation: Observation) -> ReportObservation:
    """One observation as the JSON answer has it."""
    finding, code = observation.finding, observation.finding.code
    return ReportObservation(
        name=finding.name,
        code=Code(value=code.value, scheme=code.scheme, meaning=code.meaning),
        probability=round(observation.probability, 6),
        mentioned=observation.mentioned,
    )


def _drawn(runtime: Runtime, answer: TextAnswer | ImageAnswer) -> dict[str, Any]:
    """The fields that every sampled answer has."""
    seed = answer.seed if isinstance(answer, TextAnswer) else answer.images[0].seed
    prompt_tokens, completion_tokens = answer.usage
    return {
        "model": _model(runtime),
        "seed": seed,
        "usage": Usage(prompt_tokens=prompt_tokens, completion_tokens=completion_tokens),
        "timings_ms": answer.timings_ms,
        "warnings": list(answer.warnings),
    }


def _json(answer: BaseModel) -> Response:
    return Response(answer.model_dump_json(), media_type=JSON)


def _plain(runtime: Runtime, text: str, answer: TextAnswer) -> Response:
    headers = provenance_headers(
        runtime.model,
        seed=answer.seed,
        timings_ms=answer.timings_ms,
        usage=answer.usage,
        warnings=answer.warnings,
    )
    return PlainTextResponse(text, headers=headers)
