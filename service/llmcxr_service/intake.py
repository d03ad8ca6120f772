"""HTTP request -> bytes and checked options. Nothing here is written to disk or logged."""

from __future__ import annotations

from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from llmcxr_models.errors import UnsupportedMedia
from llmcxr_service.errors import BodyTooLarge, FieldProblem, InvalidRequest
from llmcxr_service.problems import invalid_request

M = TypeVar("M", bound=BaseModel)

RAW_MEDIA_TYPES = ("application/dicom", "image/png", "image/jpeg", "application/octet-stream")
FORM = "multipart/form-data"
JSON = "application/json"
TEXT = "text/plain"

_MAX_TEXT_BYTES = 1024 * 1024
_MAX_FIELDS = 16
_MAX_FIELD_BYTES = 1024 * 1024


async def read_upload(
    request: Request, options: type[M], *, private: frozenset[str] = frozenset(), raw: bool = True
) -> tuple[bytes, M]:
    """A radiograph's bytes and the options beside it.

    The file is form field `file`, or it is the body; then the options are query parameters,
    but for those that hold a patient's text, since URLs are logged along the way.

    Args:
        request: whose body is read.
        options: the options' schema.
        private: options that are never taken from the URL.
        raw: whether the file may be the body.

    Raises:
        UnsupportedMedia: another content type.
        InvalidRequest: the options do not fit, or a form without `file`.
    """
    media_type = content_type(request)
    if media_type == FORM:
        _refuse_query(request)
        return await _read_form(request, options)
    if not raw:
        raise UnsupportedMedia(f"Send {FORM}.")
    if media_type and media_type not in RAW_MEDIA_TYPES:
        raise UnsupportedMedia(f"Send a radiograph as {FORM} or as {', '.join(RAW_MEDIA_TYPES)}.")
    checked = _query_options(request, options, private)
    return await request.body(), checked


async def read_uploads(request: Request, options: type[M], *, most: int) -> tuple[list[bytes], M]:
    """Several radiographs, all as form field `file`, and the options that hold for each.

    Raises:
        InvalidRequest: the options do not fit, or no file, or more than `most`.
    """
    _refuse_query(request)
    form = await _parse_form(request, most)
    try:
        items = form.multi_items()
        fields = {name: value for name, value in items if name != "file"}
        files = [value for name, value in items if name == "file"]
        if len(fields) + len(files) != len(items):
            raise InvalidRequest("A field occurs twice.", reason="form")
        uploads = [file for file in files if isinstance(file, UploadFile)]
        if not uploads or len(uploads) != len(files):
            missing = FieldProblem("file", "Radiographs must be sent as files.")
            raise InvalidRequest("The form has no file.", fields=(missing,), reason="form")
        if any(isinstance(value, UploadFile) for value in fields.values()):
            raise InvalidRequest("A field that is text was sent as a file.", reason="form")
        return [await file.read() for file in uploads], _checked(fields, options)
    finally:
        await form.close()


async def read_json(request: Request, schema: type[M]) -> M:
    """A JSON body.

    Raises:
        UnsupportedMedia: another content type.
        BodyTooLarge: much longer than any text.
        InvalidRequest: it does not fit.
    """
    if content_type(request) != JSON:
        raise UnsupportedMedia(f"The body must be {JSON}.")
    _refuse_query(request)
    try:
        return schema.model_validate_json(await _short_body(request), strict=True)
    except ValidationError as error:
        raise invalid_request(error) from None


async def read_text(request: Request, options: type[M]) -> tuple[str, M]:
    """A plain text body, with options as query parameters.

    Raises:
        UnsupportedMedia: another character set than UTF-8.
        BodyTooLarge: much longer than any text.
        InvalidRequest: the options do not fit, or the text is not UTF-8.
    """
    charset = _charset(request)
    if charset not in {"", "utf-8", "utf8", "us-ascii"}:
        raise UnsupportedMedia("Text must be in UTF-8.", reason="charset")
    checked = _query_options(request, options, frozenset())
    try:
        return (await _short_body(request)).decode("utf-8"), checked
    except UnicodeDecodeError:
        raise InvalidRequest("The text is not UTF-8.", reason="charset") from None


def content_type(request: Request) -> str:
    """The body's media type in lower case, without parameters; empty where not stated."""
    return request.headers.get("content-type", "").split(";")[0].strip().lower()


async def _short_body(request: Request) -> bytes:
    """A body of text; the limit for pictures is far too high for it."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > _MAX_TEXT_BYTES:
            raise BodyTooLarge(f"The body has more than {_MAX_TEXT_BYTES} bytes.")
    return bytes(body)


def _charset(request: Request) -> str:
    for parameter in request.headers.get("content-type", "").split(";")[1:]:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset":
            return value.strip().strip('"').lower()
    return ""


async def _parse_form(request: Request, most_files: int) -> FormData:
    parser = _InMemoryParser(
        request.headers,
        request.stream(),
        max_files=most_files,
        max_fields=_MAX_FIELDS,
        max_part_size=_MAX_FIELD_BYTES,
    )
    try:
        return await parser.parse()
    except MultiPartException as error:
        # Its message says what is wrong with the framing, and quotes nothing.
        raise InvalidRequest(f"The form is malformed. {error.message}", reason="form") from None
    except (KeyError, UnicodeDecodeError):
        raise InvalidRequest("The form is malformed.", reason="form") from None


async def _read_form(request: Request, options: type[M]) -> tuple[bytes, M]:
    form = await _parse_form(request, 1)
    try:
        fields, file = _take_file(form)
        return await file.read(), _checked(fields, options)
    finally:
        await form.close()


def _take_file(form: FormData) -> tuple[dict[str, Any], UploadFile]:
    """The text fields, and the one file."""
    items = form.multi_items()
    fields = dict(items)
    if len(fields) != len(items):
        raise InvalidRequest("A field occurs twice.", reason="form")
    file = fields.pop("file", None)
    if not isinstance(file, UploadFile):
        missing = FieldProblem("file", "A radiograph must be sent as a file.")
        raise InvalidRequest("The form has no file.", fields=(missing,), reason="form")
    if any(isinstance(value, UploadFile) for value in fields.values()):
        raise InvalidRequest("A field that is text was sent as a file.", reason="form")
    return fields, file


class _InMemoryParser(MultiPartParser):
    # Starlette spools files beyond 1 MB to a folder on disk; a patient's picture does not
    # go there. BodyLimit bounds the memory.
    spool_max_size = 2**62


def _query_options(request: Request, options: type[M], private: frozenset[str]) -> M:
    items = request.query_params.multi_items()
    values = dict(items)
    if len(values) != len(items):
        raise InvalidRequest("A query parameter occurs twice.", reason="query")
    if private & values.keys():
        raise InvalidRequest(
            "Text about a patient is not accepted in the URL. Send a form.", reason="query"
        )
    return _checked(values, options)


def _refuse_query(request: Request) -> None:
    if request.query_params:
        raise InvalidRequest("No query parameters are accepted here.", reason="query")


def _checked(values: dict[str, Any], options: type[M]) -> M:
    try:
        return options.model_validate_strings(values)
    except ValidationError as error:
        raise invalid_request(error) from None
