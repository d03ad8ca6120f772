"""QIDO-RS (PS3.18, 10.6), the asking side: which instances an archive has, page by page.

Bytes are bounded as in `wado`; the answer is DICOM JSON (PS3.18, annex F).
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
from pydantic import ValidationError

from llmcxr_service.errors import SourceMisbehaved, SourceTimeout, SourceUnavailable
from llmcxr_service.intake_dicom.archive_client import archive_client, check_status
from llmcxr_service.intake_dicom.sources import Source
from llmcxr_service.schemas import DicomwebInstance

PAGE = 500
_MAX_PAGE_BYTES = 32 * 1024 * 1024
_STUDY, _SERIES, _INSTANCE = "0020000D", "0020000E", "00080018"


async def find_instances(
    source: Source, filters: Mapping[str, str], *, page: int = PAGE
) -> AsyncIterator[DicomwebInstance]:
    """The instances that match, in the archive's order.

    The archive has to answer `GET /instances` for all of its studies, with limit and offset.

    Args:
        source: the archive.
        filters: attributes by keyword, such as `Modality` and `StudyDate`.
        page: how many are asked for at once.

    Raises:
        SourceError: the archive is away, slow, refuses us or answers something else.
    """
    offset = 0
    async with archive_client(source) as client:
        while True:
            found = await _page(
                client, source, {**filters, "limit": str(page), "offset": str(offset)}
            )
            for entry in found:
                yield _instance(source.name, entry)
            if len(found) < page:
                return
            offset += len(found)


async def _page(
    client: httpx.AsyncClient, source: Source, parameters: Mapping[str, str]
) -> list[dict[str, Any]]:
    url = f"{str(source.url).rstrip('/')}/instances"
    headers = {"Accept": "application/dicom+json", "Accept-Encoding": "identity"}
    try:
        async with client.stream("GET", url, params=parameters, headers=headers) as response:
            if response.status_code == httpx.codes.NO_CONTENT:
                return []
            check_status(response.status_code)
            body = bytearray()
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > _MAX_PAGE_BYTES:
                    raise SourceMisbehaved("The archive's answer to a query is too long.")
    except httpx.TimeoutException:
        raise SourceTimeout("The archive did not answer in time.") from None
    except httpx.TransportError:
        raise SourceUnavailable("The archive cannot be reached.") from None
    try:
        found = json.loads(body)
    except ValueError:
        raise SourceMisbehaved("The archive's answer to a query is no DICOM JSON.") from None
    if not isinstance(found, list):
        raise SourceMisbehaved("The archive's answer to a query is no DICOM JSON.")
    return found


def _instance(archive: str, entry: dict[str, Any]) -> DicomwebInstance:
    try:
        study, series, instance = (entry[tag]["Value"][0] for tag in (_STUDY, _SERIES, _INSTANCE))
        return DicomwebInstance(source=archive, study=study, series=series, instance=instance)
    except (LookupError, TypeError, ValidationError):
        raise SourceMisbehaved("The archive's answer to a query lacks a UID.") from None
