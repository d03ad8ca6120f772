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
from llmcxr_service.outputs.identity import require_source
from llmcxr_service.outputs.object_ids import object_ids, report_content
from llmcxr_service.outputs.sr_content import Series, language_of, observed_by, write_report
from llmcxr_service.source_instance import SourceInstance

_SERIES = Series(9101, "AI draft report (preliminary, unverified)", marks.NOTICE)


def enhanced_sr(draft: DraftReport) -> bytes:
    """A DICOM file: COMPLETE, PRELIMINARY, UNVERIFIED, in the study of the source.

    Raises:
        UnsupportedRadiograph: the draft's picture has no identity.
    """
    source = require_source(draft)
    ids = object_ids("enhanced-sr", source, draft, *report_content(draft))
    with quiet_libraries():
        content = _content(draft, source)[0]
        return write_report(EnhancedSR, content, ids, draft, source, _SERIES)


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
