"""Errors -> RFC 9457 `application/problem+json`: one table, and nothing of the caller's in it."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Route

from llmcxr_models import errors as models
from llmcxr_service import errors as service
from llmcxr_service.errors import FieldProblem, InvalidRequest
from llmcxr_service.schemas import FieldError as FieldError
from llmcxr_service.schemas import Problem as Problem

MEDIA_TYPE = "application/problem+json"


class Kind(NamedTuple):
    """How one class of error is told to a client.

    Attributes:
        status: HTTP status.
        slug: the last part of the problem's `type`.
        title: the same words for every occurrence.
    """

    status: int
    slug: str
    title: str


KINDS: dict[type[models.CxrError], Kind] = {
    models.CxrError: Kind(500, "internal-error", "Internal error"),
    models.InvalidInput: Kind(422, "invalid-input", "Unusable input"),
    models.InvalidRadiograph: Kind(400, "invalid-radiograph", "Damaged radiograph"),
    models.UnsupportedMedia: Kind(415, "unsupported-media", "Unsupported media type"),
    models.UnsupportedRadiograph: Kind(422, "unsupported-radiograph", "Unsupported radiograph"),
    models.InvalidText: Kind(422, "invalid-text", "Unusable text"),
    models.InvalidImageTokens: Kind(502, "invalid-image-tokens", "The model drew no whole image"),
    models.CheckpointError: Kind(500, "internal-error", "Internal error"),
    models.InvalidCheckpoint: Kind(500, "internal-error", "Internal error"),
    models.DigestMismatch: Kind(500, "internal-error", "Internal error"),
    models.GenerationError: Kind(502, "generation-failed", "Generation failed"),
    models.GeneratorUnavailable: Kind(503, "generator-unavailable", "Language model unavailable"),
    models.GeneratorTimeout: Kind(504, "generator-timeout", "Language model timed out"),
    models.GeneratorRejected: Kind(502, "generator-rejected", "Language model refused"),
    models.GeneratorMisbehaved: Kind(502, "generator-misbehaved", "Language model misbehaved"),
    service.Unauthenticated: Kind(401, "unauthenticated", "Not authenticated"),
    service.Forbidden: Kind(403, "forbidden", "Not allowed"),
    service.RateLimited: Kind(429, "rate-limited", "Too many requests"),
    service.IssuerUnavailable: Kind(503, "issuer-unavailable", "Token issuer unavailable"),
    service.AccessError: Kind(500, "internal-error", "Internal error"),
    service.RequestError: Kind(400, "bad-request", "Bad request"),
    service.InvalidRequest: Kind(422, "invalid-request", "Invalid request"),
    service.NotAcceptable: Kind(406, "not-acceptable", "Not acceptable"),
    service.BodyTooLarge: Kind(413, "body-too-large", "Body too large"),
    service.BodyTooSlow: Kind(408, "body-too-slow", "Body too slow"),
    # nginx's status for a client that hung up; it is only ever seen in logs and metrics.
    service.ClientClosedRequest: Kind(499, "client-closed-request", "Client closed request"),
    service.MalformedMultipart: Kind(400, "malformed-multipart", "Malformed multipart body"),
    service.ReceivingDisabled: Kind(404, "receiving-disabled", "Receiving is not configured"),
    service.UnknownJob: Kind(404, "unknown-job", "No such job"),
    service.UnknownWebhook: Kind(422, "unknown-webhook", "Unknown webhook"),
    service.InvalidIdempotencyKey: Kind(400, "idempotency-key", "Unusable idempotency key"),
    service.IdempotencyMismatch: Kind(422, "idempotency-mismatch", "Key of another request"),
    service.IdempotencyConflict: Kind(409, "idempotency-conflict", "Request in work"),
    service.WebhooksError: Kind(500, "internal-error", "Internal error"),
    service.BatchError: Kind(500, "internal-error", "Internal error"),
    service.ModelAway: Kind(500, "internal-error", "Internal error"),
    service.AuditError: Kind(500, "internal-error", "Internal error"),
    service.UnknownDelivery: Kind(404, "unknown-delivery", "No such delivery"),
    service.NoJudge: Kind(422, "no-judge", "No judge to pick by"),
    service.NoGuidance: Kind(422, "no-guidance", "No tables to guide by"),
    service.UnknownSource: Kind(422, "unknown-source", "Unknown archive"),
    service.InstanceNotFound: Kind(422, "instance-not-found", "Instance not found"),
    service.SourceError: Kind(502, "source-failed", "Archive failed"),
    service.SourceUnavailable: Kind(502, "source-unavailable", "Archive unavailable"),
    service.SourceTimeout: Kind(504, "source-timeout", "Archive timed out"),
    service.SourceRefused: Kind(502, "source-refused", "Archive refused"),
    service.SourceMisbehaved: Kind(502, "source-misbehaved", "Archive misbehaved"),
    service.RulesError: Kind(500, "internal-error", "Internal error"),
    service.SourcesError: Kind(500, "internal-error", "Internal error"),
    service.CallersError: Kind(500, "internal-error", "Internal error"),
    service.ListenerError: Kind(500, "internal-error", "Internal error"),
    service.Overloaded: Kind(503, "overloaded", "Overloaded"),
    service.DeadlineExceeded: Kind(504, "deadline-exceeded", "Deadline exceeded"),
    service.ReceiverUnavailable: Kind(503, "queue-unavailable", "Not kept"),
    service.DecoderUnavailable: Kind(503, "decoder-unavailable", "Decoder unavailable"),
}


def problem_response(
    kind: Kind,
    request_id: str,
    *,
    detail: str | None = None,
    headers: Mapping[str, str] | None = None,
    **members: Any,  # noqa: ANN401 - the optional members of Problem
) -> JSONResponse:
    """An answer in RFC 9457 form."""
    problem = Problem(
        type=f"/problems/{kind.slug}",
        title=kind.title,
        status=kind.status,
        detail=detail,
        request_id=request_id,
        **members,
    )
    return JSONResponse(
        problem.model_dump(exclude_none=True),
        status_code=kind.status,
        headers=dict(headers or {}),
        media_type=MEDIA_TYPE,
    )


def error_response(error: models.CxrError, request_id: str) -> JSONResponse:
    """The answer for an error of the tree."""
    kind = KINDS[type(error)]
    if kind.status == HTTPStatus.INTERNAL_SERVER_ERROR:
        return problem_response(kind, request_id)
    headers = {}
    retry_after = getattr(error, "retry_after_seconds", None)
    if retry_after is not None:
        headers["Retry-After"] = str(retry_after)
    members: dict[str, Any] = {"reason": error.reason}
    if isinstance(error, InvalidRequest) and error.fields:
        members["errors"] = [FieldError(field=f.field, problem=f.problem) for f in error.fields]
    return problem_response(kind, request_id, detail=str(error), headers=headers, **members)


def internal_error_response(request_id: str) -> JSONResponse:
    """The answer for what nobody foresaw: no detail."""
    return problem_response(KINDS[models.CxrError], request_id)


def invalid_request(error: ValidationError | RequestValidationError) -> InvalidRequest:
    """Pydantic's findings without what was sent: neither values nor names that we do not know."""
    fields = tuple(
        FieldProblem(_field_name(found), _field_problem(found)) for found in error.errors()
    )
    return InvalidRequest("The request does not fit its schema.", fields=fields)


def install(app: FastAPI) -> None:
    """Replace the framework's error bodies by problems."""

    async def on_cxr_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, models.CxrError)
        request.state.rejection = error.reason
        return error_response(error, request.state.request_id)

    async def on_validation_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return await on_cxr_error(request, invalid_request(error))

    async def on_disconnect(request: Request, _: Exception) -> Response:
        return await on_cxr_error(request, service.ClientClosedRequest("The client went away."))

    async def on_http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        status = HTTPStatus(error.status_code)
        kind = Kind(status, status.phrase.lower().replace(" ", "-"), status.phrase)
        headers = dict(error.headers or {})
        if status is HTTPStatus.METHOD_NOT_ALLOWED:
            headers["Allow"] = _allowed(request)
        return problem_response(kind, request.state.request_id, headers=headers)

    app.add_exception_handler(models.CxrError, on_cxr_error)
    app.add_exception_handler(RequestValidationError, on_validation_error)
    app.add_exception_handler(ClientDisconnect, on_disconnect)
    app.add_exception_handler(HTTPException, on_http_error)


def _allowed(request: Request) -> str:
    """All methods of a path; the framework names those of the first route that has it."""
    routes = [route for route in request.app.routes if isinstance(route, Route)]
    of_path = [route for route in routes if route.matches(request.scope)[0] is not Match.NONE]
    return ", ".join(sorted({method for route in of_path for method in route.methods or ()}))


def _field_name(found: Mapping[str, Any]) -> str:
    location = [str(part) for part in found["loc"] if part not in ("body", "query")]
    if found["type"] == "extra_forbidden":
        location = location[:-1]
    return ".".join(location) or "body"


def _field_problem(found: Mapping[str, Any]) -> str:
    if found["type"] == "extra_forbidden":
        return "An unknown field is present."
    if found["type"] == "json_invalid":
        return "The body is not valid JSON."
    return f"{found['msg']}."
