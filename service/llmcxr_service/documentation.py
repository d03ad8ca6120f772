"""What openapi.json says beyond the routes' own types: bodies, problems, picture answers."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from llmcxr_service import deadline
from llmcxr_service.access.documenting import add_access
from llmcxr_service.intake import FORM, JSON, RAW_MEDIA_TYPES, TEXT
from llmcxr_service.problems import MEDIA_TYPE, Problem
from llmcxr_service.schemas import (
    ImageProgress,
    ImagesAnswer,
    ImagesDone,
    ReportObservation,
    StreamedImage,
    StreamMeta,
    TextDelta,
)
from llmcxr_service.server_sent_events import MEDIA_TYPE as EVENTS

PNG = "image/png"

STREAMED: tuple[type[BaseModel], ...] = (
    StreamMeta,
    TextDelta,
    ImageProgress,
    StreamedImage,
    ImagesDone,
    ReportObservation,
)
_EVENTS = (
    "One of the Server-Sent Events: `meta` (StreamMeta), then parts of the answer (`findings`,"
    " `impression`, `text`: TextDelta; `observations`; `progress`: ImageProgress; `image`:"
    " StreamedImage), then `done` (the JSON answer, for images ImagesDone) or `error` (Problem)."
    " Comments keep the connection open."
)
_LAST: dict[type[BaseModel], type[BaseModel]] = {ImagesAnswer: ImagesDone}
"""What a stream ends with where it is not the JSON answer."""
_BINARY = {"type": "string", "format": "binary"}
_ERRORS = {
    400: "The radiograph is damaged, or there is none; or the idempotency key is unusable.",
    404: "The service is not set up for this.",
    406: "None of the accepted media types can be answered.",
    408: "The body took too long to arrive.",
    409: "A request with the same idempotency key is in work; see Retry-After.",
    413: "The body is over the limit.",
    415: "The body is of a media type that is not accepted.",
    422: "The request, the text or the radiograph cannot be used.",
    500: "An internal error.",
    502: "The language model refused, failed or drew no whole image.",
    503: "Overloaded, or the language model is not ready; see Retry-After.",
    504: "The language model did not answer in time, or the caller's `Request-Timeout` is over.",
}

_DEADLINE = {
    "name": deadline.HEADER,
    "in": "header",
    "required": False,
    "description": "Seconds after which the answer is of no use; the work is cancelled then.",
    "schema": {
        "type": "number",
        "exclusiveMinimum": 0,
        "maximum": deadline.LONGEST_SECONDS,
        "multipleOf": 0.001,
    },
}

Documentation = dict[int | str, dict[str, Any]]


def problems(*statuses: int) -> Documentation:
    """Problem answers, for a route's `responses`."""
    return {status: {"model": Problem, "description": _ERRORS[status]} for status in statuses}


def answer(model: type[BaseModel], *also: str) -> Documentation:
    """A JSON answer that may also be had as other media types."""
    content = {media_type: {"schema": _schema(media_type, model)} for media_type in also}
    return {200: {"model": model, "description": "The answer.", "content": content}}


def said(status: int, description: str, model: type[BaseModel] | None = None) -> Documentation:
    """An answer in JSON, of any shape where no model is given."""
    if model is not None:
        return {status: {"model": model, "description": description}}
    content = {JSON: {"schema": {"type": "object"}}}
    return {status: {"description": description, "content": content}}


def _schema(media_type: str, model: type[BaseModel]) -> dict[str, Any]:
    if media_type.startswith("application/fhir+json"):
        return {"type": "object", "description": "FHIR R4B Bundle, a transaction."}
    if media_type == EVENTS:
        return _event(_LAST.get(model, model))
    if media_type == PNG or "application/dicom" in media_type:
        return _BINARY
    return {"type": "string"}


def _event(last: type[BaseModel]) -> dict[str, Any]:
    """One event of a stream, by its name."""
    observations = {"type": "array", "items": _reference(ReportObservation)}
    data = {
        "meta": _reference(StreamMeta),
        **dict.fromkeys(("findings", "impression", "text"), _reference(TextDelta)),
        "observations": observations,
        "progress": _reference(ImageProgress),
        "image": _reference(StreamedImage),
        "done": _reference(last),
        "error": _reference(Problem),
    }
    return {
        "type": "object",
        "description": _EVENTS,
        "required": ["event", "data"],
        "oneOf": [
            {
                "properties": {
                    "event": {"const": name},
                    "data": {"type": "string", "contentMediaType": JSON, "contentSchema": schema},
                }
            }
            for name, schema in data.items()
        ],
    }


def _reference(model: type[BaseModel]) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def upload_body(options: type[BaseModel], *, private: frozenset[str], raw: bool) -> dict[str, Any]:
    """A radiograph as form field `file` or as the body, for a route's `openapi_extra`."""
    schema = _inline(options)
    form = {
        "type": "object",
        "additionalProperties": False,
        "properties": {"file": _BINARY, **schema["properties"]},
        "required": ["file", *schema.get("required", [])],
    }
    content: dict[str, Any] = {FORM: {"schema": form}}
    if not raw:
        return {"requestBody": {"required": True, "content": content}}
    content |= {media_type: {"schema": _BINARY} for media_type in RAW_MEDIA_TYPES}
    return {
        "requestBody": {"required": True, "content": content},
        "parameters": _parameters(options, private, "With the file as the body."),
    }


def or_pull_body(body: dict[str, Any], pull: type[BaseModel]) -> dict[str, Any]:
    """The same body, or a JSON body that names an instance in an archive."""
    schema = pull.model_json_schema()
    definitions = schema.pop("$defs")
    for name, value in schema["properties"].items():
        if "$ref" in value:
            schema["properties"][name] = definitions[value["$ref"].rsplit("/", 1)[1]]
    body["requestBody"]["content"][JSON] = {"schema": schema}
    return body


def job_body(submitted: type[BaseModel], options: type[BaseModel]) -> dict[str, Any]:
    """A batch as JSON, or several files with options that hold for each."""
    schema = _inline(options)
    files = {"type": "array", "items": _BINARY, "minItems": 1}
    form = {
        "type": "object",
        "additionalProperties": False,
        "properties": {"file": files, **schema["properties"]},
        "required": ["file"],
    }
    batch = submitted.model_json_schema()
    content = {JSON: {"schema": _resolved(batch, batch.pop("$defs"))}, FORM: {"schema": form}}
    return {"requestBody": {"required": True, "content": content}}


def _resolved(schema: Any, definitions: dict[str, Any]) -> Any:  # noqa: ANN401 - any JSON
    """A schema with what it refers to in place; references would need a home in the document."""
    if isinstance(schema, list):
        return [_resolved(each, definitions) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _resolved(definitions[schema["$ref"].rsplit("/", 1)[1]], definitions)
    # A discriminator maps to references.
    return {k: _resolved(v, definitions) for k, v in schema.items() if k != "discriminator"}


def multipart_related_body(part: str) -> dict[str, Any]:
    """multipart/related with parts of one media type."""
    schema = {"type": "array", "items": _BINARY, "description": f"Parts of {part}."}
    media_type = f'multipart/related; type="{part}"'
    return {"requestBody": {"required": True, "content": {media_type: {"schema": schema}}}}


def stored(*media_types: str) -> Documentation:
    """STOW-RS's answers, which are no problems even where nothing was stored."""
    content = {media_type: {"schema": {"type": "object"}} for media_type in media_types}
    return {
        200: {"description": "All instances were accepted.", "content": content},
        202: {"description": "Some instances were accepted.", "content": content},
        409: {"description": "No instance was accepted.", "content": content},
    }


def json_body(model: type[BaseModel]) -> dict[str, Any]:
    """A JSON body."""
    return {"requestBody": {"required": True, "content": {JSON: {"schema": _inline(model)}}}}


def json_or_text_body(model: type[BaseModel], options: type[BaseModel]) -> dict[str, Any]:
    """A JSON body, or plain text with options as query parameters."""
    body = json_body(model)
    body["requestBody"]["content"][TEXT] = {"schema": {"type": "string"}}
    body["parameters"] = _parameters(options, frozenset(), "With a plain text body.")
    return body


def build(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document; problems are under their own media type."""
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    # No route answers these alone, so the framework does not find them.
    _, streamed = models_json_schema(
        [(model, "serialization") for model in STREAMED],
        ref_template="#/components/schemas/{model}",
    )
    for name, schema in sorted(streamed["$defs"].items()):
        document["components"]["schemas"].setdefault(name, schema)
    for operations in document["paths"].values():
        for operation in operations.values():
            if "504" in operation["responses"]:
                operation.setdefault("parameters", []).append(_DEADLINE)
            for response in operation["responses"].values():
                content = response.get("content", {})
                schema = content.get(JSON, {}).get("schema", {})
                if schema.get("$ref") == f"#/components/schemas/{Problem.__name__}":
                    content[MEDIA_TYPE] = content.pop(JSON)
    add_access(document, f"#/components/schemas/{Problem.__name__}")
    return document


def add_idempotency(document: dict[str, Any], header: str, without: str) -> None:
    """Every POST takes a key, but those under a path.

    Args:
        document: is changed.
        header: name of the key's header.
        without: beginning of the paths that do not.
    """
    schema = {"$ref": f"#/components/schemas/{Problem.__name__}"}
    content = {MEDIA_TYPE: {"schema": schema}}
    texts = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"^[!#-\[\]-~]+$"}
    parameter = {
        "name": header,
        "in": "header",
        "required": False,
        "description": "The same key with the same request gets the same answer.",
        "schema": texts,
    }
    for path, operations in document["paths"].items():
        if "post" not in operations or path.startswith(without):
            continue
        operation = operations["post"]
        operation.setdefault("parameters", []).append(parameter)
        responses = operation["responses"]
        for status in (400, 409, 413, 422):
            responses.setdefault(str(status), {"description": _ERRORS[status], "content": content})
        operation["responses"] = dict(sorted(responses.items()))


def _inline(model: type[BaseModel]) -> dict[str, Any]:
    # The request models are flat, so their schema needs no definitions elsewhere.
    return model.model_json_schema()


def _parameters(
    options: type[BaseModel], private: frozenset[str], description: str
) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "query",
            "required": False,
            "description": description,
            "schema": schema,
        }
        for name, schema in _inline(options)["properties"].items()
        if name not in private
    ]
