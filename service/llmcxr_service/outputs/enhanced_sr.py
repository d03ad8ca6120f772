"""The report's text as a DICOM Enhanced SR: TID 2000 "Basic Diagnostic Imaging Report"."""

from __future__ import annotations

from highdicom.sr import (
    ContainerContentItem,
    ContentSequence,
    EnhancedSR,
    ImageContentItem,
    RelationshipTypeValues,
    TextContentItem,
)
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from llmcxr_models.quiet import quiet_libraries
from llmcxr_service.draft import DraftReport
from llmcxr_service.outputs import marks
from llmcxr_service.outputs.dicom_object import algorithm_equipment, to_file
from llmcxr_service.outputs.identity import evidence_of, require_source
from llmcxr_service.outputs.object_ids import object_ids, report_content
from llmcxr_service.outputs.sr_content import finish, language_of, observed_by
from llmcxr_service.source_instance import SourceInstance

_SERIES_NUMBER = 9101


def enhanced_sr(draft: DraftReport) -> bytes:
    """A DICOM file: COMPLETE, PRELIMINARY, UNVERIFIED, in the study of the source.

    Raises:
        UnsupportedRadiograph: the draft's picture has no identity.
    """
    source = require_source(draft)
    ids = object_ids("enhanced-sr", source, draft, *report_content(draft))
    with quiet_libraries():
        document = EnhancedSR(
            evidence=[evidence_of(source)],
            content=_content(draft, source)[0],
            series_instance_uid=ids.series,
            series_number=_SERIES_NUMBER,
            sop_instance_uid=ids.sop_instance,
            instance_number=1,
            manufacturer=marks.MANUFACTURER,
            series_description="AI draft report (preliminary, unverified)",
            is_complete=True,
            is_final=False,
            is_verified=False,
            contributing_equipment=[algorithm_equipment(draft.model, draft.created, marks.NOTICE)],
        )
        finish(document, draft, source)
        return to_file(document)


def _content(draft: DraftReport, source: SourceInstance) -> ContentSequence:
    root = ContainerContentItem(codes.LN.DiagnosticImagingReport, template_id="2000")
    children = ContentSequence([*language_of(draft), *observed_by(draft.model)])
    # A comment before the sections, for those who read from the top.
    children.append(
        _section(codes.DCM.Comment, [_text(codes.DCM.Comment, n) for n in marks.notes(draft)])
    )
    for heading, element, body in (
        (codes.LN.Findings, codes.DCM.Finding, draft.report.findings),
        (codes.LN.Impressions, codes.DCM.Impression, draft.report.impression),
    ):
        if body:
            children.append(_section(heading, [_inferred(_text(element, body), source)]))
    root.ContentSequence = children
    return ContentSequence([root], is_root=True)


def _section(heading: Code, items: list[TextContentItem]) -> ContainerContentItem:
    section = ContainerContentItem(heading, relationship_type=RelationshipTypeValues.CONTAINS)
    section.ContentSequence = ContentSequence(items)
    return section


def _text(name: Code, text: str) -> TextContentItem:
    return TextContentItem(name, text, relationship_type=RelationshipTypeValues.CONTAINS)


def _inferred(item: TextContentItem, source: SourceInstance) -> TextContentItem:
    image = ImageContentItem(
        codes.DCM.SourceOfMeasurement,
        source.sop_class_uid,
        source.sop_instance_uid,
        relationship_type=RelationshipTypeValues.INFERRED_FROM,
    )
    item.ContentSequence = ContentSequence([image])
    return item
