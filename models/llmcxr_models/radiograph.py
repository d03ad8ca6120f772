"""DICOM, PNG or JPEG bytes -> Radiograph: display values and the few attributes that we keep.

Knows nothing of models or sizes. The DICOM arithmetic lives in `dicom_pixels`.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from llmcxr_models.errors import InvalidRadiograph, UnsupportedMedia, UnsupportedRadiograph
from llmcxr_models.quiet import quiet_libraries

MAX_SIDE = 16_384
"""Rows or columns beyond this are refused before any pixel is decoded."""
MAX_PIXELS = 64_000_000
"""The largest detectors have about 25 megapixels."""
MIN_SIDE = 32
"""Smaller pictures hold no radiograph."""

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_JPEG_SIGNATURE = b"\xff\xd8\xff"


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
        view_position: DICOM View Position (0018,5101), empty where not stated.
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


def sniff(data: bytes) -> MediaType:
    """What `data` is.

    Raises:
        InvalidRadiograph: there are no bytes.
        UnsupportedMedia: none of the accepted signatures.
    """
    if not data:
        raise InvalidRadiograph("The body is empty.", reason="empty")
    if data.startswith(_PNG_SIGNATURE):
        return MediaType.PNG
    if data.startswith(_JPEG_SIGNATURE):
        return MediaType.JPEG
    if data[128:132] == b"DICM" or _looks_like_bare_dicom(data):
        return MediaType.DICOM
    raise UnsupportedMedia("The body is none of DICOM, PNG or JPEG.")


def read_radiograph(data: bytes, pipeline: Pipeline = Pipeline.DISPLAY) -> Radiograph:
    """Decode a file.

    Raises:
        InvalidRadiograph: damaged bytes, or no picture in them.
        UnsupportedMedia: neither DICOM, PNG nor JPEG.
        UnsupportedRadiograph: a sound file that is no single-frame radiograph of a chest.
    """
    media_type = sniff(data)
    if media_type is MediaType.DICOM:
        from llmcxr_models.dicom_pixels import read_dicom

        return read_dicom(data, pipeline)
    return _read_picture(data, media_type, pipeline)


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


def _looks_like_bare_dicom(data: bytes) -> bool:
    """A data set without preamble: its first element is of a low group, little endian."""
    return len(data) >= 132 and data[1:2] == b"\x00" and data[0:1] in {b"\x02", b"\x08"}


def _read_picture(data: bytes, media_type: MediaType, pipeline: Pipeline) -> Radiograph:
    try:
        with quiet_libraries():
            image = Image.open(io.BytesIO(data), formats=[media_type.name])
            check_size(image.height, image.width)
            if getattr(image, "n_frames", 1) > 1:
                raise UnsupportedRadiograph("The picture is animated.", reason="multi-frame")
            image.load()
    except UnsupportedRadiograph:
        raise
    except Image.DecompressionBombError as error:
        raise UnsupportedRadiograph("The picture is too large.", reason="too-large") from error
    except Exception as error:
        # Pillow raises OSError, SyntaxError, ValueError, struct.error ... for damaged files.
        raise InvalidRadiograph("The picture is damaged and cannot be decoded.") from error
    grey, notes = _to_grey(image)
    if pipeline is Pipeline.MIMIC:
        grey = equalise(np.rint(grey * 255.0).astype(np.uint8)).astype(np.float32) / 255.0
    return Radiograph(np.ascontiguousarray(grey, np.float32), media_type, warnings=notes)


def _to_grey(image: Image.Image) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Grey values in [0, 1] by the declared range of the file's mode."""
    if image.mode.startswith("I;16") or image.mode == "I":
        values = np.asarray(image).astype(np.float32) / 65535.0
        return np.clip(values, 0.0, 1.0), ()
    if image.mode == "L":
        return np.asarray(image).astype(np.float32) / 255.0, ()
    notes: tuple[str, ...] = ()
    if image.mode not in {"1", "LA"}:
        channels = np.asarray(image.convert("RGB")).astype(np.int16)
        if int(np.ptp(channels, axis=2).max()) > 16:
            notes = ("The picture is in colour; a radiograph is grey. It was converted.",)
    return np.asarray(image.convert("L")).astype(np.float32) / 255.0, notes
