"""multipart/related bodies (RFC 2387) as a stream of whole parts, one in memory at a time.

The framing is python-multipart's, which is not tied to forms. For both directions: a body that
is posted here, and an archive's answer to a WADO-RS request.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MEDIA_TYPE = "multipart/related"
_MAX_HEADERS = 16
_MAX_HEADER_BYTES = 1024


class MultipartError(Exception):
    """The body is no well-formed multipart/related, or of another kind. Its text quotes nothing."""


class PartType(MultipartError):
    """The content type is not multipart/related of the wanted type."""


@dataclass(frozen=True)
class Part:
    """One part of a body.

    Attributes:
        media_type: in lower case without parameters; empty where it is not stated.
        data: its bytes; empty where they were too many.
        too_large: whether it had more than the limit.
    """

    media_type: str
    data: bytes = field(repr=False)
    too_large: bool = False


def parse_boundary(content_type: str, wanted: str) -> bytes:
    """The boundary from a Content-Type header.

    Args:
        content_type: the header's value.
        wanted: the media type that the `type` parameter has to name, if it is there.

    Raises:
        PartType: it is something else.
        MultipartError: there is no boundary.
    """
    media_type, parameters = parse_options_header(content_type)
    if media_type != MEDIA_TYPE.encode():
        raise PartType("not multipart/related")
    if parameters.get(b"type", wanted.encode()).lower() != wanted.encode():
        raise PartType("multipart/related of another type")
    boundary = parameters.get(b"boundary", b"")
    # RFC 2046, 5.1.1.
    if not 0 < len(boundary) <= 70:
        raise MultipartError("no boundary")
    return boundary


async def read_parts(
    stream: AsyncIterable[bytes], boundary: bytes, *, max_part_bytes: int
) -> AsyncIterator[Part]:
    """Whole parts as they are complete; of a part over the limit the bytes are dropped.

    Args:
        stream: the body.
        boundary: from `parse_boundary`.
        max_part_bytes: most of one part that is kept.

    Raises:
        MultipartError: the framing is broken, or the body ends within a part.
    """
    collector = _Collector(max_part_bytes)
    try:
        parser = MultipartParser(
            boundary,
            collector.callbacks(),
            max_header_count=_MAX_HEADERS,
            max_header_size=_MAX_HEADER_BYTES,
        )
        async for chunk in stream:
            parser.write(chunk)
            for part in collector.take():
                yield part
    except FormParserError:
        raise MultipartError("broken framing") from None
    if not collector.complete:
        raise MultipartError("cut off")


class _Collector:
    """python-multipart's callbacks; gathers one part after the other."""

    def __init__(self, max_part_bytes: int) -> None:
        self._max_part_bytes = max_part_bytes
        self._done: list[Part] = []
        self.complete = False
        self._begin()

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._begin,
            "on_part_data": self._on_data,
            "on_part_end": self._on_end,
            "on_header_field": self._on_header_field,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_end": self._on_finish,
        }

    def take(self) -> list[Part]:
        """The parts that were completed since the last call."""
        done, self._done = self._done, []
        return done

    def _begin(self) -> None:
        self._data = bytearray()
        self._too_large = False
        self._media_type = ""
        self._name = self._value = b""

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._too_large:
            return
        if len(self._data) + end - start > self._max_part_bytes:
            self._too_large = True
            self._data = bytearray()
            return
        self._data += data[start:end]

    def _on_end(self) -> None:
        self._done.append(Part(self._media_type, bytes(self._data), self._too_large))
        self._data = bytearray()

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        if self._name.lower() == b"content-type":
            self._media_type = parse_options_header(self._value)[0].decode("latin-1")
        self._name = self._value = b""

    def _on_finish(self) -> None:
        self.complete = True
