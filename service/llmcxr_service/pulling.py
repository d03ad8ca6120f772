"""A radiograph for a report that is sent along, or named in an archive: exactly one of the two."""

from __future__ import annotations

from fastapi import Request

from llmcxr_models.errors import InvalidRadiograph
from llmcxr_service.errors import SourceMisbehaved
from llmcxr_service.intake import JSON, content_type, read_json, read_upload
from llmcxr_service.limits import until_disconnect
from llmcxr_service.runtime import Runtime
from llmcxr_service.schemas import DicomwebInstance, ReportOptions, ReportPull


async def read_radiograph(
    request: Request, runtime: Runtime, private: frozenset[str]
) -> tuple[bytes, ReportOptions]:
    """A radiograph's bytes and the options beside it.

    A JSON body names an instance in an archive of the configuration, which is fetched; every
    other body is the file or a form with it, as `read_upload` says.

    Raises:
        CxrError: as `read_upload`, `read_json` and `Archives.retrieve` say.
    """
    if content_type(request) != JSON:
        return await read_upload(request, ReportOptions, private=private)
    pull = await read_json(request, ReportPull)
    request.state.instance = pull.dicomweb.instance  # for the audit log, which hashes it
    return await until_disconnect(request, _retrieve(runtime, pull.dicomweb)), pull


async def _retrieve(runtime: Runtime, wanted: DicomwebInstance) -> bytes:
    data = await runtime.archives.retrieve(wanted)
    # A report about another patient's picture would be the worst of all answers.
    try:
        source = await runtime.decoder.identify(data)
    except InvalidRadiograph:
        raise SourceMisbehaved("The archive answered no readable DICOM instance.") from None
    if source.sop_instance_uid != wanted.instance:
        raise SourceMisbehaved("The archive answered another instance.")
    return data
