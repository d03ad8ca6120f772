"""WADO-RS (PS3.18, 10.4), the asking side: one instance from a named archive, as bytes.

dicomweb-client builds and checks the URL. Its own retrieval is not used: it reads any number of
bytes and parses them in this process.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Generator, Mapping

import httpx
from dicomweb_client.uri import URI

from llmcxr_service.deliveries.destinations import Credentials, Tls, authorization
from llmcxr_service.errors import (
    BodyTooLarge,
    InstanceNotFound,
    SourceMisbehaved,
    SourceRefused,
    SourceTimeout,
    SourceUnavailable,
    UnknownSource,
)
from llmcxr_service.intake_dicom.multipart_related import (
    MultipartError,
    parse_boundary,
    read_parts,
)
from llmcxr_service.intake_dicom.sources import Source, Sources
from llmcxr_service.schemas import DicomwebInstance

_DICOM = "application/dicom"
_ACCEPT = f'multipart/related; type="{_DICOM}"; transfer-syntax=*, {_DICOM}; q=0.5'
_CONNECT_SECONDS = 10.0
_FRAMING_BYTES = 64 * 1024
"""Room for boundaries and headers beside the instance."""


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
        return httpx.AsyncClient(
            auth=_Identification(source.credentials),
            verify=self._tls[source.name],
            timeout=httpx.Timeout(source.timeout_seconds, connect=_CONNECT_SECONDS),
            follow_redirects=False,
            trust_env=False,
        )

    async def _fetch(self, client: httpx.AsyncClient, url: str) -> bytes:
        # No compression: a small answer could become one of any size.
        headers = {"Accept": _ACCEPT, "Accept-Encoding": "identity"}
        async with client.stream("GET", url, headers=headers) as response:
            _check_status(response.status_code)
            content_type = response.headers.get("content-type", "")
            body = self._bounded(response.aiter_raw())
            if content_type.split(";")[0].strip().lower() == _DICOM:
                # Not what the standard says, and yet common.
                return b"".join([chunk async for chunk in body])
            return await self._single_part(body, content_type)

    async def _single_part(self, body: AsyncIterator[bytes], content_type: str) -> bytes:
        try:
            boundary = parse_boundary(content_type, _DICOM)
            parts = [p async for p in read_parts(body, boundary, max_part_bytes=self._max_bytes)]
        except MultipartError:
            raise SourceMisbehaved("The archive's answer is no multipart/related.") from None
        if len(parts) != 1:
            raise SourceMisbehaved("The archive did not answer exactly one instance.")
        if parts[0].too_large:
            raise self._too_large()
        return parts[0].data

    async def _bounded(self, stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        received = 0
        async for chunk in stream:
            received += len(chunk)
            if received > self._max_bytes + _FRAMING_BYTES:
                raise self._too_large()
            yield chunk

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(f"The instance has more than {self._max_bytes} bytes.")


def _url(source: Source, wanted: DicomwebInstance) -> str:
    return str(URI(str(source.url).rstrip("/"), wanted.study, wanted.series, wanted.instance))


class _Identification(httpx.Auth):
    """Says who we are, with the secret as it is in its file now."""

    def __init__(self, credentials: Credentials) -> None:
        try:
            self._secret = authorization(credentials)
        except (OSError, ValueError):
            raise SourceRefused("A secret for the archive cannot be read.") from None

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if isinstance(self._secret, tuple):
            yield from httpx.BasicAuth(*self._secret).auth_flow(request)
            return
        if self._secret is not None:
            request.headers["Authorization"] = f"Bearer {self._secret}"
        yield request


def _check_status(status: int) -> None:
    if status == httpx.codes.OK:
        return
    if status in (httpx.codes.NOT_FOUND, httpx.codes.GONE):
        raise InstanceNotFound("The archive does not have this instance.")
    if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        raise SourceRefused("The archive does not accept who we are.")
    if status in (httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE):
        raise SourceUnavailable("The archive has too much to do.")
    if status == httpx.codes.GATEWAY_TIMEOUT:
        raise SourceTimeout("The archive did not answer in time.")
    raise SourceMisbehaved("The archive answered with an error.")
