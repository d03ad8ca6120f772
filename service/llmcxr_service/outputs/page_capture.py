"""The report's pages as one DICOM Secondary Capture object, for viewers that show no SR.

One page is a Secondary Capture Image, several are the frames of one Multi-frame Grayscale Byte
Secondary Capture Image: always one object, so that nobody can store half a report.
"""

from __future__ import annotations

from llmcxr_models.quiet import quiet_libraries
from llmcxr_service.draft import DraftReport
from llmcxr_service.outputs import marks
from llmcxr_service.outputs.capture import capture, reference
from llmcxr_service.outputs.dicom_object import algorithm_equipment, to_file
from llmcxr_service.outputs.identity import file_under, require_source
from llmcxr_service.outputs.object_ids import findings_content, object_ids, report_content
from llmcxr_service.outputs.report_page import report_pages

_SERIES_NUMBER = 9103


def page_capture(draft: DraftReport) -> bytes:
    """A DICOM file in the study of the source.

    Raises:
        UnsupportedRadiograph: the draft's picture has no identity.
        NotAcceptable: the fonts lack the script.
    """
    source = require_source(draft)
    content = (*report_content(draft), *findings_content(draft))
    ids = object_ids("report-page", source, draft, *content)
    with quiet_libraries():
        dataset = capture(
            report_pages(draft), ids, draft.model, draft.created, conversion_type="WSD"
        )
        file_under(dataset, source)
        dataset.Modality = "OT"
        dataset.SeriesNumber = _SERIES_NUMBER
        dataset.SeriesDescription = "AI draft report page (preliminary)"
        dataset.DerivationDescription = "Page with a draft report by an AI model"
        dataset.ImageComments = " ".join(marks.notes(draft))
        dataset.ReferencedImageSequence = reference(source.sop_class_uid, source.sop_instance_uid)
        dataset.ContributingEquipmentSequence = [
            algorithm_equipment(draft.model, draft.created, marks.NOTICE)
        ]
        return to_file(dataset)
