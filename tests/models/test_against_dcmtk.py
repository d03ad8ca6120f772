"""Every kind of pixel that a vendor may write, against dcmtk and against PS3.3 itself.

    pytest -s tests/models/test_against_dcmtk.py

prints how many files of which class were compared, and the largest difference of each.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from tests import dicom_variants as dicom
from tests.dcmtk import Dcmtk, missing
from tests.dicom_comparison import Outcome, compare_all, known_deviation, table

from llmcxr_models.radiograph_file import read_radiograph

pytestmark = pytest.mark.skipif(
    bool(missing()), reason=f"dcmtk or gdcm's tools are not installed: {', '.join(missing())}"
)

ONE_STEP = 1.0
DATA = Path(
    os.environ.get("LLMCXR_TEST_DATA")
    or Path(__file__).resolve().parents[2].parent / "shared" / "data"
)
REAL = (
    "chest/nih_udacity_test1.dcm",
    "chest/nih_udacity_test2.dcm",
    "chest/nih_udacity_test4.dcm",
    "chest/RG1_J2KI.dcm",
    "chest/966_fixed.dcm",
    "chest/gdcm-CR-MONO1-10-chest.dcm",
    "derived/chest_mono1_10bit_rle.dcm",
    "derived/nih_12bit_j2k.dcm",
    "derived/nih_12bit_jpegls.dcm",
    "derived/nih_16bit_mono2_nowindow.dcm",
    "derived/nih_8bit_uncompressed_mono1.dcm",
)
SMALL = (REAL[5], REAL[9], REAL[10])
LOSSLESS = (dicom.RLE, dicom.JPEG_14, dicom.JPEG_SV1, dicom.JPEG_LS, dicom.JPEG_2000)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[Outcome]:
    return compare_all(tmp_path_factory.mktemp("dcmtk"))


def test_at_most_one_step_of_255_apart(outcomes: list[Outcome]) -> None:
    sys.stdout.write(table(outcomes))
    assert len(outcomes) >= 500
    far = [(o.name, round(o.judged, 2), o.classes) for o in outcomes if o.judged > ONE_STEP]
    assert not far


def test_every_class_is_there_and_dcmtk_judges_most(outcomes: list[Outcome]) -> None:
    seen = {name for outcome in outcomes for name in outcome.classes}
    assert seen >= set(dicom.SYNTAXES)
    assert seen >= {f"{bits} bits" for bits in range(8, 17)}
    assert seen >= {
        "signed", "MONOCHROME1", "shape IDENTITY", "shape INVERSE", "no window", "window LINEAR",
        "window LINEAR_EXACT", "window SIGMOID", "VOI LUT", "modality LUT", "rescale",
        "several windows", "several VOI LUTs", "8-bit LUT of over 256", "LUT of 10 to 15 bits",
        "padding value", "padding range", "high bit shifted", "overlay in unused bits",
        "pixels not square",
    }  # fmt: skip
    assert sum(not outcome.dcmtk_is_wrong for outcome in outcomes) >= 380


def test_dcmtk_does_leave_the_standard_where_we_say_so(outcomes: list[Outcome]) -> None:
    """Otherwise the exception has become unnecessary, and must go."""
    for reason in {outcome.dcmtk_is_wrong for outcome in outcomes} - {""}:
        assert max(o.to_dcmtk for o in outcomes if o.dcmtk_is_wrong == reason) > ONE_STEP


def test_the_generator_is_seeded() -> None:
    first, second = (next(dicom.variants()) for _ in range(2))
    assert dicom.write(first) == dicom.write(second)
    assert known_deviation(first) == known_deviation(second)


@pytest.mark.data
@pytest.mark.parametrize("name", REAL)
def test_real_files(name: str, tmp_path: Path) -> None:
    path = DATA / "dicom" / name
    if not path.is_file():
        pytest.skip("there are no test radiographs; LLMCXR_TEST_DATA names their folder")
    data, dcmtk = path.read_bytes(), Dcmtk(tmp_path)
    files = [data] + [dcmtk.encode(data, syntax) for syntax in LOSSLESS if name in SMALL]
    for file in files:
        apart = np.abs(read_radiograph(file).pixels - dcmtk.show_file(file)).max() * 255
        assert apart <= ONE_STEP
