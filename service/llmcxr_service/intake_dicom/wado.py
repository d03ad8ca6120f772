"""WADO-RS (PS3.18, 10.4), the asking side: one instance from a named archive, as bytes.

dicomweb-client builds and checks the URL. Its own retrieval is not used: it reads any number of
bytes and parses them in this process.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping

import httpx
from dicomweb_client.uri import URI

from llmcxr_service.deliveries.destinations import Tls
from llmcxr_service.errors import (
    BodyTooLarge,
    SourceMisbehaved,
    SourceTimeout,
    SourceUnavailable,
    UnknownSource,
)
from llmcxr_service.intake_dicom.archive_client import archive_client, check_status
from llmcxr_service.intake_dicom.multipart_related import (
    MultipartError,
    Part,
    parse_boundary,
    read_parts,
)
from llmcxr_service.intake_dicom.sources import Source, Sources
from llmcxr_service.schemas import DicomwebInstance

_DICOM = "application/dicom"
_ACCEPT = f'multipart/related; type="{_DICOM}"; transfer-syntax=*, {_DICOM}; q=0.5'
_FRAMING_BYTES = 64 * 1024
"""Room for boundaries and headers beside the instance."""
_FREE_PIECES, _SMALLEST_PIECE_BYTES = 1000, 256
"""After so many pieces they must have this size on average: each costs all requests' time."""


class Archives:
    """The configured archives.

    Args:
        sources: which they are.
        max_bytes: of one instance.
    """

    def __init__(self, sources: Sources, max_bytes: int) -> None:
        self._sources = {source.name: source for source in sources.sources}
        self._max_bytes = max_bytes
        # Read once: loading certificates takes tens of milliseconds.
        self._tls: Mapping[str, ssl.SSLContext] = {
            source.name: (source.tls or Tls()).context() for source in sources.sources
        }

    async def retrieve(self, wanted: DicomwebInstance) -> bytes:
        """The DICOM file of an instance, in the transfer syntax that the archive keeps it in.

        Raises:
            UnknownSource: there is no archive of this name.
            InstanceNotFound: the archive does not have it.
            BodyTooLarge: it has more bytes than are accepted.
            SourceError: the archive is away, slow, refuses us or answers something else.
        """
        source = self._sources.get(wanted.source)
        if source is None:
            raise UnknownSource("No archive of this name is configured.")
        try:
            async with asyncio.timeout(source.timeout_seconds), self._client(source) as client:
                return await self._fetch(client, _url(source, wanted))
        except (TimeoutError, httpx.TimeoutException):
            raise SourceTimeout("The archive did not answer in time.") from None
        except httpx.DecodingError:
            raise SourceMisbehaved("The archive's answer cannot be decoded.") from None
        except httpx.TransportError:
            raise SourceUnavailable("The archive cannot be reached.") from None

    def _client(self, source: Source) -> httpx.AsyncClient:
        return archive_client(source, self._tls[source.name])

    async def _fetch(self, client: httpx.AsyncClient, url: str) -> bytes:
        # No compression: a small answer could become one of any size.
        headers = {"Accept": _ACCEPT, "Accept-Encoding": "identity"}
        async with client.stream("GET", url, headers=headers) as response:
            check_status(response.status_code)
            content_type = response.headers.get("content-type", "")
            body = self._bounded(response.aiter_raw())
            if content_type.split(";")[0].strip().lower() == _DICOM:
                # Not what the standard says, and yet common.
                return b"".join([chunk async for chunk in body])
            return await self._single_part(body, content_type)

    async def _single_part(self, body: AsyncIterator[bytes], content_type: str) -> bytes:
        found: Part | None = None
        try:
            boundary = parse_boundary(content_type, _DICOM)
            async for part in read_parts(body, boundary, max_part_bytes=self._max_bytes):
                if found is not None:  # before millions of empty ones are gathered
                    raise _not_one()
                found = part
        except MultipartError:
            raise SourceMisbehaved("The archive's answer is no multipart/related.") from None
        if found is None:
            raise _not_one()
        if found.too_large:
            raise self._too_large()
        return found.data

    async def _bounded(self, stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        received = pieces = 0
        async for chunk in stream:
            received += len(chunk)
            pieces += 1
            if received > self._max_bytes + _FRAMING_BYTES:
                raise self._too_large()
            if pieces > _FREE_PIECES and received < pieces * _SMALLEST_PIECE_BYTES:
                raise SourceMisbehaved("The archive's answer comes in crumbs.")
            yield chunk

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(f"The instance has more than {self._max_bytes} bytes.")


def _not_one() -> SourceMisbehaved:
    return SourceMisbehaved("The archive did not answer exactly one instance.")


def _url(source: Source, wanted: DicomwebInstance) -> str:
    return str(URI(str(source.url).rstrip("/"), wanted.study, wanted.series, wanted.instance))
