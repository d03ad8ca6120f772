"""Which DICOM objects are refused, and why; which doubts are told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from llmcxr_models.errors import InvalidRadiograph, UnsupportedRadiograph
from llmcxr_models.radiograph import Pipeline
from llmcxr_models.radiograph_file import read_radiograph

STORAGE = "1.2.840.10008.5.1.4.1.1."


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"Modality": "CT"}, "modality"),
        ({"Modality": "US"}, "modality"),
        ({"Modality": "SR"}, "modality"),
        ({"Modality": "MG"}, "modality"),
        ({"Modality": "PX"}, "modality"),
        ({"SOPClassUID": STORAGE + "2"}, "modality"),
        ({"SOPClassUID": STORAGE + "88.33"}, "modality"),
        ({"SOPClassUID": STORAGE + "1.1.1"}, "for-processing"),
        ({"PresentationIntentType": "FOR PROCESSING"}, "for-processing"),
        ({"NumberOfFrames": 2}, "multi-frame"),
        ({"NumberOfFrames": 0}, "multi-frame"),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "colour"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "colour"),
        ({"Rows": 60000, "Columns": 60000}, "too-large"),
        ({"Rows": 20, "Columns": 20}, "too-small"),
        ({"Rows": 0, "Columns": 40}, "too-small"),
        ({"BitsAllocated": 32, "BitsStored": 32, "HighBit": 31}, "bit-depth"),
        ({"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0}, "bit-depth"),
        ({"BitsStored": 4, "HighBit": 3}, "bit-depth"),
        ({"PixelAspectRatio": [1, 5]}, "aspect-ratio"),
        *(
            ({"BodyPartExamined": part}, "body-part")
            for part in ("HIP", "SKULL", "EXTREMITY", "EYE", "ABDOMEN", "CSPINE", "LOWER_LEG")
        ),
    ],
)
def test_unsupported(make_dicom: Any, attributes: dict[str, Any], reason: str) -> None:
    with pytest.raises(UnsupportedRadiograph) as refusal:
        read_radiograph(make_dicom(**attributes))
    assert refusal.value.reason == reason


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"PixelData": None}, "no-pixels"),
        ({"PixelData": b""}, "no-pixels"),
        ({"Rows": None}, "no-pixels"),
        ({"BitsAllocated": None}, "no-pixels"),
        ({"PhotometricInterpretation": None}, "photometric"),
        ({"PixelData": b"\0\0" * 1000}, "truncated"),
        ({"Rows": 41}, "truncated"),
        ({"BitsStored": 16, "HighBit": 11}, "header"),
        ({"HighBit": 16}, "header"),
        ({"RescaleSlope": 0, "RescaleIntercept": 0}, "rescale"),
        ({"RescaleSlope": "1E-320", "RescaleIntercept": 1}, "rescale"),
    ],
)
def test_invalid(make_dicom: Any, attributes: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidRadiograph) as refusal:
        read_radiograph(make_dicom(**attributes))
    assert refusal.value.reason == reason


@pytest.mark.parametrize("part", ["CHEST", "THORAX", "RIBCAGE", "RIB", "chest", "LUNG"])
def test_chest_words_raise_no_doubt(make_dicom: Any, part: str) -> None:
    data = make_dicom(WindowCenter=700, WindowWidth=1400, BodyPartExamined="CHESTXYZ")
    # Written over, because pydicom refuses to write lower case.
    radiograph = read_radiograph(data.replace(b"CHESTXYZ", part.encode().ljust(8)))
    assert radiograph.warnings == ()


def test_other_spellings_of_other_parts_are_refused_too(make_dicom: Any) -> None:
    data = make_dicom(BodyPartExamined="CHESTXYZ").replace(b"CHESTXYZ", b"C-spine ")
    with pytest.raises(UnsupportedRadiograph):
        read_radiograph(data)


@pytest.mark.parametrize(
    ("attributes", "doubt"),
    [
        ({"BodyPartExamined": None}, "does not state the body part"),
        ({"BodyPartExamined": "TORACE"}, "not known to be the chest"),
        ({"Modality": None}, "does not say that this is a radiograph"),
        ({"Modality": "OT"}, "does not say that this is a radiograph"),
        ({"Modality": "SC", "SOPClassUID": STORAGE + "7"}, "does not say"),
        ({}, "no window"),
        ({"LossyImageCompression": "01"}, "compressed with loss"),
        (
            {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "IDENTITY"},
            "contradicts itself",
        ),
        ({"PatientOrientation": ["R", "F"]}, "rotated or mirrored"),
        ({"PatientOrientation": ["F", "L"]}, "rotated or mirrored"),
    ],
)
def test_doubts_become_warnings(make_dicom: Any, attributes: dict[str, Any], doubt: str) -> None:
    warnings = read_radiograph(make_dicom(**attributes)).warnings
    assert any(doubt in warning for warning in warnings)


def test_attributes_are_kept(make_dicom: Any) -> None:
    radiograph = read_radiograph(make_dicom(ViewPosition="LL"))
    kept = (radiograph.modality, radiograph.view_position, radiograph.body_part)
    assert kept == ("DX", "LL", "CHEST")
    assert radiograph.is_lateral
    assert not read_radiograph(make_dicom()).is_lateral


def _view_code(value: str) -> Sequence:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "SCT", "a view"
    return Sequence([item])


@pytest.mark.parametrize(
    ("attributes", "lateral"),
    [
        ({"ViewPosition": "RL"}, True),
        ({"ViewPosition": "PA"}, False),
        ({"ViewPosition": None, "ViewCodeSequence": _view_code("399173006")}, True),
        ({"ViewPosition": None, "ViewCodeSequence": _view_code("R-102CD")}, True),
        ({"ViewPosition": None, "ViewCodeSequence": _view_code("399348003")}, False),
        ({"ViewPosition": None, "PatientOrientation": ["A", "F"]}, True),
        ({"ViewPosition": None, "PatientOrientation": ["P", "F"]}, True),
        ({"ViewPosition": None, "PatientOrientation": ["L", "F"]}, False),
        ({"ViewPosition": None}, False),
        # What is stated plainly wins.
        ({"ViewPosition": "AP", "PatientOrientation": ["A", "F"]}, False),
    ],
)
def test_laterals_are_known_by_any_attribute(
    make_dicom: Any, attributes: dict[str, Any], lateral: bool
) -> None:
    assert read_radiograph(make_dicom(**attributes)).is_lateral is lateral


@pytest.mark.parametrize("sop_class", [STORAGE + "7", STORAGE + "7.2", STORAGE + "1", None])
def test_secondary_capture_of_a_radiograph_is_read(make_dicom: Any, sop_class: str | None) -> None:
    assert read_radiograph(make_dicom(SOPClassUID=sop_class)).modality == "DX"


@pytest.mark.parametrize("pipeline", Pipeline)
def test_a_uniform_picture_is_a_doubt(make_dicom: Any, pipeline: Pipeline) -> None:
    radiograph = read_radiograph(make_dicom(np.full((40, 40), 5)), pipeline)
    assert any("nearly uniform" in warning for warning in radiograph.warnings)


def test_a_report_without_pixels_is_unsupported_not_damaged(make_dicom: Any) -> None:
    data = make_dicom(Modality="SR", PixelData=None, Rows=None, Columns=None)
    with pytest.raises(UnsupportedRadiograph):
        read_radiograph(data)
