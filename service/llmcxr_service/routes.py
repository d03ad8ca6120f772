"""The routes that use the models: read the request, ask `Inference`, write the answer."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial

import numpy as np
from fastapi import APIRouter, Request
from numpy.typing import NDArray
from pydantic import BaseModel
from starlette.responses import PlainTextResponse, Response

from llmcxr_models.incremental_text import IncrementalSections, TrimmedText
from llmcxr_models.prompt import clean_text
from llmcxr_models.report import Report
from llmcxr_service import documentation as doc
from llmcxr_service.accept import negotiate
from llmcxr_service.answer_headers import image_headers, text_headers
from llmcxr_service.answer_json import (
    all_drawn,
    image_json,
    meta,
    reconstruction_json,
    report_json,
    written,
)
from llmcxr_service.answers import TextAnswer
from llmcxr_service.errors import FieldProblem, InvalidRequest
from llmcxr_service.event_stream import Events, event_stream
from llmcxr_service.generator import Sampling
from llmcxr_service.hospital_answers import images_response, report_response, source_for
from llmcxr_service.inference import SEEDS, choose_seed
from llmcxr_service.intake import (
    JSON,
    TEXT,
    content_type,
    read_json,
    read_text,
    read_upload,
)
from llmcxr_service.limits import until_disconnect
from llmcxr_service.listening import OnImageTokens, OnText
from llmcxr_service.outputs.formats import IMAGE_DICOM, IMAGES_DICOM, REPORT_MEDIA_TYPES
from llmcxr_service.pulling import read_radiograph
from llmcxr_service.rendering import HowDrawn, provenance_headers, render_png
from llmcxr_service.runtime import Runtime, runtime_of
from llmcxr_service.schemas import (
    ImageOptions,
    ImageRequest,
    ImagesAnswer,
    ImagesDone,
    InstructionAnswer,
    InstructionRequest,
    NoOptions,
    QuestionAnswer,
    QuestionOptions,
    ReconstructionAnswer,
    ReportAnswer,
    ReportOptions,
    ReportPull,
    TextOptions,
)
from llmcxr_service.server_sent_events import MEDIA_TYPE as EVENTS

PNG = doc.PNG
_INDICATION = frozenset({"indication"})
_NONE: frozenset[str] = frozenset()
_ONE_IMAGE = (PNG, JSON, EVENTS, IMAGE_DICOM, IMAGES_DICOM)
# A PNG holds one image, and a DICOM file one radiograph.
_IMAGES = (JSON, EVENTS, IMAGES_DICOM)
_PROGRESS_TOKENS = 8

router = APIRouter(default_response_class=Response)


@router.post(
    "/generate-report",
    summary="Radiograph to draft report",
    responses=doc.answer(ReportAnswer, TEXT, EVENTS, *REPORT_MEDIA_TYPES)
    | doc.problems(400, 406, 408, 413, 415, 422, 500, 502, 503, 504),
    openapi_extra=doc.or_pull_body(
        doc.upload_body(ReportOptions, private=_INDICATION, raw=True), ReportPull
    ),
)
async def generate_report(request: Request) -> Response:
    """Draft the report of one chest radiograph (DICOM, PNG or JPEG)."""
    offers = (JSON, TEXT, EVENTS, *REPORT_MEDIA_TYPES)
    media_type = negotiate(request.headers.get("accept"), offers)
    if media_type == EVENTS:
        return await event_stream(partial(_report, request, JSON))
    return await _report(request, media_type)


async def _report(request: Request, media_type: str, events: Events | None = None) -> Response:
    runtime = runtime_of(request)
    sections = events and IncrementalSections(events.text)
    with runtime.admission.slot():
        data, options = await read_radiograph(request, runtime, _INDICATION)
        source = await source_for(runtime, data, media_type)
        indication = _text(runtime, options.indication, "indication", required=False)
        sampling = _sampling(options)
        if events:
            _refuse_several(options.n)
            events.begin(meta(runtime, sampling, options, radiograph=True))
        work = runtime.inference.report(
            data,
            indication,
            sampling,
            options.max_tokens,
            n=options.n,
            on_text=sections.feed if sections else None,
        )
        answer = await until_disconnect(request, work)
        runtime.metrics.reports.labels(request.state.door).inc()
        if media_type in REPORT_MEDIA_TYPES:
            how = _how(answer, options, sampling)
            return await report_response(runtime, answer, how, source, media_type)
    if media_type == TEXT:
        headers = text_headers(
            runtime.model, answer, _how(answer, options, sampling), _preprocessing(runtime)
        )
        return PlainTextResponse(Report.parse(answer.text).text, headers=headers)
    answer_json = report_json(runtime, answer, options)
    if events and sections:
        sections.finish()
        events.send("observations", [o.model_dump() for o in answer_json.observations])
    return _json(answer_json)


@router.post(
    "/answer-question",
    summary="Radiograph and question to answer",
    responses=doc.answer(QuestionAnswer, TEXT, EVENTS)
    | doc.problems(400, 406, 408, 413, 415, 422, 500, 502, 503, 504),
    openapi_extra=doc.upload_body(QuestionOptions, private=_NONE, raw=False),
)
async def answer_question(request: Request) -> Response:
    """Answer a free question about one chest radiograph."""
    media_type = negotiate(request.headers.get("accept"), (JSON, TEXT, EVENTS))
    if media_type == EVENTS:
        return await event_stream(partial(_question, request, JSON))
    return await _question(request, media_type)


async def _question(request: Request, media_type: str, events: Events | None = None) -> Response:
    runtime = runtime_of(request)
    with runtime.admission.slot():
        data, options = await read_upload(request, QuestionOptions, raw=False)
        question = _text(runtime, options.question, "question")
        sampling = _sampling(options)
        if events:
            events.begin(meta(runtime, sampling, options, radiograph=True))
        work = runtime.inference.question(
            data, question, sampling, options.max_tokens, on_text=_trimmed(events)
        )
        answer = await until_disconnect(request, work)
    preprocessing = _preprocessing(runtime)
    if media_type == TEXT:
        how = _how(answer, options, sampling)
        headers = text_headers(runtime.model, answer, how, preprocessing)
        return PlainTextResponse(answer.text, headers=headers)
    fields = written(runtime, answer, options)
    return _json(QuestionAnswer(answer=answer.text, preprocessing=preprocessing, **fields))


@router.post(
    "/instruct",
    summary="Instruction to response",
    responses=doc.answer(InstructionAnswer, TEXT, EVENTS)
    | doc.problems(406, 408, 413, 415, 422, 500, 502, 503, 504),
    openapi_extra=doc.json_body(InstructionRequest),
)
async def instruct(request: Request) -> Response:
    """Follow an instruction in natural language, without a radiograph."""
    media_type = negotiate(request.headers.get("accept"), (JSON, TEXT, EVENTS))
    if media_type == EVENTS:
        return await event_stream(partial(_instruction, request, JSON))
    return await _instruction(request, media_type)


async def _instruction(request: Request, media_type: str, events: Events | None = None) -> Response:
    runtime = runtime_of(request)
    with runtime.admission.slot():
        body = await read_json(request, InstructionRequest)
        instruction = _text(runtime, body.instruction, "instruction")
        text = _text(runtime, body.input, "input", required=False)
        sampling = _sampling(body)
        if events:
            events.begin(meta(runtime, sampling, body, radiograph=False))
        work = runtime.inference.instruction(
            instruction, text, sampling, body.max_tokens, on_text=_trimmed(events)
        )
        answer = await until_disconnect(request, work)
    if media_type == TEXT:
        headers = text_headers(runtime.model, answer, _how(answer, body, sampling))
        return PlainTextResponse(answer.text, headers=headers)
    return _json(InstructionAnswer(response=answer.text, **written(runtime, answer, body)))


@router.post(
    "/generate-image",
    summary="Report to synthetic radiograph",
    responses=doc.answer(ImagesAnswer, PNG, EVENTS, IMAGE_DICOM, IMAGES_DICOM)
    | doc.problems(406, 408, 413, 415, 422, 500, 502, 503, 504),
    openapi_extra=doc.json_or_text_body(ImageRequest, ImageOptions),
)
async def generate_image(request: Request) -> Response:
    """Draw synthetic chest radiographs of a report. For research use only."""
    if negotiate(request.headers.get("accept"), _ONE_IMAGE) == EVENTS:
        return await event_stream(partial(_draw, request))
    return await _draw(request)


async def _draw(request: Request, events: Events | None = None) -> Response:
    runtime = runtime_of(request)
    with runtime.admission.slot():
        text, options = await _read_image_request(request)
        offers = _ONE_IMAGE if options.n == 1 else _IMAGES
        media_type = negotiate(request.headers.get("accept"), offers)
        report = _text(runtime, text, "report")
        guidance = await runtime.inference.guide(report, options.guidance)
        sampling = replace(_sampling(options), guidance=guidance)
        if events:
            events.begin(meta(runtime, sampling, options, radiograph=False))
        on_tokens = _progress(events, options.drawn, runtime) if events else None
        work = runtime.inference.draw(
            report, sampling, options.drawn, pick=options.best_of > 1, on_tokens=on_tokens
        )
        answer = await until_disconnect(request, work)
        how = [
            HowDrawn(replace(sampling, seed=image.seed), picked_from=image.picked_from)
            for image in answer.images
        ]
        if media_type in {IMAGE_DICOM, IMAGES_DICOM}:
            return await images_response(runtime, answer, how, report, media_type)
        pngs = [
            await _render(runtime, image.grey, each)
            for image, each in zip(answer.images, how, strict=True)
        ]
    if media_type == PNG:
        headers = image_headers(runtime.model, answer, how[0])
        return Response(pngs[0], media_type=PNG, headers=headers)
    fields = all_drawn(runtime, answer, options, guidance)
    images = [image_json(image, png) for png, image in zip(pngs, answer.images, strict=True)]
    if events is None:
        return _json(ImagesAnswer(images=images, **fields))
    for image in images:
        number = (image.seed - sampling.seed) % SEEDS  # as in the progress that was told
        events.send("image", {"image": number, **image.model_dump()})
    return _json(ImagesDone(**fields))


@router.post(
    "/reconstruct",
    summary="Radiograph to its VQ-GAN reconstruction",
    responses=doc.answer(ReconstructionAnswer, PNG)
    | doc.problems(400, 406, 408, 413, 415, 422, 500, 503, 504),
    openapi_extra=doc.upload_body(NoOptions, private=_NONE, raw=True),
)
async def reconstruct(request: Request) -> Response:
    """Encode a radiograph to codes and back: what the model can see at all."""
    runtime = runtime_of(request)
    media_type = negotiate(request.headers.get("accept"), (PNG, JSON))
    with runtime.admission.slot():
        data, _ = await read_upload(request, NoOptions)
        result = await until_disconnect(request, runtime.inference.reconstruct(data))
        png = await _render(runtime, result.grey)
    if media_type == PNG:
        headers = provenance_headers(
            runtime.model,
            how=None,
            timings_ms=result.timings_ms,
            preprocessing=_preprocessing(runtime),
            warnings=result.warnings,
        )
        headers["X-PSNR-dB"] = f"{result.quality.psnr_db:.3f}"
        headers["X-MS-SSIM"] = f"{result.quality.ms_ssim:.5f}"
        return Response(png, media_type=PNG, headers=headers)
    return _json(reconstruction_json(runtime, result, png))


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


def _how(answer: TextAnswer, options: TextOptions, sampling: Sampling) -> HowDrawn:
    # Of several drafts the answer has a seed of its own.
    return HowDrawn(replace(sampling, seed=answer.seed), options.max_tokens)


def _preprocessing(runtime: Runtime) -> str:
    return runtime.checkpoint.manifest.preprocessing.name


async def _render(runtime: Runtime, grey: NDArray[np.uint8], how: HowDrawn | None = None) -> bytes:
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(
        runtime.executor, partial(render_png, grey, runtime.model, how=how)
    )


def _refuse_several(n: int) -> None:
    if n > 1:
        problem = FieldProblem("n", "A stream of events has one draft.")
        raise InvalidRequest("The request does not fit its schema.", fields=(problem,))


def _trimmed(events: Events | None) -> OnText | None:
    return TrimmedText(partial(events.text, "text")).feed if events else None


def _progress(events: Events, n: int, runtime: Runtime) -> OnImageTokens:
    """Tells of every eighth token and the last; more would say no more."""
    tokens, whole = [0] * n, runtime.checkpoint.manifest.vocabulary.image_length

    def on_tokens(image: int, more: int) -> None:
        before, tokens[image] = tokens[image], tokens[image] + more
        if before // _PROGRESS_TOKENS < tokens[image] // _PROGRESS_TOKENS or tokens[image] == whole:
            events.send("progress", {"image": image, "tokens": tokens[image], "of": whole})

    return on_tokens


def _json(answer: BaseModel) -> Response:
    return Response(answer.model_dump_json(), media_type=JSON)
