"""The forms in which results can be had, by name and by media type: one table for all callers."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import replace

from llmcxr_models.report import Report
from llmcxr_service.draft import DraftReport
from llmcxr_service.outputs.dicom_object import TRANSFER_SYNTAX
from llmcxr_service.outputs.enhanced_sr import enhanced_sr
from llmcxr_service.outputs.fhir_report import fhir_report
from llmcxr_service.outputs.findings_sr import findings_sr, no_observations
from llmcxr_service.outputs.hl7_report import hl7_report
from llmcxr_service.outputs.identity import clean_values, no_identity
from llmcxr_service.outputs.page_capture import page_capture
from llmcxr_service.receiving import Output
from llmcxr_service.source_instance import SourceInstance

_RENDERERS: dict[Output, Callable[[DraftReport], bytes]] = {
    Output.ENHANCED_SR: enhanced_sr,
    Output.COMPREHENSIVE_3D_SR: findings_sr,
    Output.SECONDARY_CAPTURE: page_capture,
    Output.FHIR: fhir_report,
    Output.HL7: hl7_report,
}

DICOM = "application/dicom"


def _dicom(output: Output) -> str:
    return f"{DICOM}; profile={output.value}; transfer-syntax={TRANSFER_SYNTAX}"


REPORT_MEDIA_TYPES: dict[str, Output] = {
    # Plain application/dicom is the first of these.
    _dicom(Output.ENHANCED_SR): Output.ENHANCED_SR,
    _dicom(Output.COMPREHENSIVE_3D_SR): Output.COMPREHENSIVE_3D_SR,
    _dicom(Output.SECONDARY_CAPTURE): Output.SECONDARY_CAPTURE,
    # What is used of R4B (4.3) is the same in R4 (4.0).
    "application/fhir+json; fhirVersion=4.3": Output.FHIR,
    "application/fhir+json; fhirVersion=4.0": Output.FHIR,
    "application/hl7-v2+er7": Output.HL7,
    "x-application/hl7-v2+er7": Output.HL7,
}
"""What `Accept` may ask for instead of JSON and text; the first of a type is its default."""

IMAGE_DICOM = f"{DICOM}; transfer-syntax={TRANSFER_SYNTAX}"
IMAGES_DICOM = f'multipart/related; type="{DICOM}"'


def render(draft: DraftReport, output: Output) -> bytes:
    """A draft in one form.

    Args:
        draft: what the model wrote.
        output: the form.

    Raises:
        UnsupportedRadiograph: the form needs an identity that the picture does not have
            (`no-identity`); FHIR does not.
        NotAcceptable: the draft cannot be told in this form (`no-observations`, `no-font`).
    """
    return _RENDERERS[output](_printable(draft))


def check_possible(output: Output, source: SourceInstance | None, *, observing: bool) -> None:
    """Refuse, before any work is done, what `render` could not make; raises as it does.

    Args:
        output: the form.
        source: of the radiograph, if it has an identity.
        observing: whether the checkpoint gives probabilities.
    """
    if output is Output.COMPREHENSIVE_3D_SR and not observing:
        raise no_observations()
    if output is Output.FHIR:
        return
    if source is None or (output is Output.HL7 and not clean_values(source)["PatientID"]):
        raise no_identity()


def _printable(draft: DraftReport) -> DraftReport:
    """Without control characters, which DICOM's UT and FHIR's string forbid alike."""
    report = Report(
        _without_controls(draft.report.findings), _without_controls(draft.report.impression)
    )
    return replace(draft, report=report)


def _without_controls(text: str) -> str:
    return "".join(c for c in text if c == "\n" or unicodedata.category(c) != "Cc")
