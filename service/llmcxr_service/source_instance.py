"""DICOM bytes -> who and what they are about: what a result must repeat to be filed beside them.

Runs where hostile bytes may be parsed (a decode worker), never on the event loop's process.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field

from pydicom import Dataset, dcmread
from pydicom.uid import UID

from llmcxr_models.dicom_elements import ElementReader
from llmcxr_models.dicom_frame import check_transfer_syntax
from llmcxr_models.errors import CxrError, InvalidRadiograph
from llmcxr_models.quiet import quiet_libraries

_LONGEST = 1024
"""Characters of one value; far more than any of these representations allows (PS3.5, 6.2)."""


def _private() -> str:
    return field(default="", repr=False)


@dataclass(frozen=True)
class SourceInstance:
    """Identity of a received instance; nothing of it is printed by `repr`, logged or labelled.

    Attributes are DICOM's, as text; empty where not stated. The three UIDs and the SOP class are
    always there and well formed.
    """

    sop_class_uid: str = field(repr=False)
    sop_instance_uid: str = field(repr=False)
    study_instance_uid: str = field(repr=False)
    series_instance_uid: str = field(repr=False)
    patient_id: str = _private()
    issuer_of_patient_id: str = _private()
    patient_name: str = _private()
    patient_birth_date: str = _private()
    patient_sex: str = _private()
    accession_number: str = _private()
    study_id: str = _private()
    study_date: str = _private()
    study_time: str = _private()
    study_description: str = _private()
    referring_physician_name: str = _private()
    modality: str = _private()
    body_part_examined: str = _private()
    view_position: str = _private()
    instance_number: str = _private()
    station_name: str = _private()

    def to_dataset(self) -> Dataset:
        """The same as a pydicom data set (UTF-8), for libraries that take evidence as one."""
        dataset = Dataset()
        dataset.SpecificCharacterSet = "ISO_IR 192"
        for name, keyword in _KEYWORDS.items():
            setattr(dataset, keyword, getattr(self, name) or None)
        return dataset


_KEYWORDS = {
    "sop_class_uid": "SOPClassUID",
    "sop_instance_uid": "SOPInstanceUID",
    "study_instance_uid": "StudyInstanceUID",
    "series_instance_uid": "SeriesInstanceUID",
    "patient_id": "PatientID",
    "issuer_of_patient_id": "IssuerOfPatientID",
    "patient_name": "PatientName",
    "patient_birth_date": "PatientBirthDate",
    "patient_sex": "PatientSex",
    "accession_number": "AccessionNumber",
    "study_id": "StudyID",
    "study_date": "StudyDate",
    "study_time": "StudyTime",
    "study_description": "StudyDescription",
    "referring_physician_name": "ReferringPhysicianName",
    "modality": "Modality",
    "body_part_examined": "BodyPartExamined",
    "view_position": "ViewPosition",
    "instance_number": "InstanceNumber",
    "station_name": "StationName",
}
_UIDS = ("sop_class_uid", "sop_instance_uid", "study_instance_uid", "series_instance_uid")


def read_source(data: bytes) -> SourceInstance | None:
    """The identity in a DICOM file's header; None for a picture, or where a UID is missing.

    Results of such a file can be answered, but not filed in a study.
    """
    if data[128:132] != b"DICM":
        return None
    with quiet_libraries():
        dataset = dcmread(
            io.BytesIO(data),
            stop_before_pixels=True,
            specific_tags=[*_KEYWORDS.values(), "SpecificCharacterSet"],
            force=False,
        )
        dataset.decode()
        values = {name: _text(dataset, keyword) for name, keyword in _KEYWORDS.items()}
    if not all(values[name] and UID(values[name]).is_valid for name in _UIDS):
        return None
    return SourceInstance(**values)


def identify(data: bytes) -> SourceInstance:
    """The identity of an instance that was sent here to be worked on.

    Raises:
        InvalidRadiograph: no DICOM file, damaged, or a UID is missing.
        UnsupportedRadiograph: in a transfer syntax that is not read; nothing is inflated.
    """
    try:
        with quiet_libraries():
            check_transfer_syntax(ElementReader(data).transfer_syntax)
            source = read_source(data)
    except CxrError:
        raise
    except Exception:
        # pydicom raises anything for damaged files, and quotes values.
        raise InvalidRadiograph("The DICOM file is damaged and cannot be read.") from None
    if source is None:
        raise InvalidRadiograph("This is no DICOM file with whole identifiers.", reason="header")
    return source


def _text(dataset: Dataset, keyword: str) -> str:
    """One value as text without control characters; a broken one counts as not stated."""
    try:
        value = dataset.get(keyword)
    except Exception:  # a value that cannot be converted: its text would quote it
        return ""
    text = "" if value is None else str(value)
    printable = "".join(c for c in text if c.isprintable())
    return printable.strip()[:_LONGEST]
