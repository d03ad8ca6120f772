"""Whose and which study a result is: from the source's header into ours, DICOM's way.

Identifiers are repeated as they came, even where they are longer than DICOM allows, because they
are there to be matched: a shortened one names somebody else. Dates, times and sex that are not in
DICOM's form are left empty, as is anything that would turn into two values.
"""

from __future__ import annotations

import re
from datetime import datetime

from pydicom import Dataset, config
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement

from llmcxr_models.errors import UnsupportedRadiograph
from llmcxr_service.draft import DraftReport
from llmcxr_service.source_instance import SourceInstance

_TIME = re.compile(r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?")
_REQUIRED = {
    "PatientName": "patient_name",
    "PatientID": "patient_id",
    "PatientBirthDate": "patient_birth_date",
    "PatientSex": "patient_sex",
    "StudyDate": "study_date",
    "StudyTime": "study_time",
    "StudyID": "study_id",
    "AccessionNumber": "accession_number",
    "ReferringPhysicianName": "referring_physician_name",
}
"""Type 2: there even where they are empty."""
_OPTIONAL = {
    "IssuerOfPatientID": "issuer_of_patient_id",
    "StudyDescription": "study_description",
}
_LONGEST_DESCRIPTION = 64


def require_source(draft: DraftReport) -> SourceInstance:
    """The instance that a draft is about.

    Raises:
        UnsupportedRadiograph: it came from a picture without identity.
    """
    if draft.source is None:
        raise no_identity()
    return draft.source


def no_identity() -> UnsupportedRadiograph:
    """The error for a picture whose result cannot be filed anywhere."""
    return UnsupportedRadiograph(
        "This form is filed in the study of the radiograph. Send a DICOM file with its UIDs"
        " (and, for HL7 v2, a patient id), or accept another form.",
        reason="no-identity",
    )


def file_under(dataset: Dataset, source: SourceInstance) -> None:
    """Write patient and study of the source into a data set (PS3.3 C.7.1.1, C.7.2.1)."""
    values = clean_values(source)
    dataset.StudyInstanceUID = source.study_instance_uid
    for keyword in _REQUIRED:
        _put(dataset, keyword, values[keyword])
    for keyword in _OPTIONAL:
        if values[keyword]:
            _put(dataset, keyword, values[keyword])


def evidence_of(source: SourceInstance) -> Dataset:
    """The source as highdicom wants evidence: UIDs, and empty where nothing can be wrong."""
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    for keyword in _REQUIRED:
        setattr(dataset, keyword, None)
    dataset.SOPClassUID = source.sop_class_uid
    dataset.SOPInstanceUID = source.sop_instance_uid
    dataset.StudyInstanceUID = source.study_instance_uid
    dataset.SeriesInstanceUID = source.series_instance_uid
    return dataset


def clean_values(source: SourceInstance) -> dict[str, str]:
    """Values by DICOM keyword; empty where not stated or not in DICOM's form."""
    values = {keyword: getattr(source, name) for keyword, name in (_REQUIRED | _OPTIONAL).items()}
    values = {keyword: "" if "\\" in value else value for keyword, value in values.items()}
    for keyword in ("PatientBirthDate", "StudyDate"):
        values[keyword] = values[keyword] if _is_date(values[keyword]) else ""
    values["StudyTime"] = values["StudyTime"] if _TIME.fullmatch(values["StudyTime"]) else ""
    values["PatientSex"] = values["PatientSex"] if values["PatientSex"] in {"M", "F", "O"} else ""
    values["StudyDescription"] = values["StudyDescription"][:_LONGEST_DESCRIPTION].strip()
    return values


def _is_date(text: str) -> bool:
    if not re.fullmatch(r"\d{8}", text, re.ASCII):
        return False
    try:
        datetime.strptime(text, "%Y%m%d")
    except ValueError:
        return False
    return True


def _put(dataset: Dataset, keyword: str, value: str) -> None:
    tag = tag_for_keyword(keyword)
    assert tag is not None
    # Not validated: an identifier is repeated as it came.
    element = DataElement(tag, dictionary_VR(tag), value or None, validation_mode=config.IGNORE)
    dataset.add(element)
