"""Real files, which are not part of the repository: each with its right outcome."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmcxr_models.errors import (
    CxrError,
    InvalidRadiograph,
    UnsupportedMedia,
    UnsupportedRadiograph,
)
from llmcxr_models.radiograph import Pipeline
from llmcxr_models.radiograph_file import read_radiograph

DATA = Path(
    os.environ.get("LLMCXR_TEST_DATA")
    or Path(__file__).resolve().parents[2].parent / "shared" / "data"
)
FOLDER = DATA / "dicom"
MANIFEST = FOLDER / "manifest.jsonl"

pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(
        not MANIFEST.is_file(),
        reason="there are no test radiographs; LLMCXR_TEST_DATA names the folder that has dicom/",
    ),
]

# Files outside chest/ that are pictures of a chest, and what is wrong with the others.
READABLE = {
    "derived/chest_mono1_10bit_rle.dcm",
    "derived/nih_16bit_mono2_nowindow.dcm",
    "derived/nih_8bit_uncompressed_mono1.dcm",
    "derived/nih_12bit_jpegls.dcm",
    "derived/nih_12bit_j2k.dcm",
}
REASONS = {
    "derived/chest_truncated_half.dcm": "truncated",
    "derived/chest_header_only.dcm": "no-pixels",
    "derived/chest_no_photometric.dcm": "photometric",
    "derived/chest_no_pixeldata.dcm": "no-pixels",
    "derived/chest_deflated.dcm": "transfer-syntax",
    "derived/nih_multiframe2.dcm": "multi-frame",
    "derived/not_dicom.dcm": "corrupt",
    "derived/empty.dcm": "empty",
    "negative/SC_rgb_rle.dcm": "colour",
    "negative/image_dfl.dcm": "transfer-syntax",
}
# Its header does not say what it shows; the reader of the answer is warned.
DOUBTFUL = "nonchest_xray/JPEG2KLossless_1s_1f_u_16_16.dcm"


@cache
def records() -> list[dict[str, Any]]:
    if not MANIFEST.is_file():
        return []
    return [json.loads(line) for line in MANIFEST.read_text(encoding="utf-8").splitlines()]


def _named(*categories: str) -> list[str]:
    return [record["file"] for record in records() if record["category"] in categories]


def _is_chest(name: str) -> bool:
    return name.startswith("chest/") or name in READABLE


@pytest.mark.parametrize("pipeline", Pipeline)
@pytest.mark.parametrize("name", [n for n in _named("chest", "derived") if _is_chest(n)])
def test_chests_are_read(name: str, pipeline: Pipeline) -> None:
    record = next(record for record in records() if record["file"] == name)
    radiograph = read_radiograph((FOLDER / name).read_bytes(), pipeline)
    assert radiograph.pixels.shape == (record["rows"], record["columns"])
    assert radiograph.modality == record["modality"]
    assert np.ptp(radiograph.pixels) > 0.5
    height, width = radiograph.pixels.shape
    middle = radiograph.pixels[height // 4 : height // 2, :]
    # The spine is brighter than the lung beside it, on either photometric interpretation.
    spine = middle[:, width * 46 // 100 : width * 54 // 100].mean()
    lung = middle[:, width * 20 // 100 : width * 35 // 100].mean()
    assert spine > lung


@pytest.mark.parametrize("name", [n for n in _named("nonchest_xray") if n != DOUBTFUL])
def test_other_body_parts_are_refused(name: str) -> None:
    with pytest.raises(UnsupportedRadiograph) as refusal:
        read_radiograph((FOLDER / name).read_bytes())
    assert refusal.value.reason == "body-part"


def test_an_unlabelled_flat_field_is_doubted() -> None:
    told = " ".join(read_radiograph((FOLDER / DOUBTFUL).read_bytes()).warnings)
    assert "body part" in told
    assert "uniform" in told


@pytest.mark.parametrize("name", _named("negative", "charset"))
def test_negatives_are_refused_by_a_typed_error(name: str) -> None:
    record = next(record for record in records() if record["file"] == name)
    with pytest.raises((InvalidRadiograph, UnsupportedMedia, UnsupportedRadiograph)) as refusal:
        read_radiograph((FOLDER / name).read_bytes())
    if record["modality"] not in (None, "CR", "DX", "OT"):
        assert refusal.value.reason == "modality"
    elif name in REASONS:
        assert refusal.value.reason == REASONS[name]


@pytest.mark.parametrize("name", [n for n in _named("derived") if not _is_chest(n)])
def test_defects_are_named(name: str) -> None:
    with pytest.raises(CxrError) as refusal:
        read_radiograph((FOLDER / name).read_bytes())
    assert refusal.value.reason == REASONS[name]


def test_one_picture_under_different_headers_is_one_picture() -> None:
    first, second = (
        read_radiograph((FOLDER / f"chest/nih_udacity_{name}.dcm").read_bytes()).pixels
        for name in ("test1", "test4")
    )
    np.testing.assert_array_equal(first, second)
