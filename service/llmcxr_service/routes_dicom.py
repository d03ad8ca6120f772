"""STOW-RS (PS3.18, 10.5): posted instances go to the reception, one after the other."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

from fastapi import APIRouter, Request
from starlette.responses import Response

from llmcxr_models.errors import UnsupportedMedia
from llmcxr_service import documentation as doc
from llmcxr_service.accept import negotiate
from llmcxr_service.errors import (
    FieldProblem,
    InvalidRequest,
    MalformedMultipart,
    ReceiverUnavailable,
    ReceivingDisabled,
)
from llmcxr_service.intake import JSON
from llmcxr_service.intake_dicom import multipart_related
from llmcxr_service.intake_dicom.multipart_related import MultipartError, PartType
from llmcxr_service.intake_dicom.reception import Announced, Outcome, Reception, Verdict
from llmcxr_service.intake_dicom.stow import describe, status_of
from llmcxr_service.receiving import Origin
from llmcxr_service.runtime import runtime_of
from llmcxr_service.uids import is_uid

PREFIX = "/dicom-web/"
DICOM = "application/dicom"
DICOM_JSON = "application/dicom+json"
_MAX_PARTS = 500
"""No study of radiographs has so many images; a million tiny parts are an attack."""

router = APIRouter(default_response_class=Response)
_ANSWERS = doc.stored(DICOM_JSON, JSON) | doc.problems(400, 404, 406, 408, 413, 415, 422, 500, 503)
_BODY = doc.multipart_related_body(DICOM)


@router.post(
    PREFIX + "studies",
    summary="STOW-RS: instances to be worked on",
    responses=_ANSWERS,
    openapi_extra=_BODY,
)
async def store(request: Request) -> Response:
    """Take instances in; the configured rules say what becomes of each."""
    return await _store(request, Announced())


@router.post(
    PREFIX + "studies/{study}",
    summary="STOW-RS: instances of one study",
    responses=_ANSWERS,
    openapi_extra=_BODY,
)
async def store_in_study(request: Request, study: str) -> Response:
    """As without a study; instances of another one are refused."""
    if not is_uid(study):
        problem = FieldProblem("study", "This is no DICOM UID.")
        raise InvalidRequest("The URL names no study.", fields=(problem,))
    return await _store(request, Announced(study_instance_uid=study))


async def _store(request: Request, announced: Announced) -> Response:
    runtime = runtime_of(request)
    media_type = negotiate(request.headers.get("accept"), (DICOM_JSON, JSON))
    if runtime.reception is None:
        raise ReceivingDisabled("This service is not set up to receive instances.")
    with runtime.admission.slot():
        try:
            outcomes = [o async for o in _take_parts(request, runtime.reception, announced)]
        except PartType:
            wanted = f'{multipart_related.MEDIA_TYPE}; type="{DICOM}"'
            raise UnsupportedMedia(f"Send {wanted}.") from None
        except MultipartError:
            raise MalformedMultipart("The multipart body is malformed.") from None
    if not outcomes:
        raise MalformedMultipart("The body holds no instance.", reason="empty")
    if all(outcome.verdict is Verdict.NOT_QUEUED for outcome in outcomes):
        raise ReceiverUnavailable("No instance could be kept.")
    body = json.dumps(describe(outcomes))
    return Response(body, status_code=status_of(outcomes), media_type=media_type)


async def _take_parts(
    request: Request, reception: Reception, announced: Announced
) -> AsyncIterator[Outcome]:
    boundary = multipart_related.parse_boundary(request.headers.get("content-type", ""), DICOM)
    parts = multipart_related.read_parts(
        request.stream(), boundary, max_part_bytes=reception.max_bytes
    )
    number = 0
    async for part in parts:
        number += 1
        if number > _MAX_PARTS:
            raise MalformedMultipart("The body has too many parts.", reason="parts")
        if part.media_type not in ("", DICOM):
            raise PartType
        if part.too_large:
            yield reception.refuse_too_large(Origin.STOW)
        else:
            yield await reception.take(part.data, Origin.STOW, "", announced)
