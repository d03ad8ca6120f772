"""Radiograph: display values and the few attributes that we keep, whatever file they came in.

Knows nothing of files, models or the size that a model wants; `radiograph_file` reads bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from llmcxr_models.errors import UnsupportedRadiograph

MAX_SIDE = 16_384
"""Rows or columns beyond this are refused before any pixel is decoded."""
MAX_PIXELS = 64_000_000
"""The largest detectors have about 25 megapixels."""
MIN_SIDE = 32
"""Smaller pictures hold no radiograph."""


class MediaType(StrEnum):
    """What the bytes are, told by their signature and never by a file name."""

    DICOM = "application/dicom"
    PNG = "image/png"
    JPEG = "image/jpeg"


class Pipeline(StrEnum):
    """How stored values become display values.

    display  modality LUT, window or VOI LUT, declared output range (DICOM PS3.4 N.2)
    mimic    min-max, inversion, histogram equalisation: what MIMIC-CXR-JPG looks like
    """

    DISPLAY = "display"
    MIMIC = "mimic"


@dataclass(frozen=True)
class Radiograph:
    """One projection radiograph, ready to be scaled for a model.

    Attributes:
        pixels: (H, W) float32 in [0, 1]; 0 is black (as MONOCHROME2), square pixels.
        media_type: what the bytes were.
        modality: DICOM Modality (0008,0060), empty where not stated.
        view_position: DICOM View Position (0018,5101), empty where not stated; `LATERAL` where
            only other attributes say so.
        body_part: DICOM Body Part Examined (0018,0015), empty where not stated.
        warnings: doubts worth telling the reader of the answer, as sentences.
    """

    pixels: NDArray[np.float32]
    media_type: MediaType
    modality: str = ""
    view_position: str = ""
    body_part: str = ""
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.pixels.ndim != 2 or self.pixels.dtype != np.float32:
            raise ValueError("pixels must be a float32 array (H, W)")

    @property
    def is_lateral(self) -> bool:
        """Whether the header says that this is a lateral view."""
        return self.view_position.upper() in {"LL", "RL", "LATERAL", "LLD", "RLD", "LLO", "RLO"}


def check_size(rows: int, columns: int) -> None:
    """Refuse dimensions that no radiograph has, before pixels are decoded.

    Raises:
        UnsupportedRadiograph: too small, too large or too long.
    """
    if min(rows, columns) < MIN_SIDE:
        raise UnsupportedRadiograph(
            f"The picture is smaller than {MIN_SIDE} x {MIN_SIDE} pixels.", reason="too-small"
        )
    if max(rows, columns) > MAX_SIDE or rows * columns > MAX_PIXELS:
        raise UnsupportedRadiograph(
            f"The picture has more than {MAX_PIXELS // 1_000_000} megapixels"
            f" or a side over {MAX_SIDE} pixels.",
            reason="too-large",
        )


def equalise(levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Histogram equalisation of 8-bit values, as OpenCV's equalizeHist does it."""
    histogram = np.bincount(levels.ravel(), minlength=256)
    first = int(np.flatnonzero(histogram)[0])
    if histogram[first] == levels.size:
        return levels
    cumulative = np.cumsum(histogram) - histogram[first]
    table = np.rint(cumulative * (255.0 / (levels.size - histogram[first])))
    equalised: NDArray[np.uint8] = np.clip(table, 0, 255).astype(np.uint8)[levels]
    return equalised
