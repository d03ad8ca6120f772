"""The identity of a received instance: read as text, never printed, and back to a data set."""

from __future__ import annotations

import io

import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

from llmcxr_service.draft import derived_uid
from llmcxr_service.source_instance import read_source


def _file(**elements: str) -> bytes:
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=["instance"])
    dataset.StudyInstanceUID = generate_uid(entropy_srcs=["study"])
    dataset.SeriesInstanceUID = generate_uid(entropy_srcs=["series"])
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID", "1.2")
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def test_values_are_read_as_text_and_written_back() -> None:
    data = _file(PatientName="Müller^Jörg", PatientID="4711", AccessionNumber="A1")
    source = read_source(data)
    assert source is not None
    assert (source.patient_name, source.patient_id) == ("Müller^Jörg", "4711")
    dataset = source.to_dataset()
    assert str(dataset.PatientName) == "Müller^Jörg"
    assert dataset.AccessionNumber == "A1"
    assert dataset.StudyDate is None


def test_nothing_of_a_patient_is_in_the_representation() -> None:
    source = read_source(_file(PatientName="CANARY^ONE", PatientID="CANARY-2"))
    assert source is not None
    assert "CANARY" not in repr(source)
    assert source.study_instance_uid not in repr(source)


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID"])
def test_an_instance_without_its_uids_has_no_identity(keyword: str) -> None:
    assert read_source(_file(**{keyword: ""})) is None


def test_a_picture_has_no_identity() -> None:
    assert read_source(b"\x89PNG\r\n\x1a\n" + bytes(200)) is None


def test_the_same_parts_give_the_same_uid_and_others_another() -> None:
    one = derived_uid("enhanced-sr", "1.2.3", "digest")
    assert one == derived_uid("enhanced-sr", "1.2.3", "digest")
    assert one.is_valid
    assert (
        len({one, derived_uid("x", "1.2.3", "digest"), derived_uid("enhanced-sr", "1.2.3d")}) == 3
    )
