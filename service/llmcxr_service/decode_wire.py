"""What gateway and decode worker say to each other: fixed frames of numbers, JSON and raw pixels.

Nothing is pickled: a worker may have been taken over by the file that it decodes, and unpickling
its answer would hand over the gateway too. For the same reason every field of an answer is
checked here before it is believed.

    request   flags (1 byte) | length (8) | the file
    answer    length of JSON (4) | length of pixels (8) | JSON | float32 pixels, rows x columns
"""

from __future__ import annotations

import json
import struct
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import UID

from llmcxr_models.errors import (
    CxrError,
    InvalidInput,
    InvalidRadiograph,
    UnsupportedMedia,
    UnsupportedRadiograph,
)
from llmcxr_models.radiograph import MAX_PIXELS, MediaType, Radiograph
from llmcxr_service.source_instance import SourceInstance

READY = b"R"
"""What the template says when it has loaded, and a worker when it has its limits."""
FORK = b"F"
"""What asks the template for a worker; the worker's end of a connection comes with it."""
HELLO = struct.Struct(">cI")
"""First words of a worker: READY and its process id, before it has seen a file."""
REQUEST = struct.Struct(">BQ")
ANSWER = struct.Struct(">IQ")

WITH_SOURCE = 1
SOURCE_ONLY = 2
"""Flags of a request: the identity beside the picture, or nothing but it."""
_MAX_JSON = 1 << 18
_MAX_TEXT = 1024
_MAX_NOTES = 32

_ERRORS: dict[str, type[CxrError]] = {
    kind.__name__: kind
    for kind in (InvalidInput, InvalidRadiograph, UnsupportedMedia, UnsupportedRadiograph)
}
REASONS = frozenset({
    "aspect-ratio", "bit-depth", "body-part", "codestream", "colour", "corrupt", "empty",
    "for-processing", "header", "invalid-input", "lut", "media-type", "memory", "modality",
    "multi-frame", "no-pixels", "photometric", "rescale", "too-large", "too-small",
    "transfer-syntax", "truncated", "unsupported",
})  # fmt: skip
"""All reasons for which decoding refuses a file; they become labels of metrics."""


class WireError(Exception):
    """The other side said something that is not in this protocol."""


@dataclass(frozen=True)
class Decoded:
    """One file, decoded.

    Attributes:
        radiograph: its picture.
        source: who and what it is about, for DICOM files whose header says so.
    """

    radiograph: Radiograph
    source: SourceInstance | None


def request(data: bytes, flags: int) -> bytes:
    """What comes before a file on its way to a worker."""
    return REQUEST.pack(flags, len(data))


def pack_decoded(decoded: Decoded) -> tuple[bytes, memoryview]:
    """A good answer: what comes before the pixels, and the pixels, not copied."""
    radiograph = decoded.radiograph
    rows, columns = radiograph.pixels.shape
    described = {
        "rows": rows,
        "columns": columns,
        "media_type": radiograph.media_type,
        "modality": _printable(radiograph.modality),
        "view_position": _printable(radiograph.view_position),
        "body_part": _printable(radiograph.body_part),
        "warnings": radiograph.warnings,
        "source": None if decoded.source is None else asdict(decoded.source),
    }
    text = json.dumps(described).encode()
    pixels = np.ascontiguousarray(radiograph.pixels).data.cast("B")
    return ANSWER.pack(len(text), len(pixels)) + text, pixels


def pack_source(source: SourceInstance) -> bytes:
    """A good answer to SOURCE_ONLY."""
    text = json.dumps({"source": asdict(source)}).encode()
    return ANSWER.pack(len(text), 0) + text


def pack_error(error: CxrError) -> bytes:
    """A refusal: the error's class, reason and fixed message."""
    text = json.dumps(
        {"error": type(error).__name__, "reason": error.reason, "message": str(error)}
    ).encode()
    return ANSWER.pack(len(text), 0) + text


def unpack_lengths(head: bytes) -> tuple[int, int]:
    """Bytes of JSON and of pixels that follow.

    Raises:
        WireError: more than any answer has.
    """
    json_length, pixels_length = ANSWER.unpack(head)
    if json_length > _MAX_JSON or pixels_length > MAX_PIXELS * 4 or pixels_length % 4:
        raise WireError("an answer of impossible length")
    return json_length, pixels_length


def unpack(text: bytes, pixels: NDArray[np.float32]) -> Decoded:
    """A good answer.

    Args:
        text: its JSON.
        pixels: (rows * columns) as they came.

    Raises:
        CxrError: the worker refused the file.
        WireError: the answer is none.
    """
    try:
        answer = json.loads(text)
        if "error" in answer:
            raise _error(answer)
        rows, columns = answer["rows"], answer["columns"]
        # numpy would take -1 for one of them.
        if not (type(rows) is type(columns) is int and min(rows, columns) > 0):
            raise WireError("impossible dimensions")
        source = answer["source"]
        return Decoded(
            Radiograph(
                pixels.reshape(rows, columns),
                MediaType(answer["media_type"]),
                modality=_text(answer["modality"]),
                view_position=_text(answer["view_position"]),
                body_part=_text(answer["body_part"]),
                warnings=tuple(_text(note) for note in answer["warnings"][:_MAX_NOTES]),
            ),
            None if source is None else _source(source),
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise WireError("an answer that is none") from None


def unpack_source(text: bytes) -> SourceInstance:
    """A good answer to SOURCE_ONLY; raises as `unpack` does."""
    try:
        answer = json.loads(text)
        if "error" in answer:
            raise _error(answer)
        return _source(answer["source"])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise WireError("an answer that is none") from None


def _error(answer: dict[str, Any]) -> CxrError:
    reason = answer["reason"]
    if answer["error"] not in _ERRORS or reason not in REASONS:
        raise WireError("an unknown refusal")
    return _ERRORS[answer["error"]](_text(answer["message"]), reason=reason)


def _source(values: dict[str, Any]) -> SourceInstance:
    names = {field.name for field in fields(SourceInstance)}
    source = SourceInstance(**{name: _text(values[name]) for name in names})
    if not all(UID(getattr(source, name)).is_valid for name in names if name.endswith("_uid")):
        raise WireError("an identifier that is none")
    return source


def _printable(text: str) -> str:
    return "".join(letter for letter in text[:_MAX_TEXT] if letter.isprintable())


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > _MAX_TEXT or not value.isprintable():
        raise WireError("a text that is none")
    return value
