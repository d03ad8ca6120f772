"""`dicomweb:NAME?Modality=CR,DX&StudyDate=20250101-20251231`: what an archive has of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import date, timedelta
from urllib.parse import parse_qsl

from llmcxr_service.batch.items import BatchItem
from llmcxr_service.errors import BatchError
from llmcxr_service.intake_dicom.opening import read_sources
from llmcxr_service.intake_dicom.qido import find_instances
from llmcxr_service.settings import Settings

_MODALITIES = "CR,DX"


async def list_archive(settings: Settings, source: str) -> AsyncIterator[BatchItem]:
    """Instances that match, day by day where a range of days is given: pages stay near the start.

    Args:
        settings: with the file of archives.
        source: name and filters; DICOM keywords, `Modality` being CR and DX where not given.

    Raises:
        BatchError: the name or a filter cannot be used.
        SourceError: the archive does not answer.
    """
    name, _, query = source.removeprefix("dicomweb:").partition("?")
    archive = next((s for s in read_sources(settings).sources if s.name == name), None)
    if archive is None:
        raise BatchError("LLMCXR_DICOM_SOURCES has no archive of this name.")
    filters = dict(parse_qsl(query, keep_blank_values=True))
    number = 0
    modalities = filters.pop("Modality", _MODALITIES).split(",")
    for day in days(filters.pop("StudyDate", "")):
        for modality in modalities:
            where = filters | {"Modality": modality} | ({"StudyDate": day} if day else {})
            async for found in find_instances(archive, where):
                yield BatchItem(
                    number,
                    archive=found.source,
                    study=found.study,
                    series=found.series,
                    instance=found.instance,
                )
                number += 1


def days(study_date: str) -> list[str]:
    """The days of a closed range (PS3.4, C.2.2.2.5); anything else is asked for as it is.

    Raises:
        BatchError: the range has dates that do not exist, or ends before it begins.
    """
    first, dash, last = study_date.partition("-")
    if not (dash and first and last):
        return [study_date]
    try:
        start, end = (date.fromisoformat(text) for text in (first, last))
    except ValueError:
        raise BatchError("StudyDate has no dates of the form YYYYMMDD.") from None
    if end < start:
        raise BatchError("StudyDate ends before it begins.")
    count = (end - start).days + 1
    return [(start + timedelta(days=n)).strftime("%Y%m%d") for n in range(count)]
