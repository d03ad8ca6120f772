"""Answers in the forms that hospitals store: whose radiograph it is, and which bytes go back."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from datetime import datetime
from functools import partial

from starlette.responses import Response

from llmcxr_models.errors import InvalidRadiograph
from llmcxr_service.answer_headers import image_headers, text_headers
from llmcxr_service.answers import ImageAnswer, ReportAnswer
from llmcxr_service.draft import SyntheticRadiograph
from llmcxr_service.drafted import drafted
from llmcxr_service.outputs.formats import (
    DICOM,
    IMAGES_DICOM,
    REPORT_MEDIA_TYPES,
    check_possible,
    render,
)
from llmcxr_service.outputs.synthetic_capture import synthetic_capture
from llmcxr_service.receiving import Output
from llmcxr_service.rendering import HowDrawn
from llmcxr_service.runtime import Runtime
from llmcxr_service.source_instance import SourceInstance


async def source_for(runtime: Runtime, data: bytes, media_type: str) -> SourceInstance | None:
    """Whose and which radiograph it is; None for the forms that do not need to know.

    Asked before the model is: what cannot be answered shall cost nothing.

    Raises:
        UnsupportedRadiograph: `no-identity`, and the form is filed under one.
        NotAcceptable: the checkpoint gives no probabilities, and the form is made of them.
        InvalidRadiograph: the file is damaged.
    """
    output = REPORT_MEDIA_TYPES.get(media_type)
    if output is None:
        return None
    source = await _identify(runtime, data)
    check_possible(output, source, observing=bool(runtime.checkpoint.manifest.findings))
    return source


async def report_response(
    runtime: Runtime,
    answer: ReportAnswer,
    how: HowDrawn,
    source: SourceInstance | None,
    media_type: str,
) -> Response:
    """A drafted report in one of `REPORT_MEDIA_TYPES`; raises as `formats.render` does."""
    preprocessing = runtime.checkpoint.manifest.preprocessing.name
    draft = drafted(answer, how, model=runtime.model, preprocessing=preprocessing, source=source)
    output = REPORT_MEDIA_TYPES[media_type]
    loop = asyncio.get_running_loop()
    body = await loop.run_in_executor(runtime.executor, partial(render, draft, output))
    headers = text_headers(runtime.model, answer, how, preprocessing)
    charset = "; charset=utf-8" if output is Output.HL7 else ""
    return Response(body, media_type=media_type + charset, headers=headers)


async def images_response(
    runtime: Runtime, answer: ImageAnswer, how: Sequence[HowDrawn], prompt: str, media_type: str
) -> Response:
    """Drawn images as DICOM: one as it is, or any number as parts (RFC 2387).

    Args:
        runtime: the parts of the service.
        answer: the images.
        how: each of them was drawn.
        prompt: what they were drawn from.
        media_type: `IMAGE_DICOM` or `IMAGES_DICOM`.
    """
    created = datetime.now().astimezone()
    drawn = [
        SyntheticRadiograph(image.grey, prompt, runtime.model, each, created)
        for image, each in zip(answer.images, how, strict=True)
    ]
    loop = asyncio.get_running_loop()
    files = [
        await loop.run_in_executor(runtime.executor, partial(synthetic_capture, image))
        for image in drawn
    ]
    headers = image_headers(runtime.model, answer, how[0])
    if media_type != IMAGES_DICOM:
        return Response(files[0], media_type=media_type, headers=headers)
    boundary = secrets.token_hex(16)
    body = _related(files, boundary)
    return Response(body, media_type=f"{media_type}; boundary={boundary}", headers=headers)


async def _identify(runtime: Runtime, data: bytes) -> SourceInstance | None:
    if data[128:132] != b"DICM":
        return None
    try:
        return await runtime.decoder.identify(data)
    except InvalidRadiograph as error:
        if error.reason != "header":
            raise
        return None  # sound, but without UIDs


def _related(files: Sequence[bytes], boundary: str) -> bytes:
    head = f"--{boundary}\r\nContent-Type: {DICOM}\r\n\r\n".encode()
    parts = [head + data + b"\r\n" for data in files]
    return b"".join(parts) + f"--{boundary}--\r\n".encode()
