"""The display pipeline against PS3.3, written out value by value and without numpy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from llmcxr_models.radiograph import Pipeline, equalise
from llmcxr_models.radiograph_file import read_radiograph


def _stored_range(bits: int, signed: bool) -> tuple[int, int]:
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)


def _table(entries: list[int], first: int, value: float) -> int:
    return entries[min(max(round(value) - first, 0), len(entries) - 1)]


def _window(x: float, centre: float, width: float, function: str) -> float:
    if function == "SIGMOID":  # C.11.2.1.3.1
        return 1 / (1 + math.exp(max(min(-4 * (x - centre) / width, 500), -500)))
    if function == "LINEAR_EXACT":  # C.11.2.1.3.2
        if x <= centre - width / 2:
            return 0.0
        return 1.0 if x > centre + width / 2 else (x - centre) / width + 0.5
    if x <= centre - 0.5 - (width - 1) / 2:  # C.11.2.1.2.1
        return 0.0
    if x > centre - 0.5 + (width - 1) / 2:
        return 1.0
    return (x - (centre - 0.5)) / (width - 1) + 0.5


def reference(stored: int, case: dict[str, Any]) -> float:
    """What one stored value is displayed as; 0 is black."""
    low, high = _stored_range(case.get("bits", 12), case.get("signed", False))
    attributes = case.get("attributes", {})
    if "PixelPaddingValue" in attributes:
        ends = (
            attributes["PixelPaddingValue"],
            attributes.get("PixelPaddingRangeLimit", attributes["PixelPaddingValue"]),
        )
        if min(ends) <= stored <= max(ends):
            return 0.0
    if "modality_lut" in case:
        first, bits, entries = case["modality_lut"]
        value: float = _table(entries, first, stored)
        low, high = 0, 2**bits - 1
    else:
        slope = float(attributes.get("RescaleSlope", 1))
        intercept = float(attributes.get("RescaleIntercept", 0))
        value = stored * slope + intercept
        low, high = sorted((low * slope + intercept, high * slope + intercept))
    if "voi_lut" in case:
        first, bits, entries = case["voi_lut"]
        shown = _table(entries, first, value) / (2**bits - 1)
    elif "WindowCenter" in attributes:
        function = attributes.get("VOILUTFunction", "LINEAR")
        shown = _window(value, attributes["WindowCenter"], attributes["WindowWidth"], function)
    else:
        shown = (value - low) / (high - low)
    shape = attributes.get("PresentationLUTShape")
    mono1 = attributes.get("PhotometricInterpretation") == "MONOCHROME1"
    return 1 - shown if (shape == "INVERSE" if shape else mono1) else shown


RAMP8 = list(range(256))
CASES: dict[str, dict[str, Any]] = {
    "nothing but 12 bits": {},
    "8 bits": {"bits": 8},
    "10 bits": {"bits": 10},
    "15 bits": {"bits": 15},
    "16 bits": {"bits": 16},
    "signed 16 bits": {"bits": 16, "signed": True},
    "signed 12 bits": {"signed": True},
    "signed 8 bits": {"bits": 8, "signed": True},
    "8 stored of 16": {"bits": 8, "allocated": 16},
    "high bit 15": {"bits": 12, "shift": 4},
    "MONOCHROME1": {"attributes": {"PhotometricInterpretation": "MONOCHROME1"}},
    "INVERSE": {"attributes": {"PresentationLUTShape": "INVERSE"}},
    "MONOCHROME1 and INVERSE": {
        "attributes": {
            "PhotometricInterpretation": "MONOCHROME1",
            "PresentationLUTShape": "INVERSE",
        }
    },
    "IDENTITY": {"attributes": {"PresentationLUTShape": "IDENTITY"}},
    "window": {"attributes": {"WindowCenter": 2000, "WindowWidth": 1500}},
    "window of one": {"attributes": {"WindowCenter": 700, "WindowWidth": 1}},
    "narrow window": {"attributes": {"WindowCenter": 700, "WindowWidth": 10}},
    "narrow exact window": {
        "attributes": {"WindowCenter": 700, "WindowWidth": 10, "VOILUTFunction": "LINEAR_EXACT"}
    },
    "exact window below one": {
        "attributes": {"WindowCenter": 700, "WindowWidth": 0.5, "VOILUTFunction": "LINEAR_EXACT"}
    },
    "sigmoid": {
        "attributes": {"WindowCenter": 700, "WindowWidth": 400, "VOILUTFunction": "SIGMOID"}
    },
    "steep sigmoid": {
        "attributes": {"WindowCenter": 700, "WindowWidth": 0.01, "VOILUTFunction": "SIGMOID"}
    },
    "rescale without window": {"attributes": {"RescaleSlope": 0.37, "RescaleIntercept": -1024}},
    "rescale with window": {
        "attributes": {
            "RescaleSlope": 0.5, "RescaleIntercept": -100, "WindowCenter": 100, "WindowWidth": 300,
        }
    },
    "negative slope": {"attributes": {"RescaleSlope": -1, "RescaleIntercept": 4095}},
    "signed window, MONOCHROME1": {
        "signed": True,
        "attributes": {
            "PhotometricInterpretation": "MONOCHROME1", "WindowCenter": -900, "WindowWidth": 800,
        },
    },
    "padding value": {"attributes": {"PixelPaddingValue": 100}},
    "padding range, MONOCHROME1": {
        "attributes": {
            "PhotometricInterpretation": "MONOCHROME1",
            "PixelPaddingValue": 0,
            "PixelPaddingRangeLimit": 300,
        }
    },
    "signed padding": {
        "signed": True, "attributes": {"PixelPaddingValue": -2000, "PixelPaddingRangeLimit": -2048}
    },
    "VOI LUT of 8 bits, many entries": {"voi_lut": (0, 8, [i // 16 for i in range(4096)])},
    "VOI LUT of 8 bits, packed": {"voi_lut": (10, 8, RAMP8), "packed": True},
    "VOI LUT of 8 bits, odd and packed": {"voi_lut": (10, 8, RAMP8[:255]), "packed": True},
    "VOI LUT of 16 bits": {"voi_lut": (200, 16, [i * 60 for i in range(1000)])},
    "VOI LUT of 12 bits": {"voi_lut": (0, 12, [4095 - i for i in range(4096)])},
    "VOI LUT after a negative rescale": {
        "voi_lut": (-1024, 10, [i // 4 for i in range(4096)]),
        "attributes": {"RescaleSlope": 1, "RescaleIntercept": -1024},
    },
    "VOI LUT of 65536 entries": {"bits": 16, "voi_lut": (0, 16, list(range(65536)))},
    "modality LUT of 8 bits": {"modality_lut": (0, 8, [i // 16 for i in range(4096)])},
    "modality LUT of 10 bits": {"modality_lut": (0, 10, [i // 4 for i in range(4096)])},
    "modality LUT of 16 bits, signed": {
        "signed": True, "modality_lut": (-2048, 16, [i * 16 for i in range(4096)])
    },
    "modality LUT and window": {
        "modality_lut": (0, 14, [min(i * 5, 16383) for i in range(4096)]),
        "attributes": {"WindowCenter": 5000, "WindowWidth": 4000},
    },
    "modality LUT and VOI LUT": {
        "modality_lut": (0, 12, [4095 - i for i in range(4096)]),
        "voi_lut": (100, 8, [i // 8 for i in range(2048)]),
    },
}  # fmt: skip


def _lut(first: int, bits: int, entries: list[int], packed: bool) -> Sequence:
    item = Dataset()
    item.add_new(0x00283002, "SS" if first < 0 else "US", [len(entries) % 65536, first, bits])
    data = bytes(entries) if packed else np.array(entries, "<u2").tobytes()
    item.add_new(0x00283006, "OW", data + b"\0" * (len(data) % 2))
    return Sequence([item])


def _write(make_dicom: Any, stored: Any, case: dict[str, Any], syntax: str) -> bytes:
    attributes = dict(case.get("attributes", {}))
    for name, keyword in (("modality_lut", "ModalityLUTSequence"), ("voi_lut", "VOILUTSequence")):
        if name in case:
            attributes[keyword] = _lut(*case[name], packed=case.get("packed", False))
    options = {k: case[k] for k in ("bits", "signed", "allocated", "shift") if k in case}
    return make_dicom(stored, syntax=syntax, **options, **attributes)


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2"])
@pytest.mark.parametrize("name", CASES)
def test_display_values_are_the_standards(make_dicom: Any, name: str, syntax: str) -> None:
    case = CASES[name]
    low, high = _stored_range(case.get("bits", 12), case.get("signed", False))
    stored = np.linspace(low, high, 48 * 40).round().astype(np.int64).reshape(48, 40)
    stored[0, :12] = np.clip([99, 100, 101, 695, 699, 700, 701, 705, -2000, 0, 300, 301], low, high)
    shown = read_radiograph(_write(make_dicom, stored, case, syntax)).pixels
    expected = np.array([[reference(int(v), case) for v in row] for row in stored])
    np.testing.assert_allclose(shown, expected, atol=2e-6)


def test_the_range_is_the_declared_one_not_the_pictures(make_dicom: Any) -> None:
    stored = np.full((40, 40), 1000)
    stored[0, 0] = 1100
    shown = read_radiograph(make_dicom(stored)).pixels
    assert shown.max() == pytest.approx(1100 / 4095)


def test_unused_bits_are_ignored(make_dicom: Any) -> None:
    """Old objects keep overlays in the bits above the stored ones (PS3.5, 8.1.1)."""
    stored = np.arange(1600).reshape(40, 40)
    clean = read_radiograph(make_dicom(stored, bits=12)).pixels
    dirty = make_dicom(stored + 0x3000, bits=16, BitsStored=12, HighBit=11)
    np.testing.assert_array_equal(read_radiograph(dirty).pixels, clean)


def test_first_of_several_windows_is_used_and_said(make_dicom: Any) -> None:
    one = read_radiograph(make_dicom(WindowCenter=500, WindowWidth=300))
    two = read_radiograph(make_dicom(WindowCenter=[500, 900], WindowWidth=[300, 10]))
    np.testing.assert_array_equal(one.pixels, two.pixels)
    assert any("several windows" in warning for warning in two.warnings)


@pytest.mark.parametrize("width", [0, -5])
def test_an_impossible_window_is_not_used(make_dicom: Any, width: float) -> None:
    plain = read_radiograph(make_dicom())
    odd = read_radiograph(make_dicom(WindowCenter=500, WindowWidth=width))
    np.testing.assert_array_equal(odd.pixels, plain.pixels)
    assert any("window is not valid" in warning for warning in odd.warnings)


def test_an_unknown_window_function_is_linear_and_said(make_dicom: Any) -> None:
    window = {"WindowCenter": 500, "WindowWidth": 300}
    linear = read_radiograph(make_dicom(**window))
    odd = read_radiograph(make_dicom(**window, VOILUTFunction="CUBIC"))
    np.testing.assert_array_equal(odd.pixels, linear.pixels)
    assert any("function is not known" in warning for warning in odd.warnings)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_mimic_is_min_max_inversion_and_equalisation(make_dicom: Any, photometric: str) -> None:
    stored = np.random.default_rng(0).integers(300, 2000, (64, 48))
    data = make_dicom(
        stored, PhotometricInterpretation=photometric, WindowCenter=9, WindowWidth=3,
        RescaleSlope=-1, RescaleIntercept=4095,
    )  # fmt: skip
    levels = np.rint((stored - stored.min()) * 255.0 / (stored.max() - stored.min()))
    if photometric == "MONOCHROME1":
        levels = 255 - levels
    shown = read_radiograph(data, Pipeline.MIMIC).pixels
    np.testing.assert_array_equal(np.rint(shown * 255), equalise(levels.astype(np.uint8)))


def test_mimic_takes_padding_out_of_the_statistic(make_dicom: Any) -> None:
    stored = np.random.default_rng(0).integers(300, 900, (64, 48))
    stored[:, :8] = 4095
    shown = read_radiograph(make_dicom(stored, PixelPaddingValue=4095), Pipeline.MIMIC).pixels
    assert (shown[:, :8] == 0).all()
    assert shown[:, 8:].max() == 1.0


def test_mimic_of_a_uniform_picture_is_no_crash(make_dicom: Any) -> None:
    data = make_dicom(np.full((40, 40), 7), PixelPaddingValue=7)
    radiograph = read_radiograph(data, Pipeline.MIMIC)
    assert any("nearly uniform" in warning for warning in radiograph.warnings)


@pytest.mark.parametrize(
    ("attributes", "shape"),
    [
        ({"PixelAspectRatio": [2, 1]}, (80, 36)),
        ({"PixelAspectRatio": [1, 2]}, (40, 72)),
        ({"ImagerPixelSpacing": [0.3, 0.2]}, (60, 36)),
        ({"PixelSpacing": [0.2, 0.3]}, (40, 54)),
        ({"PixelSpacing": [0.2, 0.2001]}, (40, 36)),
        ({"PixelAspectRatio": [1, 1]}, (40, 36)),
        ({"PixelAspectRatio": [0, 0]}, (40, 36)),
    ],
)
def test_pixels_are_made_square(
    make_dicom: Any, attributes: dict[str, Any], shape: tuple[int, int]
) -> None:
    radiograph = read_radiograph(make_dicom(**attributes))
    assert radiograph.pixels.shape == shape
    assert 0 <= radiograph.pixels.min() <= radiograph.pixels.max() <= 1
